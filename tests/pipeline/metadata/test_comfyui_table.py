"""The table of ComfyUI nodes is well formed, and complete where it has to be."""

from collections import Counter

import pytest
from pydantic import ValidationError

from surd.pipeline.metadata.comfyui import computed
from surd.pipeline.metadata.comfyui.graph import Graph
from surd.pipeline.metadata.comfyui.table import FILES, KINDS, NodeGroup, node_table, numbered, read_groups
from tests.pipeline.tool_files import node

#: ComfyUI's own text encoders, of all its model families, with the inputs that hold the user's text.
ENCODERS = {
    "CLIPTextEncode": {"text"},
    "CLIPTextEncodeSDXL": {"text_g", "text_l"},
    "CLIPTextEncodeSDXLRefiner": {"text"},
    "CLIPTextEncodeSD3": {"clip_l", "clip_g", "t5xxl"},
    "CLIPTextEncodeFlux": {"clip_l", "t5xxl"},
    "CLIPTextEncodePixArtAlpha": {"text"},
    "CLIPTextEncodeHunyuanDiT": {"bert", "mt5xl"},
    "CLIPTextEncodeHiDream": {"clip_l", "clip_g", "t5xxl", "llama"},
    "CLIPTextEncodeLumina2": {"user_prompt"},
    "CLIPTextEncodeKandinsky5": {"clip_l", "qwen25_7b"},
    "TextEncodeHunyuanVideo_ImageToVideo": {"prompt"},
    "TextEncodeQwenImageEdit": {"prompt"},
    "TextEncodeQwenImageEditPlus": {"prompt"},
    "TextEncodeZImageOmni": {"prompt"},
    "TextEncodeAceStepAudio": {"tags", "lyrics"},
    "TextEncodeAceStepAudio1.5": {"tags", "lyrics"},
    "PhotoMakerEncode": {"text"},
}
GROUPS = [group for file in FILES for group in read_groups(file)]


def test_every_text_encoder_of_comfyui_is_listed_with_all_its_texts():
    assert {kind: set(node_table()[kind].out[0].encodes) for kind in ENCODERS} == ENCODERS


def test_no_class_is_listed_twice():
    listed = Counter(kind for group in GROUPS for kind in group.nodes)
    assert [kind for kind, times in listed.items() if times > 1] == []


def test_every_slot_hands_out_a_part_that_the_bundle_or_another_one_may_have():
    parts = {part for group in GROUPS for part in group.bundle}
    for group in GROUPS:
        named = {slot for slot in group.slots if slot not in (None, "self")}
        assert named <= (parts if group.over else set(group.bundle)), group.nodes
        assert group.slots == () or group.bundle or group.over, group.nodes


def test_every_sampler_gets_its_texts_from_inputs_or_from_a_bundle():
    for group in GROUPS:
        if group.samples is not None:
            assert "positive" in group.bundle or group.over, group.nodes


def test_rules_are_of_one_kind_and_functions_exist():
    rules = [rule for group in GROUPS for rule in (*group.out.values(), *group.bundle.values())]
    assert {rule.kind for rule in rules} | {"first_of", "merges"} == set(KINDS)
    for rule in rules:
        assert rule.computes is None or rule.computes in ("average", "mix") or hasattr(computed, rule.computes)
    for wrong in ({"passes": "a", "joins": ["b"]}, {}, {"chooses": {1: "a"}}, {"unheard": "of"}):
        with pytest.raises(ValidationError):
            NodeGroup.model_validate({"nodes": ["A"], "out": {0: wrong}})


def test_inputs_with_numbers_are_taken_in_the_order_of_the_numbers():
    assert numbered("text_{}", ["text_10", "text_2", "text_b", "text_", "atext_1"]) == ["text_2", "text_10"]


def test_a_class_outside_the_table_is_a_sampler_only_with_all_that_makes_one():
    links = {"positive": ["1", 0], "negative": ["2", 0], "latent_image": ["3", 0]}
    typed = links | {"positive": "a", "seed": 1}
    for inputs, is_sampler in ((links | {"steps": 3}, True), (links, False), (typed, False)):
        entry = Graph({"9": node("Somebody's", **inputs)}).nodes["9"].entry
        assert (entry is not None) == is_sampler
