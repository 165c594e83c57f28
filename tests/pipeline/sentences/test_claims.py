"""Facts of several texts about one picture: which say the same, and which exclude each other."""

import pytest

from surd.pipeline.facts.fact import Fact
from surd.pipeline.facts.parse import extract
from surd.pipeline.sentences.claims import agree, exclusive, fact_key, in_words, new_words, slot, stated


def fact(kind, of="", value="", to=None, **more):
    return Fact(kind=kind, of=of, value=value, to=to, **more)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (fact("entity", "red apples"), fact("entity", "apple")),
        (fact("count", "cats", "three"), fact("count", "cat", "3")),
        (fact("count", "cats", "a pair of"), fact("count", "cats", "pair of")),
        (fact("style", "cat", "drawn as a pencil sketch"), fact("style", "cat", "pencil sketch")),
        (fact("attribute", "dress", "plain white"), fact("attribute", "dress", "white")),
        (fact("relation", "cat", "on top of", "the box"), fact("relation", "cat", "top", "box")),
    ],
)
def test_the_same_in_other_words_agrees(one, other):
    assert agree(one, other) and agree(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (fact("entity", "apple"), fact("entity", "apple tree")),
        (fact("count", "cats", "three"), fact("count", "cats", "two")),
        (fact("count", "cats", "three"), fact("count", "dogs", "three")),
        (fact("relation", "cat", "left of", "dog"), fact("relation", "cat", "right of", "dog")),
        (fact("entity", "hat"), fact("entity", "hat", negated=True)),
        (fact("attribute", "dress", "white"), fact("entity", "dress")),
    ],
)
def test_what_says_something_else_does_not_agree(one, other):
    assert not agree(one, other) and not agree(other, one)


def test_counts_and_colours_of_one_thing_exclude_each_other():
    assert exclusive(fact("count", "cat", "two")) and not exclusive(fact("entity", "cat"))
    assert slot(fact("count", "cats", "two")) == slot(fact("count", "cat", "three"))
    red, big = fact("attribute", "car", "red", aspect="colour"), fact("attribute", "car", "big", aspect="size")
    assert slot(red) != slot(big) and fact_key(red) != fact_key(big)


def test_an_article_implies_a_count_of_one_and_a_number_says_it():
    (sentence,) = extract(["A cat and two dogs in front of a house on a green background."])
    counts = {(one.of, one.value): implied for one, implied in stated(sentence) if one.kind == "count"}
    assert counts == {("cat", "one"): True, ("dogs", "two"): False, ("house", "one"): True}


def test_what_lies_within_a_style_is_no_thing():
    (sentence,) = extract(["Three apples on a blue background, in pixel art."])
    assert {one.of for one, _ in stated(sentence) if one.kind == "entity"} == {"apples"}
    assert any(one.kind == "style" for one, _ in stated(sentence))


def test_a_count_is_said_in_words_and_what_a_text_has_already_is_not_new():
    assert in_words(fact("count", "cats", "3")).value == "three"
    assert in_words(fact("count", "cats", "300")).value == "300"
    assert not new_words(fact("style", "cat", "in pixel art"), "A cat as pixel art.")
    assert new_words(fact("style", "cat", "in neon"), "A cat as pixel art.")
