"""The same said in other words: no fact changes, what no rule fits stays, and every key has its own wording."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surd.pipeline.demo.world.prompts import FirstChoice, narrative
from surd.pipeline.demo.world.scenes import scene
from surd.pipeline.sentences.lexicon import read_lexicon
from surd.pipeline.sentences.paraphrase import ParaphraseRules, read_paraphrase_rules
from surd.schemas import SurdError

LEXICON, SHIPPED = read_lexicon(None), read_paraphrase_rules(None)


def worded(sentence, tries=200, wordings=SHIPPED):
    return {wordings.paraphrase(sentence, LEXICON, random.Random(number)) for number in range(tries)}


def facts(sentence):
    """What it asserts; that someone is a person goes without saying."""
    return sorted((fact.group, fact.value) for fact in LEXICON.facts(sentence) if fact.group != "person")


def test_a_sentence_that_names_what_is_shown_gets_many_wordings():
    found = worded("Three red balloons on a blue background, in pixel art.", tries=2000)
    assert len(found) > 50
    assert {"There are", "A picture", "An image", "Three red"} == {" ".join(one.split()[:2]) for one in found}
    assert "A picture of three red balloons against a blue backdrop, made of big pixels." in found


def test_one_is_said_in_three_ways_and_a_person_is_someone():
    cats = {one.split(" on ")[0] for one in worded("A cat on a sofa.")}
    assert {"A cat", "One cat", "There is a single cat", "A picture of one cat"} <= cats
    assert any(one.startswith("There is someone rowing") for one in worded("A person rowing on a red background."))


@pytest.mark.parametrize(
    "sentence",
    [
        "Two dogs are playing on the beach.",
        "The man has a hat.",
        "Pikachu in the rain.",
        "There is a snail.",
        "It is raining.",
    ],
)
def test_what_is_more_than_a_name_is_put_into_no_frame(sentence):
    assert all(one.split()[:1] == sentence.split()[:1] for one in worded(sentence))
    assert not any("picture" in one or "image" in one for one in worded(sentence))


def test_a_sentence_ends_as_it_did():
    assert {one[-2:] for one in worded("Two cats!")} == {"s!"}


def test_no_wording_changes_a_fact():
    for index in range(60):
        sentence = narrative(scene(8200, index), FirstChoice())
        for one in worded(sentence, tries=10):
            assert facts(one) == facts(sentence), (sentence, one)


@given(st.text(max_size=60))
def test_whatever_a_sentence_is_it_comes_out_as_one(text):
    for seed in range(4):
        one = SHIPPED.paraphrase(text, LEXICON, random.Random(seed))
        assert one.endswith((".", "!", "?")) or not text.strip(" .")


def test_a_key_decides_the_wording():
    sentence = "A cat on a red background."
    first, again, other = (SHIPPED.paraphrase(sentence, LEXICON, random.Random(key)) for key in ("a", "a", "b"))
    assert first == again != other


def test_a_file_of_ones_own(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text('version: 1\nframes: ["behold, {}"]\n')
    assert worded("A cat on a sofa.", wordings=read_paraphrase_rules(str(file))) == {
        "Behold, a cat on a sofa.", "Behold, one cat on a sofa.", "Behold, a single cat on a sofa.",
    }  # fmt: skip
    assert worded("Two cats on a sofa.", wordings=ParaphraseRules(version=1)) == {"Two cats on a sofa."}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("version: 1\nframes: [a]\n", "line 2, column 9: frames: 'a' must hold {} once"),
        ("version: 1\nphrases: [['on {}', under]]\n", "line 2, column 10: phrases: ['on {}', 'under'] must be"),
        ("version: 1\nphrases: [[alone]]\n", "phrases: ['alone'] must be two phrases or more"),
        ("version: 1\nwords: []\n", "line 2, column 8: words"),
        ("version: 1\nforms: [nothing\n", "must be YAML"),
    ],
)
def test_a_broken_file_says_where(tmp_path, text, told):
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(SurdError) as error:
        read_paraphrase_rules(str(file))
    assert told in str(error.value) and "correct.wordings" in str(error.value) and "\n" not in str(error.value)
