"""A sentence or a keyword prompt is read as the facts that it states, each with the characters that state it."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surd.pipeline.facts.parse import extract
from surd.schemas import SurdError
from surd.schemas.config import FactsConfig
from tests.fuzz import FUZZED


def facts(text):
    """kind, of, value, to of each fact that is not negated."""
    return {(f.kind, f.of, f.value, f.to) for f in extract([text])[0].facts if not f.negated}


def negated(text):
    return {(f.kind, f.of, f.value, f.to) for f in extract([text])[0].facts if f.negated}


STATED = {
    "Two brown dogs are chasing a red ball.": [
        "entity dogs", "count dogs Two", "attribute dogs brown", "action dogs chasing ball", "attribute ball red",
    ],
    "bench near trees": ["entity bench", "entity trees", "relation bench near trees"],
    "Red and white cars in front of a house": [
        "attribute cars Red", "attribute cars white", "relation cars in front of house",
    ],
    "A man reads a book while a woman sleeps.": ["action man reads book", "action woman sleeps"],
    "A bear surrounded by trees is being washed by a woman.": [
        "action bear surrounded by trees", "action bear washed by woman",
    ],
    "A woman with green eyes.": ["relation woman with eyes", "attribute eyes green"],
    "A red fire hydrant": ["entity fire hydrant", "attribute fire hydrant red"],
    "A spotted group of zebras": ["entity zebras", "attribute zebras spotted", "count zebras group"],
    "A dog standing next to a cat": ["action dog standing", "relation dog next to cat"],
    "a cat to the left of a dog": ["relation cat to the left of dog"],
    "There is a table with a lamp on it.": ["relation table with lamp", "relation lamp on table"],
    "The table is round and made of wood.": ["attribute table round"],
    "A shop with a sign that says 'open'": ["entity sign", "text sign open"],
    "A sign that reads stop": ["text sign stop"],
    "a watercolor painting of a fox": ["style fox watercolor painting", "entity fox"],
    "A boat in pixel art": ["style boat pixel art"],
    "1girl, white_dress, holding, 3apples, 8k, (sidelighting:1.2), masterpiece, apple x4": [
        "entity girl", "count girl 1", "attribute dress white", "action girl holding", "count apples 3",
        "style girl sidelighting", "count apple 4",
    ],
    "a black goat beside two white goats": ["relation black goat beside two white goats"],
}  # fmt: skip


@pytest.mark.parametrize("text", STATED)
def test_a_text_states_its_facts(text):
    stated = {" ".join(filter(None, fact)) for fact in facts(text)}
    assert stated >= set(STATED[text])


def test_praise_and_markup_are_no_facts():
    assert facts("masterpiece, best quality, 8k, <lora:detail:0.8>, absurdres") == set()


def test_what_is_said_to_be_absent_is_negated():
    assert ("entity", "people", "", None) in negated("A street with no people")
    assert ("relation", "man", "without", "hat") in negated("A man without a hat")
    assert ("entity", "hat", "", None) in negated("A man without a hat")
    assert ("action", "dog", "running", None) in negated("The dog is not running.")
    assert ("entity", "man", "", None) not in negated("A man without a hat")


TEXTS = st.one_of(
    st.text(max_size=120),
    st.lists(
        st.sampled_from(
            ["a", "cat", "left", "of", "the", "and", "no", "'", '"', ",", ".", "3dogs", "x2", "with", "in", "photo",
             "red", "(x:1.2)", "_", "🐈", "猫", "\n", "standing", "five", "of", "by", "is", "to", "next", "says", "-",
             "color", "-foot"]
        ),
        max_size=30,
    ).map(" ".join),
)  # fmt: skip


@pytest.mark.fuzz
@FUZZED
@given(TEXTS)
def test_any_text_is_read_and_every_value_stands_in_it(text):
    (sentence,) = extract([text])
    assert sentence.text == text
    for fact in sentence.facts:
        if fact.start >= 0:
            assert 0 <= fact.start < fact.end <= len(text)
            stated = text[fact.start : fact.end]
            assert fact.kind == "entity" or len(fact.value) == len(stated)
        if fact.of_start >= 0:
            assert len(text[fact.of_start : fact.of_end]) == fact.of_end - fact.of_start > 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "\x00\x1b[31m",
        "🐈🐈",
        "猫が机の上に座っている。",
        "Ein Hund läuft über die Straße.",
        "red",
        "of of of",
        "'" * 50,
    ],
)
def test_odd_texts_cost_nothing(text):
    assert extract([text])[0].text == text


def test_a_long_text_is_read_up_to_a_bound_and_says_so():
    (sentence,) = extract(["a cat on a mat and " * 500])
    assert sentence.cut
    assert max(fact.end for fact in sentence.facts) <= FactsConfig().max_chars
    assert not extract(["a cat"])[0].cut


def test_texts_keep_their_order_and_repeated_ones_are_equal():
    sentences = extract(["a cat", "two dogs", "a cat"])
    assert [sentence.text for sentence in sentences] == ["a cat", "two dogs", "a cat"]
    assert sentences[0] is sentences[2]


def test_a_parser_that_is_missing_or_cannot_parse_is_one_sentence(tmp_path):
    with pytest.raises(SurdError, match=r"facts\.parser is 'gone': it is not a spaCy pipeline"):
        extract(["a cat"], FactsConfig(parser="gone"))
    with pytest.raises(SurdError, match=r"facts\.parser"):
        extract(["a cat"], FactsConfig(parser=str(tmp_path)))
    (tmp_path / "meta.json").write_text("[1")
    with pytest.raises(SurdError, match=r"facts\.parser"):
        extract(["a cat"], FactsConfig(parser=str(tmp_path)))
    import spacy

    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(SurdError, match=r"it has no tagger and no parser"):
        extract(["a cat"], FactsConfig(parser=str(tmp_path / "blank")))


def test_the_help_of_surd_does_not_load_the_parser():
    program = (
        "import sys; sys.argv = ['surd', 'facts', '--help']\n"
        "from surd.flows.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('loaded', 'spacy' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "loaded False" in ran.stdout


SURD = [sys.executable, "-c", "from surd.flows.cli.start import main; main()", "facts"]


def run(*arguments, stdin=""):
    return subprocess.run([*SURD, *arguments], input=stdin, capture_output=True, text=True, check=False)


def test_the_command_prints_a_line_of_json_for_each_text_of_a_file():
    ran = run("--file", "-", stdin='a red cat\n\n{"text": "no dogs"}\n{cat|dog} on a mat\n')
    assert ran.returncode == 0, ran.stderr
    one, two, three = map(json.loads, ran.stdout.splitlines())
    assert one["text"] == "a red cat"
    assert {(f["kind"], f["of"], f["value"], f["to"]) for f in one["facts"]} == {
        ("entity", "cat", "", None), ("attribute", "cat", "red", None),
    }  # fmt: skip
    assert [(f["of"], f["negated"]) for f in two["facts"]] == [("no dogs", True)]
    assert three["text"] == "{cat|dog} on a mat"


def test_a_file_that_is_missing_is_one_sentence(tmp_path):
    ran = run("--file", str(tmp_path / "gone.txt"))
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: --file is ") and ran.stderr.count("\n") == 1
