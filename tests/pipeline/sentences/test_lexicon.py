"""A sentence is read as the facts it asserts, and said again with one of them changed, in good English."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surd.pipeline.demo.world.prompts import narrative, truth
from surd.pipeline.demo.world.scenes import scene
from surd.pipeline.sentences.lexicon import read_lexicon
from surd.schemas import SurdError

LEXICON = read_lexicon(None)


def said(sentence):
    """(group, first form of the value) of every fact."""
    return [(fact.group, LEXICON.groups[fact.group].values[fact.value][0]) for fact in LEXICON.facts(sentence)]


def swapped(sentence, group, value, which=0):
    fact = [fact for fact in LEXICON.facts(sentence) if fact.group == group][which]
    forms = LEXICON.groups[group].values
    number = None if value is None else next(n for n, names in enumerate(forms) if value in names)
    return LEXICON.swap(sentence, fact, number)


def test_every_kind_of_fact_is_found_from_left_to_right():
    assert said("Two red cars on a blue background, in pixel art.") == [
        ("count", "two"), ("colour", "red"), ("subject", "car"), ("colour", "blue"), ("style", "in pixel art"),
    ]  # fmt: skip
    assert said("Someone juggling.") == [("count", "one"), ("action", "juggling")]
    assert said("A cat on top of an owl.") == [
        ("count", "one"), ("subject", "cat"), ("relation", "above"), ("count", "one"), ("subject", "owl"),
    ]  # fmt: skip


def test_the_longest_form_wins_and_hides_what_is_inside_it():
    assert said("A bus, on an old television with scanlines.")[-1] == ("style", "on an old television with scanlines")
    assert said("A person riding a horse.") == [("count", "one"), ("person", "person"), ("action", "riding a horse")]


def test_an_article_that_counts_nothing_known_is_no_fact():
    assert said("A picture of a thing on a background.") == []


@pytest.mark.parametrize(
    ("sentence", "group", "value", "becomes"),
    [
        ("Two red apples on a plain background.", "count", "one", "A red apple on a plain background."),
        ("An apple on a plain background.", "count", "three", "Three apples on a plain background."),
        ("There is a single fish here.", "count", "two", "There are two fish here."),
        ("There are five people running.", "count", "one", "There is a person running."),
        ("Someone running.", "count", "two", "Two people running."),
        ("Three people are running.", "count", "one", "A person is running."),
        ("A cat on a red background.", "subject", "owl", "An owl on a red background."),
        ("Two buses on a red background.", "subject", "cactus", "Two cacti on a red background."),
        ("A car on a red background.", "colour", "orange", "A car on an orange background."),
        ("A cat left of a dog.", "relation", "below", "A cat below a dog."),
        ("A cat, in pixel art.", "style", None, "A cat."),
        ("A cat, in pixel art.", "style", "out of focus", "A cat, out of focus."),
        ("A person skiing.", "action", "riding a horse", "A person riding a horse."),
    ],
)
def test_a_swapped_fact_reads_as_english(sentence, group, value, becomes):
    assert swapped(sentence, group, value) == becomes


def test_only_the_swapped_fact_changes():
    assert swapped("A cat left of a dog on a red background.", "subject", "owl", which=1) == (
        "A cat left of an owl on a red background."
    )
    assert swapped("There is a cat above a dog.", "count", "two", which=1) == "There is a cat above two dogs."


def test_a_style_can_be_added_where_none_is_said():
    assert LEXICON.added("A cat on a lawn.", "style", 3) == "A cat on a lawn, in pixel art."


@given(st.integers(0, 5000))
def test_swapping_a_fact_of_any_demo_sentence_changes_that_fact_alone(index):
    shown = scene(4711, index)
    sentence = narrative(shown, random.Random(index))
    for fact in LEXICON.facts(sentence):
        group = LEXICON.groups[fact.group]
        other = (fact.value + 1) % len(group.values)
        changed = LEXICON.swap(sentence, fact, other)
        if sentence[fact.start : fact.end].lower() == "someone":
            assert "wo people" in changed
            continue  # "someone" becomes "two people", and people are a fact of their own
        assert sum(a != b for a, b in zip(said(sentence), said(changed), strict=True)) == 1


@given(st.integers(0, 5000))
def test_every_fact_of_a_demo_sentence_is_found(index):
    shown = scene(4712, index)
    facts = truth(shown)
    found = said(narrative(shown, random.Random(index)))
    assert ("colour", facts["background"]) in found
    assert ("action", facts["action"]) in found if shown.action else ("subject", shown.subject) in found
    assert any(group == "style" for group, _ in found) == (shown.style != "none")


@given(st.text())
def test_no_text_breaks_it(text):
    for fact in LEXICON.facts(text):
        LEXICON.swap(text, fact, 0)


@pytest.mark.parametrize(
    ("yaml", "says"),
    [
        ("version: 1\ngroups: [", "line 2, column 10"),
        ("version: 2\ngroups: {}", "line 1, column 10: version is '2'"),
        ("version: 1\ngroups:\n  size:\n    kind: adjective\n    ask: '{}'\n    values: [a, b]",
         "line 4, column 11: size.kind is 'adjective'; give number, noun or phrase"),
        ("version: 1\ngroups:\n  size:\n    kind: phrase\n    ask: 'x'\n    values: [a, b]", "line 5, column 10"),
        ("version: 1\ngroups:\n  size:\n    kind: phrase\n    ask: '{}'\n    values: [big, Big]",
         "line 6, column 19: size has 'Big' twice"),
        ("version: 1\ngroups:\n  size:\n    kind: phrase\n    asks: '{}'\n    values: [a, b]", "no field 'asks'"),
        ("version: 1\ngroups:\n  size:\n    kind: phrase\n    ask: '{}'\n    values: [a, {b: 1}]", "line 6, column 17"),
        ("[]", "must be a mapping"),
        ("", "must be a mapping"),
    ],
)  # fmt: skip
def test_a_faulty_lexicon_is_reported_with_line_and_column(tmp_path, yaml, says):
    file = tmp_path / "mine.yaml"
    file.write_text(yaml)
    with pytest.raises(SurdError) as error:
        read_lexicon(str(file))
    assert says in str(error.value) and "mine.yaml" in str(error.value)


def test_a_missing_lexicon_is_named():
    with pytest.raises(SurdError, match=r"nowhere\.yaml.*cannot be read"):
        read_lexicon("nowhere.yaml")
