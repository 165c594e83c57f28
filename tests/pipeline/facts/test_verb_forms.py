"""Verbs and nouns are put into the form that a sentence needs."""

import pytest

from surd.pipeline.facts.inflection import many, one_of
from surd.pipeline.facts.verb_forms import as_gerund, base, gerund, inflected

GERUNDS = {
    "run": "running", "sit": "sitting", "ride": "riding", "make": "making", "lie": "lying", "ski": "skiing",
    "carry": "carrying", "play": "playing", "eat": "eating", "watch": "watching", "juggle": "juggling",
    "smile": "smiling", "dance": "dancing", "fall": "falling", "pass": "passing", "meditate": "meditating",
    "visit": "visiting", "open": "opening", "sing": "singing", "change": "changing", "crawl": "crawling",
    "argue": "arguing", "close": "closing", "add": "adding", "lunge": "lunging", "create": "creating", "hike": "hiking",
}  # fmt: skip


@pytest.mark.parametrize(("verb", "form"), GERUNDS.items())
def test_a_base_and_its_present_participle_lead_to_each_other(verb, form):
    assert base(form) == verb
    assert gerund(verb) == form


@pytest.mark.parametrize(
    ("phrase", "tag", "expected"),
    [
        ("riding a horse", "VBZ", "rides a horse"),
        ("carrying", "VBZ", "carries"),
        ("watching", "VBP", "watch"),
        ("sitting", "VBD", "sat"),
        ("taking", "VBN", "taken"),
        ("stopping", "VBD", "stopped"),
        ("nothing", "VBG", "nothing"),
        ("thing", "VBZ", None),
        ("behind", "VBZ", None),
    ],
)
def test_a_deed_is_put_into_another_form(phrase, tag, expected):
    assert inflected(phrase, tag) == expected


@pytest.mark.parametrize(("word", "form"), [("rides", "riding"), ("held", "holding"), ("ran", "running"), ("is", None)])
def test_any_form_of_a_verb_leads_to_its_participle(word, form):
    assert as_gerund(word) == form


NOUNS = {
    "dog": "dogs", "bus": "buses", "wolf": "wolves", "cactus": "cacti", "person": "people", "fire truck": "fire trucks",
    "glass": "glasses", "snowman": "snowmen", "cherry": "cherries", "fish": "fish", "box of apples": "boxes of apples",
}  # fmt: skip


@pytest.mark.parametrize(("one", "more"), NOUNS.items())
def test_a_noun_and_its_plural_lead_to_each_other(one, more):
    assert many(one) == more
    if " of " not in one:
        assert one_of(more) == one
    assert one_of(one) in (one, None)


def test_what_is_not_counted_has_one_form():
    assert many("water") == "water"
    assert many("scissors") == "scissors"
    assert one_of("scissors") is None
