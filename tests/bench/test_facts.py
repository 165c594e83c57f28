"""The judge of sentences finds every assertion, and calls exactly the false ones false."""

import random

import pytest

from surd.pipeline.demo.world.prompts import CLAUSES, FirstChoice, complex_prompt, narrative, truth
from surd.pipeline.demo.world.scenes import ATTRIBUTES, Scene, scene, variant
from tests.bench.facts import facts_of, is_true, judge, read_facts, stated

SEED, COUNT = 9101, 1500
CATS = Scene("count", "cat", 3, "blue", "none", 0)
CARS = Scene("count", "car", 2, "white", "comic", 0, tint="red")
RUNNER = Scene("action", "person", 1, "green", "sepia", 0, action="running")
PAIR = Scene("relation", "owl", 1, "yellow", "none", 0, relation="left of", other="key")


def said(sentence):
    return {(fact.group, fact.value) for fact in read_facts(sentence)}


def false(sentence, shown):
    return {one.fact.group for one in judge(sentence, truth(shown)) if not one.true}


def test_every_sentence_and_every_caption_of_a_scene_is_true_and_states_all_of_it():
    for index in range(COUNT):
        shown, rng = scene(SEED, index), random.Random(index)
        for sentence in (narrative(shown, rng), narrative(shown, FirstChoice())):
            assert is_true(sentence, truth(shown)), sentence
            assert stated(sentence, truth(shown)) == facts_of(truth(shown)), sentence


def test_every_keyword_prompt_of_a_scene_is_true():
    for index in range(COUNT):
        shown, rng = scene(SEED, index), random.Random(index)
        assert is_true(prompt := complex_prompt(shown, rng, markup=False), truth(shown)), prompt


def test_a_sentence_that_leaves_facts_out_asserts_nothing_false_and_does_not_state_them():
    for index in range(COUNT):
        shown, rng = scene(SEED, index), random.Random(index)
        clauses = [clause for clause in CLAUSES if rng.random() < 0.6]
        sentence = narrative(shown, rng, clauses)
        assert not false(sentence, shown), sentence
        left_out = {"background", "style", "tint"} - set(clauses)
        assert not stated(sentence, truth(shown)) & left_out, sentence


@pytest.mark.parametrize("attribute", ["subject", "count", "colour", "action", "relation", "style"])
def test_of_a_one_attribute_variant_exactly_that_fact_is_false(attribute):
    for index in range(COUNT):
        shown, rng = scene(SEED, index), random.Random(index)
        if attribute not in ATTRIBUTES[shown.kind]:
            continue
        other = variant(shown, attribute, rng)
        group = attribute if attribute != "colour" else "tint" if other.tint != shown.tint else "background"
        expected = set() if other.style == "none" != shown.style else {group}
        assert false(sentence := narrative(other, rng), shown) == expected, sentence
        unsaid = {group, "tint"} if group == "subject" else {group}  # the tint of another thing is no fact of this one
        assert stated(sentence, truth(shown)) == facts_of(truth(shown)) - unsaid, sentence


@pytest.mark.parametrize(
    ("sentence", "facts"),
    [
        ("Two vibrant, shiny cars", {("subject", "car"), ("count", "many")}),
        ("A pair of cats", {("subject", "cat"), ("count", 2)}),
        ("3cats on red.", {("subject", "cat"), ("count", 3), ("background", "red")}),
        ("cats x4", {("subject", "cat"), ("count", 4)}),
        ("A few balloons", {("subject", "balloon"), ("count", "many")}),
        ("The single owl", {("subject", "owl"), ("count", 1)}),
        ("apple, 8k, 4k", {("subject", "apple")}),
        ("A kitten and two puppies", {("subject", "cat"), ("subject", "dog"), ("count", 1), ("count", 2)}),
        ("No humans, one bus", {("subject", "bus"), ("count", 1)}),
        ("a bee over a solid yellow backdrop", {("subject", "bee"), ("count", 1), ("background", "yellow")}),
        ("The background is a plain light blue.", {("background", "blue")}),
        ("on a background of pale green", {("background", "green")}),
        ("fish against black", {("subject", "fish"), ("background", "black")}),
        ("A dancer", {("subject", "person"), ("count", 1), ("action", "dancing")}),
        ("Two people riding a bike", {("subject", "person"), ("count", 2), ("action", "cycling")}),
        ("two bicycles", {("subject", "bicycle"), ("count", 2)}),
        ("a man on a horse", {("subject", "person"), ("count", 1), ("action", "riding a horse")}),
        ("two books drawn like a comic book", {("subject", "book"), ("count", 2), ("style", "comic")}),
        ("an 8-bit rocket", {("subject", "rocket"), ("count", 1), ("style", "pixel art")}),
        ("a heart-shaped balloon", {("subject", "balloon"), ("count", 1)}),
        ("red and yellow caps", {("subject", "cap"), ("count", "many"), ("tint", "red"), ("tint", "yellow")}),
        ("A blue sky over green grass", set()),
        ("", set()),
    ],
)
def test_free_english_is_read(sentence, facts):
    assert said(sentence) == facts


@pytest.mark.parametrize(
    ("shown", "sentence", "wrong"),
    [
        (CATS, "Several kittens on blue.", set()),
        (CATS, "A cat.", {"count"}),
        (CATS, "Three orange cats.", set()),
        (CATS, "Three purple cats.", {"tint"}),
        (CATS, "Three cats as a pencil sketch.", {"style"}),
        (CATS, "Three cats dancing.", {"action"}),
        (CARS, "A couple of red cars, printed as a comic.", set()),
        (CARS, "Two red hats in front of a white backdrop.", {"subject"}),
        (RUNNER, "Someone jogging, in faded sepia tones.", set()),
        (RUNNER, "A woman running from two dogs.", {"subject", "count"}),
        (PAIR, "A key to the right of an owl.", set()),
        (PAIR, "An owl is shown to the left of a key.", set()),
        (PAIR, "A key left of an owl.", {"relation"}),
        (PAIR, "An owl under a key.", {"relation"}),
        (PAIR, "Two owls left of a key.", {"count"}),
        (PAIR, "two objects, an owl and a key", set()),
        (PAIR, "A cat left of a key.", {"subject"}),
    ],
)
def test_what_is_false_is_found_and_nothing_else(shown, sentence, wrong):
    assert false(sentence, shown) == wrong


def test_a_sentence_that_asserts_nothing_is_not_true():
    assert not is_true("A lovely picture, highly detailed.", truth(CATS))


def test_many_is_true_and_yet_states_no_count():
    assert stated("Cats on a blue background.", truth(CATS)) == {"subject", "background"}


def test_one_of_two_things_does_not_state_what_is_shown():
    assert "subject" not in stated("An owl on a yellow background.", truth(PAIR))
