"""A workflow as the editor saves it gives what it would run: widgets by name, no comments, nodes that set and get."""

import time

import pytest

from surd.pipeline.metadata.comfyui import api_graph, read_graph
from surd.pipeline.metadata.comfyui.editor_node import without_comments
from tests.pipeline.comfy_graphs import BAD, CAR, FOX


def one(id: int, kind: str, links: dict | None = None, values: object = (), **more) -> dict:
    """A node of the editor; ``links``: input name -> link, or (link, type)."""
    sockets = [
        {"name": name} | ({"link": link[0], "type": link[1]} if isinstance(link, tuple) else {"link": link})
        for name, link in (links or {}).items()
    ]
    values = list(values) if isinstance(values, list | tuple) else values
    return {"id": id, "type": kind, "inputs": sockets, "widgets_values": values, "mode": 0, **more}


def workflow(*nodes: dict, links: tuple = (), **more) -> dict:
    """Texts 6 and 7 (encoders), sampler 3 and the saved picture, and other nodes and links."""
    given = {other["id"] for other in nodes}
    usual = [
        one(
            3,
            "KSampler",
            {"model": 10, "positive": 11, "negative": 12, "latent_image": 13},
            [1, "fixed", 20, 7, "euler"],
        ),
        one(5, "EmptyLatentImage", {}, [64, 64, 1]),
        one(6, "CLIPTextEncode", {"clip": None}, [FOX]),
        one(7, "CLIPTextEncode", {"clip": None}, [BAD]),
        one(8, "VAEDecode", {"samples": 16}),
        one(9, "SaveImage", {"images": 17}, ["ComfyUI"]),
    ]
    given_links = {link[0] for link in links}
    joined = [[11, 6, 0, 3, 1, "CONDITIONING"], [12, 7, 0, 3, 2, "CONDITIONING"], [13, 5, 0, 3, 3, "LATENT"],
              [16, 3, 0, 8, 0, "LATENT"], [17, 8, 0, 9, 0, "IMAGE"]]  # fmt: skip
    return {
        "nodes": [node for node in usual if node["id"] not in given] + list(nodes),
        "links": [link for link in joined if link[0] not in given_links] + [list(link) for link in links],
        "version": 0.4,
        **more,
    }


def prompts(drawn: dict) -> tuple:
    found = read_graph(api_graph(drawn))
    return found.prompt, found.negative_prompt


TEXT = {"text": (71, "STRING")}


@pytest.mark.parametrize(
    "nodes",
    [
        (one(6, "smZ CLIPTextEncode", {"clip": None}, [FOX, "A1111", True, False, 6, 1024, 1024, "", "", 1]),),
        (one(6, "CLIPTextEncodeSDXL", {}, [1024, 1024, 0, 0, 1024, 1024, FOX, FOX]),),
        (one(6, "CLIPTextEncodeLumina2", {}, ["superior", FOX]),),
        (one(6, "CLIPTextEncodeFlux", {}, [FOX, FOX, 3.5]),),
        (one(6, "CLIPTextEncode", {}, {"text": FOX}),),
        (one(6, "CLIPTextEncode", TEXT, [CAR]), one(20, "PrimitiveNode", {}, [FOX, "fixed"])),
        (one(6, "CLIPTextEncode", TEXT, [CAR]), one(20, "ShowText|pysssss", {"text": 72}, [[FOX]]),
         one(21, "OllamaGenerate", {}, ["a fox"])),
        (one(6, "CLIPTextEncode", TEXT, [CAR]),
         one(20, "ImpactWildcardProcessor", {}, ["a {red|blue} fox", FOX, "populate", 7, "fixed", "Select"])),
        (one(6, "CLIPTextEncode", TEXT, [CAR]), one(20, "CR Text Input Switch", {"text1": 73, "text2": 74}, [2]),
         one(22, "CR Text", {}, [CAR]), one(23, "CR Text", {}, [FOX])),
        (one(6, "CLIPTextEncode", TEXT, [CAR]), one(20, "Reroute", {"": 74}), one(23, "Text Multiline", {}, [FOX])),
    ],
)  # fmt: skip
def test_widgets_get_their_names_from_the_table(nodes):
    links = ((71, 20, 0, 6, 1, "STRING"), (72, 21, 0, 20, 0, "STRING"), (73, 22, 0, 20, 0, "STRING"),
             (74, 23, 0, 20, 1, "STRING"))  # fmt: skip
    assert prompts(workflow(*nodes, links=links)) == (FOX, BAD)


def test_widgets_that_the_file_names_need_no_table():
    named = [{"name": name, "widget": {"name": name}} for name in ("seed", "prompt")]
    drawn = one(6, "TextEncodeZImageOmni", values=[7, "randomize", FOX]) | {"inputs": named}
    assert api_graph(workflow(drawn))["6"]["inputs"] == {"seed": 7, "prompt": FOX}
    assert prompts(workflow(drawn)) == (FOX, BAD)


def test_a_class_outside_the_table_has_no_widgets_and_no_prompt():
    found = read_graph(api_graph(workflow(one(6, "Somebody's Encoder", {}, [FOX, "A1111"]))))
    assert found.prompt is None and "Somebody's Encoder" in found.reason


def test_values_without_names_in_a_listed_class_are_no_missing_text():
    nodes = (one(1, "easy a1111Loader", {}, ["dream.safetensors", "Baked VAE", FOX, BAD]),
             one(3, "easy kSampler", {"pipe": 30}, ["Save", 0, "ComfyUI"]))  # fmt: skip
    found = read_graph(api_graph({"nodes": list(nodes), "links": [[30, 1, 0, 3, 0, "PIPE_LINE"]]}))
    assert found.prompt is None and "easy a1111Loader (node 1)" in found.reason


def test_what_a_node_sets_under_a_name_another_one_gets():
    nodes = (one(6, "CLIPTextEncode", TEXT, [CAR]), one(60, "PrimitiveNode", {}, [FOX, "fixed"]),
             one(61, "SetNode", {"STRING": 70}, ["thePrompt"]), one(62, "GetNode", {}, ["thePrompt"]),
             one(63, "SetNode", {"STRING": 75}, ["another"]), one(64, "PrimitiveNode", {}, [CAR, "fixed"]))  # fmt: skip
    links = ((70, 60, 0, 61, 0, "STRING"), (71, 62, 0, 6, 1, "STRING"), (75, 64, 0, 63, 0, "STRING"))
    assert prompts(workflow(*nodes, links=links)) == (FOX, BAD)
    twice = (*nodes[:4], one(63, "SetNode", {"STRING": 75}, ["thePrompt"]), nodes[5])
    found = read_graph(api_graph(workflow(*twice, links=links)))
    assert found.prompt is None and "GetNode" in found.reason


def test_anything_that_is_broadcast_reaches_the_sockets_that_nothing_is_connected_to():
    sampler = one(3, "KSampler", {"model": None, "positive": None, "negative": None, "latent_image": 13}, [1, "fixed"])
    sent = [
        {"downstream": 3, "downstream_slot": slot, "upstream": origin, "upstream_slot": 0, "type": "CONDITIONING"}
        for slot, origin in ((1, "6"), (2, "7"))
    ]
    assert prompts(workflow(sampler, extra={"ue_links": sent})) == (FOX, BAD)


@pytest.mark.parametrize(("mode", "prompt"), [(0, f"{FOX}, {CAR}"), (2, FOX), (4, FOX)])
def test_a_muted_node_gives_nothing_and_a_bypassed_one_its_input_of_the_same_type(mode, prompt):
    combined = one(20, "ConditioningCombine", {"conditioning_1": 21, "conditioning_2": 22})
    second = one(23, "FluxGuidance", {"conditioning": (24, "CONDITIONING")}, [3.5])
    other = one(25, "CLIPTextEncode", {"clip": None}, [CAR], mode=0 if mode == 4 else mode)
    nodes = (combined, second, other)
    links = ((11, 20, 0, 3, 1, "CONDITIONING"), (21, 6, 0, 20, 0, "CONDITIONING"),
             (22, 23, 0, 20, 1, "CONDITIONING"), (24, 25, 0, 23, 0, "CONDITIONING"))  # fmt: skip
    if mode == 4:  # an encoder has no input of its output's type
        nodes = (combined, second, one(25, "CLIPTextEncode", {"clip": (26, "CLIP")}, [CAR], mode=4))
    assert prompts(workflow(*nodes, links=links)) == (prompt, BAD)


def test_a_bypassed_node_of_two_sides_passes_on_the_side_that_was_asked_for():
    control = one(20, "ControlNetApplyAdvanced", {"positive": (21, "CONDITIONING"), "negative": (22, "CONDITIONING"),
                                                  "image": (23, "IMAGE")}, [1.0], mode=4)  # fmt: skip
    links = ((11, 20, 0, 3, 1, "CONDITIONING"), (12, 20, 1, 3, 2, "CONDITIONING"), (21, 6, 0, 20, 0, "CONDITIONING"),
             (22, 7, 0, 20, 1, "CONDITIONING"))  # fmt: skip
    assert prompts(workflow(control, links=links)) == (FOX, BAD)


def test_a_muted_branch_leaves_the_other_one_to_a_switch():
    nodes = (one(6, "CLIPTextEncode", TEXT, [""]), one(20, "Any Switch (rgthree)", {"any_01": 72, "any_02": 73}),
             one(21, "CR Text", {}, [CAR], mode=2), one(22, "CR Text", {}, [FOX]))  # fmt: skip
    links = ((71, 20, 0, 6, 1, "STRING"), (72, 21, 0, 20, 0, "STRING"), (73, 22, 0, 20, 1, "STRING"))
    assert prompts(workflow(*nodes, links=links)) == (FOX, BAD)


@pytest.mark.parametrize(("mode", "prompt"), [(0, FOX), (2, None), (4, CAR)])
def test_a_subgraph_is_unfolded_unless_it_is_muted_or_bypassed(mode, prompt):
    inner = {
        "id": "a-subgraph",
        "nodes": [one(1, "CLIPTextEncode", {"text": 3}, [CAR])],
        "links": [{"id": 3, "origin_id": -10, "origin_slot": 0, "target_id": 1, "target_slot": 0, "type": "STRING"},
                  {"id": 2, "origin_id": 1, "origin_slot": 0, "target_id": -20, "target_slot": 0}],
    }  # fmt: skip
    outer = one(20, "a-subgraph", {}, [FOX], mode=mode)
    outer["inputs"] = [{"name": "text", "widget": {"name": "text"}, "link": None, "type": "STRING"},
                       {"name": "before", "link": 21, "type": "CONDITIONING"}]  # fmt: skip
    nodes = (outer, one(6, "CLIPTextEncode", {}, [CAR]))
    links = ((11, 20, 0, 3, 1, "CONDITIONING"), (21, 6, 0, 20, 1, "CONDITIONING"))
    drawn = workflow(*nodes, links=links, definitions={"subgraphs": [inner]})
    assert prompts(drawn) == (prompt, BAD)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a fox // try birch\n, pine trees /* old: a cat */", "a fox, pine trees"),
        ("/* all */ a fox", " a fox"),
        ("a fox, // one\n// two\nby night", "a fox,\nby night"),
        ("a /* b */ fox /* never closed", "a  fox /* never closed"),
        ("a fox / a cat * a dog", "a fox / a cat * a dog"),
        ("// nothing", ""),
        ("a fox\n", "a fox\n"),
    ],
)
def test_comments_are_taken_out_as_the_editor_does_it(text, left):
    assert without_comments(text) == left


def test_comments_are_taken_out_of_texts_that_an_encoder_reads_and_of_no_others():
    commented = f"{FOX} // and more"
    assert prompts(workflow(one(6, "CLIPTextEncode", {}, [commented]))) == (FOX, BAD)
    shown = (one(6, "CLIPTextEncode", TEXT, [""]), one(20, "PrimitiveStringMultiline", {}, [commented]))
    assert prompts(workflow(*shown, links=((71, 20, 0, 6, 1, "STRING"),))) == (commented, BAD)


@pytest.mark.parametrize("piece", ["/*", "//", "/* */", "// \n", " ", "*/", "/", "a\n//"])
def test_taking_out_comments_is_linear(piece):
    def seconds(times: int) -> float:
        started = time.process_time()
        without_comments(piece * times)
        return time.process_time() - started

    seconds(1_000)
    once, twice = (min(seconds(times) for _ in range(3)) for times in (20_000, 80_000))
    assert twice < 0.05 + 12 * once
