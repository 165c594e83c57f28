"""Claims about scenes are as true as they say, evenly so, and end as questions."""

import random
from collections import defaultdict

import pytest

from surd.pipeline.demo.world.claims import GROUPS, claim, claim_of
from surd.pipeline.demo.world.scenes import BACKGROUNDS, RELATIONS, TINTS, Scene, scene
from surd.pipeline.facts.questions import question

CATS = Scene("count", "cat", 3, "blue", "sketch", 7)
CARS = Scene("count", "car", 2, "white", "none", 7, tint="red")
PAIR = Scene("relation", "owl", 1, "green", "none", 7, relation="left of", other="crab")
RIDER = Scene("action", "person", 1, "black", "neon", 7, action="riding a horse")


def questions(group, one, count=3000):
    """Question -> whether its answer is yes."""
    rng = random.Random(3)
    claims = [claim_of(group, one, rng, ("castle",)) for _ in range(count)]
    return {question(made.fact): made.true for made in claims}


@pytest.mark.parametrize(
    ("group", "one", "yes", "no"),
    [
        ("count", CATS, "Are there exactly three cats in the picture?", "Are there exactly four cats in the picture?"),
        ("count", CARS, "Are there exactly 2 cars in the picture?", "Are there exactly 3 cars in the picture?"),
        ("tint", CARS, "Are the cars red?", "Are the cars blue?"),
        ("background", CATS, "Is the background blue?", "Is the background purple?"),
        ("relation", PAIR, "Is the owl left of the crab?", "Is the owl right of the crab?"),
        ("relation", PAIR, "Is the crab right of the owl?", "Is the crab left of the owl?"),
        ("action", RIDER, "Is the person riding a horse?", "Is the person juggling?"),
        ("style", CATS, "Is the style of the picture pencil sketch?", "Is the style of the picture sepia?"),
        ("entity", RIDER, "Is there a horse in the picture?", "Is there a castle in the picture?"),
    ],
)
def test_a_claim_is_true_exactly_if_the_scene_shows_it(group, one, yes, no):
    asked = questions(group, one)
    assert asked[yes] is True and asked[no] is False


def test_no_question_about_a_scene_has_two_answers():
    for one in (CATS, CARS, PAIR, RIDER, *(scene(5, index) for index in range(40))):
        answers = defaultdict(set)
        rng = random.Random(1)
        for group in GROUPS:
            for _ in range(150):
                made = claim_of(group, one, rng, ("castle", "mountain"))
                answers[question(made.fact)].add(made.true)
        both = [text for text, truths in answers.items() if len(truths) > 1]
        assert not both, (one, both)


def test_claims_are_true_about_as_often_as_not_in_every_group():
    rng = random.Random(2)
    made = [claim(scene(6, index), rng, ("castle",)) for index in range(6000)]
    for group in GROUPS:
        some = [one.true for one in made if one.group == group]
        assert len(some) > 300 and 0.3 < sum(some) / len(some) < 0.65, group
    assert 0.42 < sum(one.true for one in made) / len(made) < 0.55


def test_what_is_false_is_mostly_near_the_truth():
    rng = random.Random(4)
    false = [one for one in (claim_of("relation", PAIR, rng) for _ in range(300)) if not one.true]
    assert sum({"owl", "crab"} <= set(question(one.fact).rstrip("?").split()) for one in false) > len(false) / 2
    numbers = [claim_of("count", CATS, rng) for _ in range(300)]
    beside = [one for one in numbers if not one.true and one.fact.value in ("two", "2", "four", "4")]
    assert len(beside) > sum(not one.true for one in numbers) / 3


def test_every_background_tint_and_relation_is_claimed():
    rng = random.Random(5)
    scenes = [scene(8, index) for index in range(3000)]
    said = [question(claim(one, rng).fact) for one in scenes]
    for colour in BACKGROUNDS:
        assert any(f"{colour} background" in text for text in said)
    assert all(any(f" {tint}?" in text for text in said) for tint in TINTS)
    assert all(any(relation in text for text in said) for relation in RELATIONS)
