"""The demo world is the same everywhere, and a variant differs in exactly one thing."""

import hashlib
import random
from dataclasses import asdict, replace

import pytest
from PIL import ImageChops

from surd.pipeline.demo.world.prompts import NUMBERS, complex_prompt, narrative, truth
from surd.pipeline.demo.world.render import render
from surd.pipeline.demo.world.scenes import ACTIONS, ATTRIBUTES, STYLES, SUBJECTS, TINTABLE, Scene, scene, variant
from surd.pipeline.demo.world.sprites import names

GOLDEN = "f127ddf13bea780fffe48b7d7a3eb8de25ed40438bbdd2f0474b327adc52a114"
#: The fields that may differ when an attribute does.
FIELDS = {
    "subject": {"subject"}, "count": {"count"}, "colour": {"background", "tint"}, "action": {"action"},
    "relation": {"relation"}, "style": {"style"},
}  # fmt: skip


def test_the_world_has_its_promised_size_and_a_sprite_for_each_thing():
    assert len(SUBJECTS) + len(TINTABLE) >= 30 and len(ACTIONS) >= 12
    drawn = set(names())
    assert {*SUBJECTS, *ACTIONS} <= drawn and all(f"red {name}" in drawn for name in TINTABLE)


def test_pictures_are_the_same_on_every_machine():
    digest = hashlib.sha256()
    for index, style in enumerate(STYLES):
        digest.update(render(replace(scene(7, index), style=style)).tobytes())
    for index in range(24):
        digest.update(render(scene(7, index)).tobytes())
    assert digest.hexdigest() == GOLDEN


def test_a_scene_is_addressed_by_its_index_alone():
    later = scene(3, 40)
    assert [scene(3, index) for index in range(41)][-1] == later
    assert scene(3, 0) != scene(4, 0)


@pytest.mark.parametrize("attribute", FIELDS)
def test_a_variant_changes_exactly_one_attribute_and_the_picture_shows_it(attribute):
    rng = random.Random(0)
    scenes = [one for index in range(120) if attribute in ATTRIBUTES[(one := scene(5, index)).kind]]
    for one in scenes:
        other = variant(one, attribute, rng)
        changed = {name for name, value in asdict(other).items() if value != getattr(one, name)}
        assert len(changed) == 1 and changed <= FIELDS[attribute]
        assert ImageChops.difference(render(one), render(other)).getbbox()


def test_an_attribute_a_scene_does_not_have_cannot_vary():
    counted = next(one for index in range(50) if (one := scene(5, index)).kind == "count")
    with pytest.raises(ValueError, match="no action"):
        variant(counted, "action", random.Random(0))


@pytest.mark.parametrize("style", STYLES[1:])
def test_every_style_visibly_changes_the_picture(style):
    plain = replace(scene(7, 1), style="none")
    difference = ImageChops.difference(render(plain), render(replace(plain, style=style))).convert("L")
    assert sum(difference.histogram()[16:]) > 0.05 * difference.width * difference.height


def test_both_prompts_state_the_facts():
    rng = random.Random(1)
    for index in range(200):
        shown = scene(9, index)
        sentence, keywords = narrative(shown, rng).lower(), complex_prompt(shown, rng, markup=False)
        for text in (sentence, keywords):
            assert shown.background in text
            assert shown.tint is None or f"{shown.tint} {shown.subject[:4]}" in text
            assert shown.other is None or shown.other in text
        assert shown.action is None or shown.action in sentence
        assert shown.relation or str(shown.count) in keywords or NUMBERS[shown.count] in keywords


def test_the_web_marks_up_its_prompts_and_the_plain_form_does_not():
    rng = random.Random(2)
    marked = [complex_prompt(scene(9, index), rng) for index in range(100)]
    bare = [complex_prompt(scene(9, index), rng, markup=False) for index in range(100)]
    assert sum("<lora:" in text for text in marked) > 20 and sum(":1." in text for text in marked) > 20
    assert not any(mark in text for text in bare for mark in "<>()[]")


def test_the_truth_says_every_fact_and_nothing_of_the_layout():
    shown = scene(9, 0)
    assert set(truth(shown)) == set(Scene.__dataclass_fields__) - {"layout"}
