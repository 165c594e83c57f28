"""Facts claimed about a scene, true and false ones, in the words in which texts about such scenes state them."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from surd.pipeline.demo.world.claim_words import (
    ACTION_FORMS,
    COLOUR_FORMS,
    GENERIC,
    NEUTRAL,
    NUMBER_FORMS,
    OTHER_COLOURS,
    OTHER_RELATIONS,
    OWN_COLOURS,
    RELATION_FORMS,
    SHOWN_BY,
    STYLE_CLAIMS,
    UNCERTAIN,
    Form,
    Noun,
    forms_of,
)
from surd.pipeline.demo.world.prompts import OPPOSITE
from surd.pipeline.demo.world.scenes import ACTIONS, BACKGROUNDS, RELATIONS, STYLES, SUBJECTS, TINTABLE, TINTS, Scene
from surd.pipeline.facts.fact import Fact

Group = Literal["entity", "count", "tint", "background", "action", "relation", "style"]
GROUPS: tuple[Group, ...] = get_args(Group)


@dataclass(frozen=True)
class Claim:
    """A fact as a text would state it, whether the scene bears it out, and which group it is of."""

    fact: Fact
    true: bool
    group: Group


def claim(one: Scene, rng: random.Random, absent: Collection[str] = ()) -> Claim:
    """A claim about the scene, true in about half of the cases. ``absent``: nouns of things that no scene shows."""
    group = rng.choices(GROUPS, _WEIGHTS["tinted" if one.tint else one.kind])[0]
    return claim_of(group, one, rng, absent)


def claim_of(group: Group, one: Scene, rng: random.Random, absent: Collection[str] = ()) -> Claim:
    """A claim of one group, see `claim`; of a group that the scene has no fact of, it is false."""
    true = rng.random() < 0.5
    fact, true = _entity(one, rng, true, absent) if group == "entity" else _MAKERS[group](one, rng, true)
    return Claim(fact, true, group)


#: How often claims of each group of GROUPS are made about scenes of each kind.
_WEIGHTS = {
    "count": (16, 22, 5, 28, 3, 4, 14),
    "tinted": (14, 18, 26, 24, 3, 4, 11),
    "action": (14, 8, 3, 22, 38, 3, 12),
    "relation": (4, 2, 2, 6, 2, 80, 4),
}


def _shown(one: Scene) -> set[str]:
    """The keys by which SHOWN_BY says what a scene shows."""
    return {"person", one.action} if one.action else {one.subject, one.other} - {None}  # type: ignore[return-value]


def _near(one: Scene, rng: random.Random) -> str:
    """A thing that is not in the scene."""
    shown = _shown(one)
    kin: list[str] = [name for group in _KIN for name in group if shown.intersection(group)]
    pool = kin if kin and rng.random() < 0.3 else [*SUBJECTS, *TINTABLE]
    return rng.choice([name for name in pool if name not in shown] or [*SUBJECTS])


_KIN = (
    ("cat", "dog"), ("fish", "turtle", "octopus", "crab", "penguin"), ("owl", "penguin"), ("frog", "turtle", "snail"),
    ("apple", "strawberry", "lemon", "banana", "pineapple", "watermelon", "grape", "pumpkin"),
    ("bus", "tractor", "car"), ("bee", "butterfly"), ("cactus", "sunflower", "mushroom"),
    ("balloon", "heart", "star"), ("cap", "crown"),
)  # fmt: skip


def _noun(one: Scene, rng: random.Random, right: bool) -> Noun:
    """A noun for the scene's subject (in relations for one of its two things), or for something else."""
    if not right and (one.action or rng.random() < 0.93):
        return rng.choice(forms_of(_near(one, rng)))
    if not right:
        return rng.choice(forms_of("person"))
    name = "person" if one.action else rng.choice([one.subject, one.other]) if one.other else one.subject
    return rng.choice(forms_of(str(name)))


def _thing(noun: Noun, many: bool, rng: random.Random, tint: str | None = None) -> str:
    """The noun in its number, sometimes behind its tint or an adjective that tells nothing."""
    words = noun.plural if many else noun.singular
    if tint and rng.random() < 0.35:
        return f"{tint} {words}"
    return f"{rng.choice(NEUTRAL)} {words}" if rng.random() < 0.05 else words


def _many(one: Scene, rng: random.Random) -> bool:
    """Whether a noun stands in the plural: mostly as the picture has it. How many there are is a claim of its own."""
    return (one.count > 1) != (rng.random() < 0.12)


def _entity(one: Scene, rng: random.Random, true: bool, absent: Collection[str]) -> tuple[Fact, bool]:
    many = _many(one, rng)
    chance = rng.random()
    if chance < 0.06:
        return Fact(kind="entity", of=rng.choice(("background", "backdrop", "picture", "plain background"))), True
    if chance < 0.08:
        return Fact(kind="text", of="text", value=rng.choice((*SUBJECTS, "sale", "stop", "open"))), False
    if chance < 0.22:
        generic, kinds = rng.choice(GENERIC)
        return Fact(kind="entity", of=_thing(generic, many, rng), plural=many), bool(_shown(one) & set(kinds))
    if chance < 0.4:  # what an action is done with, and who does it
        noun, shows = rng.choice(SHOWN_BY)
        if true and (fitting := [entry for entry in SHOWN_BY if _shown(one) & entry[1]]):
            noun, shows = rng.choice(fitting)
        return Fact(kind="entity", of=noun.plural if many else noun.singular, plural=many), bool(_shown(one) & shows)
    if not true and absent and chance < 0.6:
        word = rng.choice([*absent]) if one.action else rng.choice([*absent, *UNCERTAIN])
        return Fact(kind="entity", of=word), False
    tint = one.tint
    if not true and tint and rng.random() < 0.25:  # the thing in another colour
        noun, wrong = _noun(one, rng, True), _other(TINTS, rng, tint)
        return Fact(kind="entity", of=f"{wrong} {noun.plural if many else noun.singular}", plural=many), False
    return Fact(kind="entity", of=_thing(_noun(one, rng, true), many, rng, tint), plural=many), true


def _other(values: Collection[Any], rng: random.Random, *taken: Any) -> Any:
    return rng.choice([value for value in values if value not in taken])


def _count(one: Scene, rng: random.Random, true: bool) -> tuple[Fact, bool]:
    number = one.count
    noun, tint = _noun(one, rng, True), one.tint
    if one.relation and rng.random() < 0.3:
        noun, number = Noun("thing", rng.choice(("things", "objects", "items"))), 2
    words = noun.plural
    stated = number
    if not true:
        chance = rng.random()
        if chance < 0.14:
            words = _noun(one, rng, False).plural
        elif chance < 0.24 and tint:
            tint = _other(TINTS, rng, tint)
            words = f"{tint} {words}"
        elif chance < 0.7:
            stated = rng.choice([n for n in (number - 1, number + 1) if n > 0])
        else:
            stated = _other((1, 2, 3, 4, 5, 6), rng, number)
    if tint and words == noun.plural and rng.random() < 0.35:
        words = f"{tint} {words}"
    if stated == 1:
        words = words.replace(noun.plural, noun.singular) if rng.random() < 0.8 else words
    if rng.random() < 0.04 and number != 2 and true:
        return Fact(kind="count", of=words, value=rng.choice(("several", "many", "multiple")), plural=True), number > 2
    value = rng.choice(NUMBER_FORMS[stated])
    return Fact(kind="count", of=words, value=value, plural=stated != 1), true


def _tint(one: Scene, rng: random.Random, true: bool) -> tuple[Fact, bool]:
    many = _many(one, rng)
    noun = _noun(one, rng, True)
    key = next(name for name in (*SUBJECTS, *TINTABLE, "person") if noun in forms_of(name))
    own = {one.tint} if one.tint else set(OWN_COLOURS.get(key, ()))
    wrong = [colour for colour in TINTS if colour not in own]
    if not own:  # of people's clothes and skin nothing is known
        key, own, true = _near(one, rng), set(TINTS), False
        noun = rng.choice(forms_of(key))
    elif not true and rng.random() < 0.15:
        noun, wrong = _noun(one, rng, False), sorted(own)
    if true:
        colour = rng.choice(sorted(own))
    else:
        chance = rng.random()
        unlike = [one.background] if chance < 0.3 else OTHER_COLOURS if chance < 0.4 else wrong
        colour = rng.choice([value for value in unlike if value not in own or unlike is wrong] or wrong or list(TINTS))
    thing = _thing(noun, many, rng)
    return Fact(kind="attribute", of=thing, value=_colour(colour, rng), plural=many, aspect="colour"), true


def _colour(colour: str, rng: random.Random) -> str:
    return rng.choice(COLOUR_FORMS.get(colour, (colour,))) if rng.random() < 0.2 else colour


def _background(one: Scene, rng: random.Random, true: bool) -> tuple[Fact, bool]:
    many = _many(one, rng)
    right, colour = true, one.background
    thing = _thing(_noun(one, rng, True), many, rng, one.tint)
    chance = rng.random()
    if not true:
        if one.tint and rng.random() < 0.25 and one.tint != colour:
            colour = one.tint
        else:
            colour = _other(OTHER_COLOURS if rng.random() < 0.1 else BACKGROUNDS, rng, colour)
    ground = rng.choice(("background", "background", "background", "backdrop"))
    plain = rng.choice(("plain", "solid", "simple"))
    word = _colour(colour, rng)
    if chance < 0.45:
        of = f"{plain} {ground}" if rng.random() < 0.08 else ground
        return Fact(kind="attribute", of=of, value=word, aspect="colour"), right
    if chance < 0.6:
        of = f"{word} {ground}" if rng.random() < 0.7 else f"{plain} {word} {ground}"
        return Fact(kind="entity", of=of), right
    if chance < 0.64:
        return Fact(kind="attribute", of=ground, value=rng.choice((plain, f"{plain} {word}")) if right else word), right
    where = f"{word} {ground}" if rng.random() < 0.85 else f"{plain} {word} {ground}"
    where = word if rng.random() < 0.04 else where
    if chance < 0.74:  # only that it is there, and before a background
        thing = thing if true else _thing(_noun(one, rng, False), many, rng)
        where = ground
    elif not true and rng.random() < 0.3:
        thing, where = _thing(_noun(one, rng, False), many, rng), f"{one.background} {ground}"
    preposition = rng.choice(("on", "on", "against", "in front of"))
    if one.action and rng.random() < 0.3 and where != ground and (true or one.background not in where):
        preposition = f"{rng.choice(ACTION_FORMS[one.action])[0].split(' ')[0]} {preposition}"
        preposition = preposition if preposition.split(" ")[0].endswith("ing") else "on"
    return Fact(kind="relation", of=thing, value=preposition, to=where, plural=many), right


def _action(one: Scene, rng: random.Random, true: bool) -> tuple[Fact, bool]:
    many = _many(one, rng)
    true = one.action is not None and (true or rng.random() < 0.3)
    action = one.action if true or (one.action and rng.random() < 0.1) else _other(ACTIONS, rng, one.action)
    people = true or action != one.action
    noun = rng.choice(forms_of("person")) if people else rng.choice(forms_of(_near(one, rng)))
    if not one.action and rng.random() < 0.5:
        noun = _noun(one, rng, True)
    value, to = rng.choice(ACTION_FORMS[str(action)])
    of = noun.plural if many else noun.singular
    if many and one.action and rng.random() < 0.12:
        number = one.count if rng.random() < 0.75 else rng.choice((1, 2, 3))
        if number > 1:
            of, true = f"{rng.choice(NUMBER_FORMS[number][:2])} {of}", true and number == one.count
    return Fact(kind="action", of=of, value=value, to=to, plural=many), true


def _relation(one: Scene, rng: random.Random, true: bool) -> tuple[Fact, bool]:
    if not one.relation:
        first, second = _noun(one, rng, rng.random() < 0.7), rng.choice(forms_of(_near(one, rng)))
        if rng.random() < 0.5:
            first, second = second, first
        value = rng.choice(RELATION_FORMS[rng.choice(RELATIONS)])
        return Fact(kind="relation", of=_thing(first, False, rng), value=value, to=_thing(second, False, rng)), False
    names, relation = [one.subject, str(one.other)], str(one.relation)
    true = true or rng.random() < 0.2  # makes up for the claims about scenes without a relation, which are false
    if not true:
        chance = rng.random()
        if chance < 0.7:
            relation = OPPOSITE[relation]
        elif chance < 0.8:
            relation = _other(RELATIONS, rng, relation)
        elif chance < 0.84:
            relation = rng.choice(OTHER_RELATIONS)
        else:
            names[rng.randrange(2)] = _near(one, rng)
    if rng.random() < 0.5:
        names, relation = names[::-1], OPPOSITE.get(relation, relation)
    left, right = (_thing(rng.choice(forms_of(name)), False, rng, _own(name, rng)) for name in names)
    value = rng.choice(RELATION_FORMS.get(relation, (relation,)))
    return Fact(kind="relation", of=left, value=value, to=right), true


def _own(name: str, rng: random.Random) -> str | None:
    colours = OWN_COLOURS.get(name)
    return rng.choice(colours) if colours and rng.random() < 0.3 else None


def _style(one: Scene, rng: random.Random, true: bool) -> tuple[Fact, bool]:
    if one.style == "none":
        true = true and rng.random() < 0.25
    elif not true:
        true = rng.random() < 0.3  # makes up for scenes without a style, of which every style is claimed falsely
    style = one.style if true else _other(STYLES[1:] if rng.random() < 0.96 else STYLES, rng, one.style)
    kind, form = rng.choice(STYLE_CLAIMS[style])
    many = _many(one, rng)
    subject = _thing(_noun(one, rng, True), many, rng, one.tint)
    return _styled(kind, form, subject, many, rng), true


def _styled(kind: str, form: Form, subject: str, many: bool, rng: random.Random) -> Fact:
    match kind:
        case "style":
            return Fact(kind="style", of="picture", value=form[0])
        case "entity":
            return Fact(kind="entity", of=form[0], plural=form[1] is not None)
        case "of":
            return Fact(kind="attribute", of=str(form[1]), value=form[0], plural=str(form[1]).endswith("s"))
    # A phrase at a sentence's end is taken for the background's, which stands before it, as often as for the thing's.
    of, plural = (
        (subject, many) if rng.random() < 0.5 else (rng.choice(("picture", "image", "background", "backdrop")), False)
    )
    if kind == "attribute":
        return Fact(kind="attribute", of=of, value=form[0], plural=plural)
    relation: Fact = Fact(kind="relation", of=of, value=form[0], to=form[1], plural=plural)
    return replace(relation, kind="action") if rng.random() < 0.2 else relation


_MAKERS: dict[Group, Callable[[Scene, random.Random, bool], tuple[Fact, bool]]] = {
    "count": _count, "tint": _tint, "background": _background, "action": _action, "relation": _relation,
    "style": _style,
}  # fmt: skip
