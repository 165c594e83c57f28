"""An infotext is recognised by several known keys, in any order, on a line of their own or behind the prompt."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surd.pipeline.metadata.a1111 import parse_a1111
from surd.pipeline.metadata.reader import read_metadata
from surd.pipeline.metadata.resources import models_and_loras
from surd.pipeline.prompts.grammar import parse_prompt
from tests.fuzz import FUZZED
from tests.pipeline.image_bytes import png, text_chunk

VERSION_FIRST = "Version: aa62f6d, Pipeline: Original, Steps: 25, Seed: 7, Sampler: Euler a, CFG scale: 7, Model: dream"


@pytest.mark.parametrize(
    ("text", "prompt", "negative", "seed"),
    [
        (f"a fox, two crows\nNegative prompt: blurry\n{VERSION_FIRST}", "a fox, two crows", "blurry", "7"),
        (f"a fox, two crows\n{VERSION_FIRST}", "a fox, two crows", None, "7"),
        (f"a fox {VERSION_FIRST}", "a fox", None, "7"),
        ("a fox Negative prompt: blurry Steps: 25, Sampler: Euler a, Seed: 7", "a fox", "blurry", "7"),
        ("a fox\nSampler: Euler a, Seed: 7, Steps: 25", "a fox", None, "7"),
        ("a fox\nSteps: 20\nSampler: Euler\nSeed: 7\nCFG scale: 4", "a fox", None, "7"),
        ("a fox\nNote: mine, Kind: test, Steps: 20, Seed: 7", "a fox", None, "7"),
        ("a fox\nSteps: 20, Styles: oil, ink, Seed: 7, Size: 512x512\nTemplate: {a|b}", "a fox", None, "7"),
    ],
)
def test_parameters_are_read_in_any_order(text, prompt, negative, seed):
    infotext = parse_a1111(text, expected=False)
    assert (infotext.prompt, infotext.negative_prompt, infotext.params["Seed"]) == (prompt, negative, seed)
    assert parse_prompt(text).text == prompt


@pytest.mark.parametrize(
    "text",
    [
        "How to draw a fox. Steps: 1. a circle, 2. two ears",
        "Steps: 5 easy ways to draw a fox",
        "How to bake\nSteps: 3, Time: 20 min",
        "Model: Anna, Size: small, Version: summer",
        "A poster, it says Steps: 1, 2, 3 and Seed: 4",
        "A lecture on prompts\nNegative prompt: what it is",
        "a ladder with\nSteps: 3",
    ],
)
def test_prose_is_no_infotext(text):
    assert parse_a1111(text, expected=False) is None
    assert read_metadata(png(text_chunk("Description", text))) is None


def test_a_line_of_the_prompt_that_looks_like_a_parameter_stays_in_it():
    assert parse_a1111("a fox\nModel: Anna\nSteps: 3, Seed: 1, Size: 8x64").prompt == "a fox\nModel: Anna"
    assert parse_a1111("a fox\nSteps: 3, Model: a\nSeed: 1, Size: 64x64").params == {
        "Steps": "3", "Model": "a", "Seed": "1", "Size": "64x64",
    }  # fmt: skip


def test_where_only_infotext_is_written_one_parameter_is_enough():
    assert parse_a1111("a fox\nSteps: 3").prompt == "a fox"
    assert parse_a1111("a fox\nNegative prompt: b").negative_prompt == "b"
    assert parse_a1111("How to bake\nSteps: 3, then eat") is None


def test_sdnext_is_named_and_a_value_with_commas_stays_whole():
    found = read_metadata(png(text_chunk("parameters", f"a fox\n{VERSION_FIRST}, Styles: oil, ink, Size: 96x96")))
    assert (found.tool, found.models, found.params["Styles"]) == ("SD.Next", ["dream"], "oil, ink")


@pytest.mark.parametrize(
    ("hashes", "names"),
    [
        ("Fox Style, v2: 0a1b2c3d", ["Fox Style, v2"]),
        ("a: 0a1b2c3d, Fox Style, v2: e3b0c442, b: 98fc1c14", ["a", "Fox Style, v2", "b"]),
        ("a, b", ["a", "b"]),
    ],
)
def test_the_name_of_a_lora_may_have_commas(hashes, names):
    assert models_and_loras({"Lora hashes": hashes}, None) == ([], names)


def test_a_lora_with_a_comma_is_one_network_wherever_it_is_named():
    tagged = "a fox <lora:Fox Style, v2:0.8>, snow <lora:other, one>"
    assert models_and_loras({}, tagged)[1] == ["Fox Style, v2", "other, one"]
    prompt = parse_prompt(tagged)
    assert [network.name for network in prompt.networks] == ["Fox Style, v2", "other, one"]
    assert prompt.text == "a fox, snow"
    assert [network.name for network in parse_prompt("a fox, <lora:unclosed, snow").networks] == ["unclosed"]


pieces = st.sampled_from(
    ["Steps: 20", "Seed: 7", ", ", "\n", "Sampler: Euler a", "Size: 8x8", "Model: a, b", "Negative prompt:", '"', "{",
     "Lora hashes: ", "a: 0a1b2c3d", ":", "a fox", "Version: v1", "\r\n", "\0", "\ud800", "<lora:a, b:1>"]
)  # fmt: skip


@pytest.mark.fuzz
@FUZZED
@given(st.lists(pieces | st.text(max_size=4), max_size=20).map("".join), st.booleans())
def test_no_infotext_makes_it_raise(text, expected):
    infotext = parse_a1111(text, expected=expected)
    if infotext:
        models_and_loras(infotext.params, infotext.prompt)


@pytest.mark.parametrize(
    "unit",
    ["Steps: 1, ", "Steps: 1\n", "Seed: 1, a: [", "Model: a, ", "a: b, Steps: 2\n", "Steps: 1, Sampler: b\n",
     "Width: 9 x\nModel: ", " Model: a Steps: 1", " ", "Size: 9", "Negative prompt:", "Steps: 1 a: b, "],
)  # fmt: skip
def test_time_grows_with_length_only(unit):
    text = "Steps: 3, Seed: 1, " + (unit * 1_000_000)[:1_000_000]
    started = time.process_time()
    parse_a1111(text, expected=False)
    assert time.process_time() - started < 5  # half a second on an idle core


@pytest.mark.parametrize("separator", [", ", ": 0a1b2c3d, ", ",", ":"])
def test_names_of_loras_are_split_in_linear_time(separator):
    started = time.process_time()
    models_and_loras({"Lora hashes": ("a" + separator) * 200_000}, None)
    assert time.process_time() - started < 5
