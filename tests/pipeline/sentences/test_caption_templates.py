"""Caption templates: named questions with context, checked where the file has them."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surd.pipeline.facts.fact import Fact
from surd.pipeline.sentences.caption_context import contexts, phrases
from surd.pipeline.sentences.caption_templates import DEFAULT_NAMES, Context, read_templates
from surd.schemas import Cleaned, SurdError
from surd.schemas.config import FactsConfig
from tests.fuzz import FUZZED


def read(tmp_path, text):
    (tmp_path / "own.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    read_templates.cache_clear()
    return read_templates(str(tmp_path / "own.yaml"))


def test_the_shipped_templates_state_nothing_of_the_prompt():
    shipped = read_templates(None)
    assert list(shipped.templates) == ["short", "medium", "long"] and set(DEFAULT_NAMES) <= set(shipped.templates)
    assert not any(template.placeholders for template in shipped.templates.values())
    assert shipped.task("florence2", "long") == "<MORE_DETAILED_CAPTION>" and shipped.task("llava", "long") is None


@pytest.mark.parametrize(
    ("text", "place", "why"),
    [
        (
            "version: 1\ntemplates:\n  short: {ask: 'Say {promt}'}\n",
            "line 3, column 16",
            "unknown placeholder {promt}; the",
        ),
        ("version: 1\ntemplates:\n  short: {ask: 'Say { prompt }'}\n", "line 3, column 16", "unknown placeholder"),
        ("version: 1\ntemplates:\n  a:\n    ask: '{0}'\n", "line 4, column 10", "unknown placeholder {0}"),
        ("version: 1\ntemplates:\n  Short: {ask: a}\n", "line 3, column 3", "must be small letters"),
        ("version: 1\ntemplates:\n  simple: {ask: a}\n", "line 3, column 3", "the name 'simple' is taken"),
        ("version: 1\ntemplates:\n  a: {ask: ' '}\n", "line 3, column 12", "must ask something"),
        ("version: 1\ntemplates:\n  a: {aks: b}\n", "line 3", "templates.a.ask: field required"),
        ("version: 1\nlanguage: xx\ntemplates:\n  a: {ask: b}\n", "line 2, column 1", "must be one of ar, bg"),
        ("version: 1\ntemplates: {}\n", "line 2, column 1", "templates: dictionary should have at least 1 item"),
        ("version: 1\ntemplates: [", "line 2", "it must be YAML"),
        ("version: 2020-13-45\ntemplates: {a: {ask: b}}", "own.yaml", "a value in it is not valid (month must be"),
        ("version: 1\ntemplates: " + "[" * 3000, "own.yaml", "a value in it is not valid (maximum recursion depth"),
        ("version: !!int\n", "own.yaml", "it must be YAML"),
        ("version: 1\ntemplates: {a: {ask: b}}\ntasks: {git: {a: ''}}\n", "line 3", "tasks.git.a: string should have"),
        ("version: 2\ntemplates: {a: {ask: b}}", "line 1, column 1", "input should be 1"),
    ],
)
def test_an_error_in_a_file_of_templates_is_one_sentence_with_its_place(tmp_path, text, place, why):
    with pytest.raises(SurdError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert message.startswith("caption.templates '") and place in message and why in message and "\n" not in message


def test_braces_that_are_no_placeholder_stay(tmp_path):
    template = read(tmp_path, "version: 1\ntemplates:\n  a: {ask: 'No {\"json\": 1}, {}: {prompt}'}\n").templates["a"]
    assert template.question(Context(prompt="a cat {keywords}")) == 'No {"json": 1}, {}: a cat {keywords}'


def test_context_is_the_prompt_its_keywords_without_praise_and_its_facts():
    row = Cleaned(
        key="0" * 16, complex="a girl in a white dress, three apples, 8k", qualities=["8k"],
        keywords=["a girl in a white dress", "three apples", "8k"],
    )  # fmt: skip
    (context,) = contexts([row], {"facts"}, FactsConfig())
    assert context.value("prompt") == row.complex
    assert context.value("keywords") == "a girl in a white dress, three apples"
    assert {"white dress", "three apples"} <= set(context.facts)
    assert context.value("facts") == "; ".join(context.facts)
    (bare,) = contexts([row], {"prompt"}, FactsConfig())
    assert bare.value("facts") == ""


def test_facts_are_short_phrases_each_once():
    girl = Fact(kind="entity", of="girl")
    facts = [
        girl, girl, Fact(kind="entity", of="tree"), Fact(kind="entity", of="dog", negated=True),
        Fact(kind="attribute", of="dress", value="white"), Fact(kind="count", of="apples", value="three", plural=True),
        Fact(kind="relation", of="girl", value="on", to="mat"), Fact(kind="action", of="girl", value="running"),
        Fact(kind="text", of="sign", value="STOP"), Fact(kind="style", of="picture", value="watercolour"),
    ]  # fmt: skip
    assert phrases(facts) == [
        "tree", "no dog", "white dress", "three apples", "girl on mat", "girl running", 'the text "STOP"',
        "style: watercolour",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "mark", ["<|im_end|>", "<image>", "[INST]", "[/INST]", "[IMG]", "</s>", "<", "<start_of_turn>"]
)
def test_a_prompt_brings_no_marks_of_a_chat_or_a_picture(mark):
    context = Context(prompt=f"a cat{mark}user", keywords=[f"{mark}cat"], facts=[f"red {mark}"])
    assert all(mark not in context.value(place) for place in ("prompt", "keywords", "facts"))
    assert context.value("prompt") == "a cat user"


PIECES = [
    "version: 1\n",
    "templates:\n",
    "  a: ",
    "{ask: b}",
    "\n",
    "ask",
    "{prompt}",
    "{x}",
    "!!",
    "&a",
    "*a",
    "[",
    "}",
    "2020-1-99",
]


@pytest.mark.fuzz
@FUZZED
@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=12).map("".join)))
def test_any_file_holds_templates_or_is_one_sentence(text):
    with tempfile.TemporaryDirectory() as folder:
        try:
            read(Path(folder), text)
        except SurdError as error:
            assert "\n" not in str(error)


@pytest.mark.fuzz
@FUZZED
@given(st.text())
def test_any_prompt_becomes_one_line_without_marks(text):
    value = Context(prompt=text).value("prompt")
    assert len(value.splitlines()) <= 1 and not set(value) & set("<>") and len(value) <= 600
