"""What a careless captioner makes of a scene: what it takes it for, and what it leaves out.

Which facts are taken for others, and which are left out, depends on the picture: a hash of two of its facts decides,
the same for every scene that shares them. So captions of one picture err together, as those of real captioners do.
"""

from __future__ import annotations

import random
import re
import zlib
from dataclasses import replace

from surd.pipeline.demo.world.prompts import NUMBERS, OPPOSITE, STYLE_PHRASES, FirstChoice, narrative, plural
from surd.pipeline.demo.world.scenes import ACTIONS, RELATIONS, SUBJECTS, TINTABLE, TINTS, Scene

#: Share of pairs of facts in which one is taken for another, and of those in which a fact is left out.
WRONG, LEFT_OUT = 0.12, 0.6
#: How often a picture is captioned as its hash says, and not with the truth (or, of what is left out, otherwise).
FAITHFUL = 0.88
#: Things, people's actions, colours and styles that look alike; the first ones of a list most.
ALIKE: dict[str, tuple[str, ...]] = {
    "cat": ("dog",), "dog": ("cat",), "fish": ("turtle", "octopus"), "turtle": ("frog", "snail"),
    "owl": ("penguin",), "elephant": ("dog",), "frog": ("turtle",), "bee": ("butterfly",), "octopus": ("crab",),
    "penguin": ("owl", "snowman"), "snail": ("turtle",), "crab": ("octopus",), "apple": ("strawberry",),
    "banana": ("lemon",), "strawberry": ("apple",), "lemon": ("banana",), "pineapple": ("cactus",),
    "watermelon": ("strawberry",), "grape": ("strawberry",), "bus": ("tractor",), "rocket": ("sailboat",),
    "bicycle": ("tractor",), "sailboat": ("rocket",), "tractor": ("bus", "car"), "guitar": ("key",),
    "key": ("guitar",), "clock": ("crown",), "crown": ("cap",), "mushroom": ("umbrella",), "cactus": ("pineapple",),
    "sunflower": ("bee", "lemon"), "pumpkin": ("apple",), "snowman": ("penguin",), "burger": ("pumpkin",),
    "car": ("cap",), "balloon": ("heart",), "heart": ("balloon", "star"), "star": ("heart",), "umbrella": ("cap",),
    "book": ("cap",), "cap": ("umbrella",), "butterfly": ("star",),
    "running": ("dancing",), "dancing": ("running",), "swimming": ("surfing",), "cycling": ("riding a horse",),
    "surfing": ("snowboarding",), "lifting weights": ("juggling",), "doing a cartwheel": ("dancing",),
    "meditating": ("sleeping",), "rowing": ("swimming",), "juggling": ("playing handball",),
    "riding a horse": ("cycling",), "playing golf": ("fencing",), "climbing": ("running",), "skiing": ("snowboarding",),
    "snowboarding": ("skiing", "surfing"), "fencing": ("playing golf",), "taking a bath": ("sleeping",),
    "sleeping": ("taking a bath",), "playing handball": ("juggling",),
    "red": ("orange", "purple"), "orange": ("yellow", "red"), "yellow": ("orange", "white"),
    "green": ("blue", "yellow"), "blue": ("purple", "green"), "purple": ("blue", "red"), "white": ("yellow",),
    "black": ("blue", "purple"),
    "sketch": ("comic",), "sepia": ("blur",), "neon": ("scanlines",), "pixel art": ("blur",), "blur": ("sepia",),
    "comic": ("sketch", "pixel art"), "scanlines": ("neon",),
}  # fmt: skip
TINT_ALIKE = {"red": "purple", "yellow": "green", "green": "blue", "blue": "purple", "purple": "blue"}


def _hit(share: float, *facts: object) -> bool:
    """Whether a pair of facts is among the share of all pairs."""
    return zlib.crc32(":".join(map(str, facts)).encode()) % 10_000 < share * 10_000


def misread(one: Scene, rng: random.Random, faithful: float = FAITHFUL) -> Scene:
    """The scene as the captioner takes it."""

    def wrong(name: str, *facts: object) -> bool:
        return _hit(WRONG, name, *facts) and rng.random() < faithful

    thing = one.action or one.subject
    other: dict[str, object] = {}
    if one.action:
        if wrong("action", one.action, one.background):
            other["action"] = ALIKE[one.action][0]
    elif wrong("subject", one.subject, one.background):
        alike = [name for name in ALIKE[one.subject] if name != one.other and (name in TINTABLE) == bool(one.tint)]
        other |= {"subject": alike[0]} if alike else {}
    if one.kind != "relation" and wrong("count", one.count, thing):
        highest = 3 if one.action else 5
        step = -1 if one.count == highest or (one.count > 1 and _hit(0.5, "fewer", one.count, thing)) else 1
        other["count"] = one.count + step
    if one.tint and wrong("tint", one.tint, one.background):
        other["tint"] = TINT_ALIKE[one.tint]
    if wrong("background", one.background, thing):
        other["background"] = ALIKE[one.background][0]
    if one.relation and wrong("relation", one.relation, one.subject):
        other["relation"] = OPPOSITE[one.relation]
    if one.style != "none" and wrong("style", one.style, one.background):
        other["style"] = ALIKE[one.style][0]
    return replace(one, **other)  # type: ignore[arg-type]


def clauses(one: Scene, rng: random.Random, faithful: float = FAITHFUL) -> tuple[str, ...]:
    """Which of the clauses of prompts.CLAUSES, and "relation", the caption states."""
    thing = one.action or one.subject
    pairs = {
        "count": (thing, one.background), "tint": (one.tint, one.subject), "background": (thing, one.style),
        "style": (one.style, thing), "relation": (one.subject, one.background),
    }  # fmt: skip
    stated = [
        name for name, pair in pairs.items() if _hit(LEFT_OUT, "left out", name, *pair) != (rng.random() < faithful)
    ]
    return ("what", *stated)


def careless_caption(one: Scene, rng: random.Random, faithful: float = FAITHFUL) -> str:
    """A short sentence that leaves facts out and takes some for others. At ``faithful`` 1 the picture alone decides."""
    taken, stated = misread(one, rng, faithful), clauses(one, rng, faithful)
    sentence = narrative(taken, FirstChoice(), stated)
    if taken.relation and "relation" not in stated:
        sentence = sentence.replace(f" {taken.relation} ", " and ")
    return sentence


def facts_stated(sentence: str) -> dict[str, object]:
    """The facts that a sentence in the words of `careless_caption` states, by the names of Scene's fields; a plural
    without a number states no count. Whatever else it says is not read."""
    text = f" {sentence.lower().rstrip('. ').replace(',', ' ,')} "
    facts: dict[str, object] = {}
    if ground := re.search(r" on an? (\w+) background ", text):
        facts["background"] = ground[1]
        text = text[: ground.start() + 1] + text[ground.end() - 1 :]
    for style, phrases in STYLE_PHRASES.items():
        if phrases[0] and f" {phrases[0]} " in text:
            facts["style"] = style
            text = text.split(" , ")[0] + " "
    relation = next((name for name in RELATIONS if f" {name} " in text), None)
    first, _, second = text.partition(f" {relation} " if relation else " and ")
    if relation:
        facts["relation"] = relation
    for name, part in (("subject", f"{first} "), ("other", f" {second}")):
        words = part.split()
        number = {"a": 1, "an": 1} | {word: count for count, word in enumerate(NUMBERS) if count}
        if words and words[0] in number and (name == "subject") and not second:
            facts["count"] = number[words[0]]
        if nouns := [one for one in SUBJECTS | TINTABLE if {one, plural(one, 2)} & set(words)]:
            facts[name] = nouns[0]
        if tints := [word for word in words if word in TINTS]:
            facts["tint"] = tints[0]
    if action := next((one for one in ACTIONS if f" {one} " in text), None):
        facts["action"] = action
    return facts


def judged(sentence: str, one: Scene) -> dict[str, tuple[int, int, int]]:
    """Field of Scene -> (1 if the scene has a fact there, 1 if the sentence states one, 1 if it states that one)."""
    facts = facts_stated(sentence)
    if facts.get("subject") == one.other and facts.get("other", one.subject) == one.subject and one.relation:
        facts |= {"subject": one.subject, "other": one.other}
        if "relation" in facts:
            facts["relation"] = OPPOSITE[str(facts["relation"])]
    shown: dict[str, object] = {"background": one.background, "tint": one.tint, "action": one.action}
    shown |= {"style": None if one.style == "none" else one.style, "relation": one.relation, "other": one.other}
    shown |= {"subject": None if one.action else one.subject, "count": None if one.relation else one.count}
    return {
        name: (int(value is not None), int(name in facts), int(name in facts and facts[name] == value))
        for name, value in shown.items()
    }
