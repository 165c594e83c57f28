"""Prompts of NovelAI and InvokeAI keep their words and weights, and no other prompt is taken for one of theirs."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surd.pipeline.prompts.dialects import dialect_of, evident_dialect, to_common
from surd.pipeline.prompts.grammar import MAX_WEIGHT, MIN_WEIGHT, parse_prompt
from tests.fuzz import FUZZED


@pytest.mark.parametrize(
    ("text", "keywords", "weights", "negative"),
    [
        ("1.5::fox::, tree", ["fox", "tree"], [1.5, 1], []),
        ("1.5::fox, tree", ["fox", "tree"], [1.5, 1.5], []),
        ("snow, 1.5::red fox, tree::, sky", ["snow", "red fox", "tree", "sky"], [1, 1.5, 1.5, 1], []),
        ("1girl, -1::hat, coat::, .5::snow::", ["1girl", "snow"], [1, 0.5], ["hat", "coat"]),
        ("fox, 0::tree::, sky", ["fox", "sky"], [1, 1], []),
        ("1.5::{fox}, tree::, [[sky]]", ["fox", "tree", "sky"], [1.575, 1.5, 0.906], []),
        ("1.5::{fox, tree::, sky", ["fox", "tree", "sky"], [1.575, 1.575, 1], []),
        ("1.5::fox, 0.5::tree::, sky", ["fox", "tree", "sky"], [1.5, 0.5, 1], []),
        ("-1::{hat}::, fox", ["fox"], [1], ["hat"]),
        ("1.2::artist:jp06 ::, 2::year 2025::, fox", ["artist:jp06", "year 2025", "fox"], [1.2, 2, 1], []),
        ("saber (fate), (masterpiece), :), >_<", ["saber (fate)", "masterpiece", ":)", ">_<"], [1] * 4, []),
        ("2girls, source#hug | 1.2::girl::", ["2girls", "hug", "girl"], [1, 1, 1.2], []),
        ("fox} ::, ] tree", ["fox", "tree"], [1, 1], []),
    ],
)
def test_weights_of_novelai(text, keywords, weights, negative):
    prompt = parse_prompt(text, dialect="novelai")
    assert (list(prompt.keywords), list(prompt.negative)) == (keywords, negative)
    assert prompt.weights == pytest.approx(weights, abs=2e-3)
    assert not prompt.cut and not prompt.unresolved


@pytest.mark.parametrize("text", ["fox, {{tree", "saber (fa"])
def test_a_prompt_of_novelai_that_breaks_off_in_a_bracket_is_cut(text):
    assert parse_prompt(text, dialect="novelai").cut


def test_a_choice_of_novelai_is_unresolved():
    assert parse_prompt("||red|blue|| fox", dialect="novelai").unresolved


@pytest.mark.parametrize(
    ("text", "keywords", "weights"),
    [
        ("a red fox+++ in the snow", ["a red fox in the snow"], [1.055]),
        ("(fox)1.3, (trees)--, sky+, hill-", ["fox", "trees", "sky", "hill"], [1.3, 0.81, 1.1, 0.9]),
        ("(picking (apricots)1.3)1.1", ["picking apricots"], [1.281]),
        ('"a red fox"++, (plain)', ["a red fox", "plain"], [1.21, 1]),
        ('("a red fox", "a snowy forest").blend(0.7, 0.3)', ["a red fox", "a snowy forest"], [0.7, 0.3]),
        ('("a fox, alone", "a forest").and()', ["a fox", "alone", "a forest"], [1, 1, 1]),
        ('("a fox", trees (sky)1.5).blend(1, 1, no_normalize)', ["a fox", "trees sky"], [1, 1.18]),
        ("a cat.swap(dog) on a mat", ["a dog on a mat"], [1]),
        ('a ("fluffy cat").swap("old dog", s_start=0.3) eats', ["a old dog eats"], [1]),
        ("[old] (fox:1.3), [bird]", ["old fox", "bird"], [1, 1]),
        ("(fox).attend(1.3), tree.attend(--)", ["fox", "tree"], [1.3, 0.81]),
        (r"saber \(fate\)++, a\+", ["saber (fate)", "a+"], [1.11, 1]),
        ("a well-known fox - and a bird.", ["a well-known fox - and a bird"], [1]),
        ('a 5" tall fox', ['a 5" tall fox'], [1]),
    ],
)
def test_weights_of_compel(text, keywords, weights):
    prompt = parse_prompt(text, dialect="compel")
    assert list(prompt.keywords) == keywords
    assert prompt.weights == pytest.approx(weights, abs=0.01)


def test_loras_and_unwanted_parts_of_compel():
    prompt = parse_prompt('withLora(ink-style, 0.8) ("a fox", "a hat").blend(1, -0.5)', dialect="compel")
    assert (prompt.keywords, prompt.negative) == (("a fox",), ("a hat",))
    assert [(network.name, network.weight) for network in prompt.networks] == [("ink-style", 0.8)]


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        ("1.5::fox::, tree", "novelai"),
        ("tree, -1::hat::", "novelai"),
        ("a red fox+++ in the (snow)1.3, trees--, sky", "compel"),
        ('("a", "b").blend(0.7, 0.3)', "compel"),
        ("a cat on grass::2 sky::1 fog::-0.5", "common"),
        ("hot:: dog", "common"),
        ("apples 3::oranges", "common"),
        ("1.5::fox:: --ar 3:2", "common"),
        ("{0.5::red|1.5::blue} car", "common"),
        ("1.5::fox::, (tree:1.2)", "common"),
        ("(best quality:1.2), fox+++", "common"),
        ("a fox++ <lora:x:1>", "common"),
        ("a fox -- a bird, trees--, C++, 18+, A++, Notepad++", "common"),
        ("a fox (red). Next to it, 2 birds", "common"),
        ("[cat:dog:0.5], ((fox)), (bird)", "common"),
    ],
)
def test_a_text_shows_its_dialect_only_where_it_can_be_no_other(text, dialect):
    assert evident_dialect(text) == dialect


def test_the_tool_decides_before_the_text():
    assert dialect_of("NovelAI") == "novelai" and dialect_of("AUTOMATIC1111") == "common"
    assert dialect_of("InvokeAI") == "compel"
    flux = json.dumps({"model": {"base": "flux"}}, separators=(",", ":"))
    assert dialect_of("InvokeAI", flux) == "common"
    assert dialect_of("SD.Next", '{"Parser":"Compel parser"}') == "compel"
    assert dialect_of("SD.Next", '{"Parser":"Full parser"}') == dialect_of("SD.Next") == "common"
    assert dialect_of(None) is dialect_of("unknown") is None
    assert "1.5" in parse_prompt("1.5::fox::", dialect="common").text


fragments = st.sampled_from(
    ["1.5::", "-1::", "::", "{", "}", "[", "]", "(", ")", "(fox)1.3", "++", "--", '"', ".blend(0.7, 0.3)", ".swap(",
     ".attend(1.2)", ".and()", "withLora(a, 1)", "fox", "a red fox", ",", ", ", " ", "||a|b||", ":)", "\\", "0.5", "|",
     "\n", "BREAK", "<lora:a, b:1>", "#", "\x1b[31m", "\0", "\ud800", "source#"]
)  # fmt: skip


@pytest.mark.fuzz
@FUZZED
@given(
    st.lists(fragments | st.text(max_size=3), max_size=25).map("".join), st.sampled_from(["compel", "novelai", None])
)
def test_any_text_is_read_in_any_dialect(text, dialect):
    prompt = parse_prompt(text, dialect=dialect)
    assert len(prompt.keywords) == len(prompt.weights)
    assert all(MIN_WEIGHT <= weight <= MAX_WEIGHT for weight in prompt.weights)
    for keyword in prompt.keywords + prompt.negative:
        assert all(char.isprintable() or char in "\u200c\u200d" for char in keyword)


@pytest.mark.parametrize("dialect", ["compel", "novelai"])
@pytest.mark.parametrize(
    "unit",
    ["(", "{", "1.5::", "1.5::a", "((a)1.2", '"', '("a", ', "a.swap(", "+", "-", "a+", ")", "||a|b", "||a", "(a)++",
     ",", ".", "\\", "1", "a", " ", "withLora(", ").blend(", ").attend(", "aaa++b", ":", ")1.5", "a:1.2 "],
)  # fmt: skip
def test_translation_takes_linear_time(unit, dialect):
    def seconds(size):
        text = (unit * size)[:size]
        started = time.process_time()
        evident_dialect(text)
        to_common(text, dialect)
        return time.process_time() - started

    assert seconds(100_000) < 3  # a fifth of a second on an idle core; quadratic time would be minutes
