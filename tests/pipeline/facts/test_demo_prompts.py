"""Whatever the demo world's prompts and sentences state is among the facts that are read from them."""

import random
import re

import pytest

from surd.pipeline.demo.world.prompts import ACTION_TAGS, NUMBERS, RELATION_WORDS, complex_prompt, narrative, plural
from surd.pipeline.demo.world.scenes import scene
from surd.pipeline.facts.parse import extract

SCENES = 300
STYLE_WORDS = {
    "sketch": "sketch|pencil", "sepia": "sepia", "neon": "neon", "pixel art": "pixel", "blur": "blur|focus",
    "comic": "comic", "scanlines": "scanlines|television|crt|vhs",
}  # fmt: skip
PEOPLE = {"person", "people", "someone"}


def stated(one, text, facts):
    """Name of each fact of the scene that the text states -> whether it is among the facts."""
    said = {(f.kind, f.of.lower(), f.value.lower(), (f.to or "").lower()) for f in facts}
    names = {one.subject, plural(one.subject, one.count)} if one.subject and not one.action else PEOPLE

    def has(kind, of=None, value=None, to=None):
        return any(
            k == kind and (of is None or o in of) and (value is None or re.search(value, v)) and (to is None or t in to)
            for k, o, v, t in said
        )

    answers = {"subject": has("entity", names)}
    number = rf"^(?:{NUMBERS[one.count]}|{one.count})$"
    if one.count > 1:
        answers["count"] = has("count", names, number)
    if one.tint:
        answers["tint"] = has("attribute", names, one.tint)
    answers["background"] = has("attribute", {"background", "backdrop"}, one.background)
    if one.action:
        phrases = " ".join([*ACTION_TAGS[one.action], one.action]).split()
        words = "|".join(
            re.escape(word) for word in phrases if len(word) > 4 or word in ("ski", "golf", "dance", "run")
        )
        answers["action"] = any(
            k in ("action", "entity", "attribute") and re.search(words, f"{v} {o} {t}") for k, o, v, t in said
        )
    if one.relation:
        pairs = [(one.subject, one.other, one.relation), (one.other, one.subject, None)]
        answers["relation"] = any(
            k == "relation" and (o, t) in [pair[:2] for pair in pairs] and v in sum(RELATION_WORDS.values(), ())
            for k, o, v, t in said
        )
    if one.style != "none":
        answers["style"] = any(k == "style" and re.search(STYLE_WORDS[one.style], v) for k, o, v, t in said)
    return answers


@pytest.mark.parametrize("write", [lambda one, rng: complex_prompt(one, rng, markup=False), narrative])
def test_the_demo_worlds_texts_are_read_fully(write):
    rng = random.Random(4)
    scenes = [scene(4242, index) for index in range(SCENES)]
    texts = [write(one, rng) for one in scenes]
    answers = {}
    for one, text, sentence in zip(scenes, texts, extract(texts), strict=True):
        for name, found in stated(one, text, sentence.facts).items():
            answers.setdefault(name, []).append((found, text))
    missed = {name: [text for found, text in pairs if not found] for name, pairs in answers.items()}
    shares = {name: 1 - len(missed[name]) / len(pairs) for name, pairs in answers.items()}
    assert all(share >= 0.97 for share in shares.values()), (
        shares,
        {name: texts[:5] for name, texts in missed.items()},
    )
