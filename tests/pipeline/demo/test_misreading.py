"""A careless caption is short and wrong in part, in a way that the picture decides."""

import random
from dataclasses import replace

from surd.pipeline.demo.world.misreading import careless_caption, clauses, facts_stated, judged, misread
from surd.pipeline.demo.world.prompts import FirstChoice, narrative, truth
from surd.pipeline.demo.world.scenes import scene
from tests.bench.truthfulness import tally

SCENES = [scene(12, index) for index in range(2000)]


def test_the_picture_decides_what_is_said_of_it():
    for one in SCENES[:50]:
        said = {careless_caption(replace(one, layout=seed), random.Random(seed), faithful=1) for seed in range(5)}
        assert len(said) == 1
    varied = {careless_caption(SCENES[0], random.Random(seed)) for seed in range(60)}
    assert len(varied) > 1, "what is sampled differs at times"


def test_about_nine_in_ten_stated_facts_are_true_and_half_of_all_are_stated():
    captions = [careless_caption(one, random.Random(0), faithful=1) for one in SCENES]
    told = tally((text, truth(one)) for text, one in zip(captions, SCENES, strict=True))
    assert 0.9 <= told["all"].precision <= 0.94
    assert 0.5 <= told["all"].recall <= 0.62
    for group in ("background", "style", "relation", "count"):
        assert 0.3 <= told[group].recall <= 0.68 and told[group].precision <= 0.97, group


def test_a_mistake_is_one_that_a_captioner_could_make():
    for one in SCENES:
        taken = misread(one, random.Random(0), faithful=1)
        assert abs(taken.count - one.count) <= 1 and taken.kind == one.kind and taken.layout == one.layout
        assert bool(taken.tint) == bool(one.tint) and (taken.style == "none") == (one.style == "none")
        assert taken.subject != taken.other


def test_each_clause_is_left_out_in_about_half_of_the_pictures():
    stated = [clauses(one, random.Random(0), faithful=1) for one in SCENES]
    for name in ("count", "background", "style", "relation"):
        assert 0.35 <= sum(name in some for some in stated) / len(SCENES) <= 0.6, name


def test_the_facts_of_a_sentence_are_read_back():
    for one in SCENES[:400]:
        counts = judged(narrative(one, FirstChoice()), one)
        assert all(shown == true and stated >= true for shown, stated, true in counts.values()), one
    facts = facts_stated("cats on a blue background , in pixel art.")
    assert facts == {"subject": "cat", "background": "blue", "style": "pixel art"}
    swapped = next(one for one in SCENES if one.relation == "left of")
    text = f"a {swapped.other} right of a {swapped.subject}."
    assert judged(text, swapped)["relation"] == (1, 1, 1)
