"""clean takes the syntax out of a web prompt and leaves its words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clean import parse_prompt


@pytest.mark.parametrize(
    ("text", "keywords", "weights"),
    [
        ("a cat, a dog", ["a cat", "a dog"], [1.0, 1.0]),
        ("(a cat:1.2), a dog", ["a cat", "a dog"], [1.2, 1.0]),
        ("((a cat))", ["a cat"], [1.21]),
        ("[a cat], {a dog}", ["a cat", "a dog"], [0.909, 1.1]),
        ("((a cat:1.5), a dog)", ["a cat", "a dog"], [1.65, 1.1]),
        ("(a cat, a dog:0.5)", ["a cat", "a dog"], [0.5, 0.5]),
        (r"saber \(fate\), sword", ["saber (fate)", "sword"], [1.0, 1.0]),
        ("long_hair, blue eyes", ["long hair", "blue eyes"], [1.0, 1.0]),
        ("a cat BREAK a dog AND a bird", ["a cat", "a dog", "a bird"], [1.0, 1.0, 1.0]),
        ("(a cat", ["a cat"], [1.1]),
        ("a cat)", ["a cat"], [1.0]),
        ("a cat.\n\n  a   dog,,", ["a cat", "a dog"], [1.0, 1.0]),
        ("<b>a cat</b> &amp; a dog", ["a cat & a dog"], [1.0]),
        ("ratio 16:9 photo", ["ratio 16:9 photo"], [1.0]),
    ],
)
def test_a_web_prompt_becomes_keywords_with_weights(text, keywords, weights):
    prompt = parse_prompt(text)
    assert prompt.keywords == keywords
    assert prompt.weights == pytest.approx(weights, abs=1e-3)


def test_lora_tags_leave_the_text_and_are_named():
    prompt = parse_prompt("a cat <lora:add_detail:0.8>, <lyco:paint:1>, <hypernet:old>")
    assert prompt.text == "a cat"
    assert prompt.loras == ["add_detail", "paint", "old"]


def test_a_long_prompt_is_cut_at_a_whole_keyword():
    prompt = parse_prompt(", ".join(f"word{i}" for i in range(50_000)), max_chars=100)
    assert len(prompt.text) <= 100
    assert prompt.keywords[-1] == f"word{len(prompt.keywords) - 1}"


@given(st.text(max_size=300) | st.text("()[]{}:,1.2<>\\ab ", max_size=60))
def test_any_text_parses_and_what_is_left_is_stable(text):
    prompt = parse_prompt(text)
    assert len(prompt.keywords) == len(prompt.weights)
    assert all(keyword == keyword.strip() and keyword for keyword in prompt.keywords)
    assert "\n" not in prompt.text


@given(st.lists(st.from_regex(r"[a-z]{2,8}( [a-z]{2,8}){0,2}", fullmatch=True), min_size=1, max_size=6))
def test_words_without_syntax_round_trip(words):
    words = [word for word in words if word not in ("AND", "BREAK")]
    assert parse_prompt(", ".join(words)).keywords == words
    assert parse_prompt(", ".join(f"({word}:1.3)" for word in words)).keywords == words
