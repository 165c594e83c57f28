"""The grammar of web prompts keeps their words and weights, takes out all syntax, and survives any text."""

import time
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from surd.pipeline.prompts.grammar import MAX_WEIGHT, MIN_WEIGHT, Network, Prompt, parse_prompt, render
from surd.pipeline.prompts.text import FACES

FRAGMENTS = (
    "a cat",
    "long_hair",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ":",
    ":1.2",
    ":0.5",
    "::2",
    "::-1",
    ",",
    ", ",
    "|",
    "\n",
    " ",
    "\\",
    "\\(",
    "\\)",
    "BREAK",
    " AND ",
    " ADDCOL ",
    " AND_PERP ",
    "<lora:a, b:1>",
    "<break>",
    "<lora:add_detail:0.8>",
    "<lora:x",
    "<hypernet:y>",
    "embedding:EasyNegative",
    "__color__",
    "{a|b}",
    "{2$$a|b}",
    "${x}",
    " --ar 16:9",
    " --no dog",
    " --tile",
    "Negative prompt: ",
    "Steps: 20, Sampler: Euler a",
    "&amp;",
    "&lt;b&gt;",
    "<b>",
    "</b>",
    "<script>",
    "</script>",
    "<!--",
    "-->",
    ">_<",
    ":d",
    "^_^",
    "<o>_<o>",
    ":)",
    "🐈",
    "👨‍👩‍👧",
    "猫",
    "，",
    "（",
    "\u200b",
    "\u200d",
    "\x07",
    "é",
    "e\u0301",
    "SAND",
    "_",
    "**",
    "1",
    "-1",
    ".",
    "'s",
    "-",
    "https://a.example/b",
)
messy = st.lists(st.sampled_from(FRAGMENTS), max_size=25).map("".join)
anything = st.text(max_size=200) | messy | st.text("()[]{}:,|1.2<>\\&;_-ab$ \n", max_size=60)


@pytest.mark.parametrize(
    ("text", "keywords", "weights"),
    [
        ("a cat, a dog", ["a cat", "a dog"], [1, 1]),
        ("(a cat:1.2), a dog", ["a cat", "a dog"], [1.2, 1]),
        ("((a cat))", ["a cat"], [1.21]),
        ("[a cat], {a dog}", ["a cat", "a dog"], [0.909, 1.1]),
        ("((a cat:1.5), a dog)", ["a cat", "a dog"], [1.65, 1.1]),
        ("(a cat, a dog:0.5)", ["a cat", "a dog"], [0.5, 0.5]),
        ("(a cat : 1.4 )", ["a cat"], [1.4]),
        ("(cat)(dog), [bird] (fish)", ["cat", "dog", "bird", "fish"], [1.1, 1.1, 0.909, 1.1]),
        ("a cat with (blue eyes:2) here", ["a cat with blue eyes here"], [1.4]),
        ("a (cat:3)'s hat", ["a cat's hat"], [1.667]),
        (r"saber \(fate\), sword", ["saber (fate)", "sword"], [1, 1]),
        ("(a cat", ["a cat"], [1.1]),
        ("a cat)", ["a cat"], [1]),
        ("(rim lighting):1.2, warm", ["rim lighting", "warm"], [1.1, 1]),
        ("(a cat:100000), (dog:0.000001)", ["a cat", "dog"], [MAX_WEIGHT, MIN_WEIGHT]),
        ("(a cat:0), a dog", ["a dog"], [1]),
        ("ratio 16:9 photo", ["ratio 16:9 photo"], [1]),
        ("long_hair, blue eyes, score_9_up", ["long hair", "blue eyes", "score 9 up"], [1, 1, 1]),
        ("a cat.\n\n  a   dog,,", ["a cat", "a dog"], [1, 1]),
        ("a dog\\na cat", ["a dog", "a cat"], [1, 1]),
    ],
)
def test_attention_weights_multiply(text, keywords, weights):
    prompt = parse_prompt(text)
    assert list(prompt.keywords) == keywords
    assert prompt.weights == pytest.approx(weights, abs=1e-3)


@pytest.mark.parametrize(
    ("text", "keywords"),
    [
        ("[a cat:a dog:0.3]", ["a dog"]),
        ("[a cat:a dog:0.5]", ["a dog"]),
        ("[a cat:a dog:0.7], grass", ["a cat", "grass"]),
        ("[a cat:a dog:16]", ["a cat"]),
        ("[a cat:(a dog:1.3):4]", ["a dog"]),
        ("[a cat::0.5], [a dog:0.2]", ["a cat", "a dog"]),
        ("[[a cat:a dog:0.9]:a bird:0.8]", ["a cat"]),
        ("[cow|horse] in a field", ["cow", "horse in a field"]),
    ],
)
def test_of_an_edited_prompt_the_words_that_acted_longer_stay(text, keywords):
    prompt = parse_prompt(text)
    assert list(prompt.keywords) == keywords


def test_break_and_and_part_a_prompt_but_not_a_text_in_capitals():
    assert parse_prompt("a cat BREAK a dog AND a bird").keywords == ("a cat", "a dog", "a bird")
    prompt = parse_prompt("a cat :1.2 AND a dog:0.8 AND a bird")
    assert (prompt.keywords, prompt.weights) == (("a cat", "a dog", "a bird"), (1.2, 0.8, 1.0))
    assert parse_prompt("a sign SAND AND SEA, break and enter").keywords == ("a sign SAND AND SEA", "break and enter")


@pytest.mark.parametrize(
    "word",
    ["ADDCOMM", "ADDBASE", "ADDCOL", "ADDROW", "ADDP", "AND_PERP", "<break>", "<region:0,0,1,1>", "MASK(0 0.5, 0 1)"],
)
def test_regions_part_a_prompt_and_are_no_words(word):
    assert parse_prompt(f"a town {word} blue sky {word}\na desk, A LAMP {word} A BED").keywords == (
        "a town", "blue sky", "a desk", "A LAMP", "A BED",
    )  # fmt: skip


def test_networks_leave_the_text_and_are_named():
    prompt = parse_prompt(
        "a cat <lora:add_detail:0.8>, <lyco:paint:1:lbw=1,0,1>, <hypernet:old> "
        "(embedding:EasyNeg.pt:1.2), <cat-toy> &lt;lora:x:1&gt;"
    )
    assert prompt.text == "a cat"
    assert prompt.networks == (
        Network(kind="lora", name="add_detail", weight=0.8),
        Network(kind="lyco", name="paint", weight=1.0),
        Network(kind="hypernet", name="old"),
        Network(kind="embedding", name="EasyNeg"),
        Network(kind="embedding", name="cat-toy"),
        Network(kind="lora", name="x", weight=1.0),
    )


@pytest.mark.parametrize(
    "text",
    ["__color__ cat", "{red|blue} cat", "{2$$a|b}", "${animal}", "{a, {b|c}}", "a photo of {prompt}", "<wildcard:x>"],
)
def test_what_no_one_filled_in_is_unresolved(text):
    assert parse_prompt(text).unresolved


@pytest.mark.parametrize("text", ["{{masterpiece}}, long_hair", "x__x", "a_b__c_d", "[a|b]", "(a|b)", "@__@, ^_^"])
def test_emphasis_tags_and_alternation_are_no_templates(text):
    assert not parse_prompt(text).unresolved


@pytest.mark.parametrize("face", sorted(FACES))
def test_faces_of_danbooru_are_words(face):
    assert parse_prompt(f"1girl, {face}, smile").keywords == ("1girl", face, "smile")


def test_midjourney_flags_and_weights():
    prompt = parse_prompt("a cat on grass::2 sky::1 fog::-0.5 --ar 16:9 --v 5.2 --no dogs, red birds --tile —s 250")
    assert (prompt.keywords, prompt.weights) == (("a cat on grass", "sky"), (2.0, 1.0))
    assert prompt.flags == (("ar", "16:9"), ("v", "5.2"), ("tile", ""), ("s", "250"))
    assert prompt.negative == ("dogs", "red birds", "fog")
    assert parse_prompt("a well-known cat - or a dog -- maybe").keywords == ("a well-known cat - or a dog -- maybe",)


def test_a_fused_negative_prompt_and_infotext_are_not_wanted():
    text = "a cat, (dog:-1) Negative prompt: ugly, (bad hands:1.3)\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1"
    prompt = parse_prompt(text)
    assert (prompt.keywords, prompt.negative) == (("a cat",), ("dog", "ugly", "bad hands"))
    assert parse_prompt("Prompt: a cat, steps: a stair").keywords == ("a cat", "steps: a stair")


def test_markup_goes_with_what_it_hides():
    text = "<p class='x'>a <b>red</b> cat</p><script>alert('a dog')</script>, <!-- a bird -->"
    text += "grass &amp;amp; sky&lt;br&gt;<style>p{}"
    assert parse_prompt(text).keywords == ("a red cat", "grass & sky")


def test_what_cannot_be_seen_goes_and_what_draws_stays():
    prompt = parse_prompt("a\u200bb c\x07d\ufeff, 👨‍👩‍👧 family, 猫，犬, （a cat：1.2）, cafe\u0301")
    assert prompt.keywords == ("ab c d", "👨‍👩‍👧 family", "猫", "犬", "a cat", "caf\u00e9")
    assert prompt.weights[-2] == 1.2


@pytest.mark.parametrize("text", ["a cat, (a do", "a cat, <lora:add_det", "(a cat:1.", "a cat with", "[[a", "a cat -"])
def test_a_text_that_breaks_off_is_cut(text):
    assert parse_prompt(text).cut


@pytest.mark.parametrize("text", ["a cat", "a cat,", "(a cat:1.2)", "a cat.", "a cat :d", "((a)))", "a cat\n"])
def test_a_whole_text_is_not_cut(text):
    assert not parse_prompt(text).cut


def test_a_long_prompt_is_cut_at_a_whole_keyword_else_at_a_whole_word():
    prompt = parse_prompt(", ".join(f"word{i}" for i in range(50_000)), max_chars=100)
    assert len(prompt.text) <= 100 and prompt.cut
    assert prompt.keywords[-1] == f"word{len(prompt.keywords) - 1}"
    prompt = parse_prompt("a cat and " * 10_000, max_chars=100)
    assert prompt.cut and prompt.text.startswith("a cat and a cat") and 90 < len(prompt.text) <= 100


@given(anything)
@example("BREAK_<")
@example("\\_AND_<")
@settings(max_examples=400, deadline=None)
def test_any_text_parses_and_renders_to_what_parses_the_same(text):
    prompt = parse_prompt(text)
    again = parse_prompt(render(prompt), dialect="common")
    assert replace(again, unresolved=(), cut=False) == replace(prompt, unresolved=(), cut=False)


@given(anything)
@settings(max_examples=400, deadline=None)
def test_weights_are_sane_and_no_markup_is_left(text):
    prompt = parse_prompt(text)
    assert len(prompt.keywords) == len(prompt.weights)
    assert all(MIN_WEIGHT <= weight <= MAX_WEIGHT for weight in prompt.weights)
    for keyword in prompt.keywords + prompt.negative:
        assert keyword == " ".join(keyword.split()) != ""
        assert keyword in FACES or not any(
            mark in keyword.lower() for mark in ("<script", "<b>", "<lora:", "&amp;", "&lt;")
        )
        assert all(char.isprintable() or char in "\u200c\u200d" for char in keyword)
        keyword.encode("utf-8")


words = st.from_regex(r"[a-z]{2,8}( [a-z0-9]{2,8}){0,2}", fullmatch=True)
literal = st.text("ab ()[]{}:<>|;&_-", min_size=1, max_size=12).map(
    lambda text: parse_prompt("\\".join(["", *text])).text
)
weight = st.integers(10, 10_000).map(lambda thousandths: thousandths / 1000)


@given(
    st.lists(st.tuples(words | literal.filter(bool), weight), min_size=1, max_size=6),
    st.lists(
        st.builds(
            Network,
            kind=st.sampled_from(["lora", "lyco", "hypernet", "embedding"]),
            name=words,
            weight=st.none() | weight,
        ),
        max_size=3,
    ),
    st.lists(words, max_size=3),
)
@settings(max_examples=200, deadline=None)
def test_a_prompt_made_of_parts_round_trips(keywords, networks, negative):
    prompt = Prompt(
        keywords=tuple(word for word, _ in keywords),
        weights=tuple(weight for _, weight in keywords),
        networks=tuple(networks),
        negative=tuple(negative),
        flags=(("ar", "16:9"), ("tile", "")),
    )
    again = parse_prompt(render(prompt), dialect="common")
    assert replace(again, cut=False, weights=()) == replace(prompt, weights=())
    assert again.weights == pytest.approx(prompt.weights, abs=1e-3)


@pytest.mark.parametrize(
    "unit",
    [
        "(",
        "[",
        "{",
        "(a",
        "[a:",
        "{a|",
        "{ ",
        "/__a",
        ":.1",
        "[a:b:0.5]",
        "<",
        "<script ",
        "<!--",
        "<lora:",
        "&amp;",
        "&",
        ":",
        ":1.2",
        "::",
        "\\",
        " ",
        "_",
        "__a",
        " --no ",
        " --ar",
        "AND ",
        "a, ",
        "a",
        "Steps: 2",
        "negative prompt:",
        "\u200d",
        "*",
        " :1",
        ">_<",
    ],
)
def test_time_grows_with_length_only(unit):
    def seconds(size):
        started = time.process_time()
        parse_prompt((unit * size)[:size])
        return time.process_time() - started

    assert seconds(100_000) < 5  # a quarter of a second on an idle core; quadratic time would be minutes


def test_deep_nesting_is_no_recursion():
    prompt = parse_prompt("(" * 20_000 + "a cat" + ")" * 20_000)
    assert (prompt.keywords, prompt.weights) == (("a cat",), (MAX_WEIGHT,))
