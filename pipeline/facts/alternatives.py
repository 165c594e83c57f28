"""What else a fact could be: other values that cannot be true together with it, the nearest first.

Closed classes (numbers, colours, materials, sizes, relations) come from ``closed_classes.yaml``. Everything else comes
from what the texts of the same build state (``StatedValues``), ordered by likeness of meaning (``TextVectors``) without
those that mean the same; without vectors, by how often it is stated. A user's groups of values come before both.

WordNet's sister terms are not used: no package of the index carries WordNet whole, as data, for Python (of those that
name it, some download it at run time and one has only hashes of its words). What is also true of a thing because it is
a kind of it ("person" of a man) is in ``closed_classes.yaml`` for what captions speak of most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice

import numpy as np
import numpy.typing as npt

from surd.pipeline.facts.closed_classes import closed_classes
from surd.pipeline.facts.fact import Fact
from surd.pipeline.facts.inflection import many, one_of
from surd.pipeline.facts.similarity import TextVectors
from surd.pipeline.facts.stated_values import StatedValues, ranked, said_with_object, thing_name
from surd.pipeline.facts.style_phrases import trailing
from surd.pipeline.facts.verb_forms import as_gerund, deed_and_place

#: Cosines from which on two values mean the same, in the frames below: of 44 pairs of synonyms and 50 of sister terms
#: among the things of captions 4 fall on the wrong side ("sailboat" and "ship"), of 18 and 24 among deeds 2.
SAME_THING, SAME_DEED, SAME_STYLE = 0.77, 0.75, 0.80
_FRAMES = {"entity": "a photo of {}", "action": "a photo of a person {}", "style": "a picture {}"}
_BOUNDS = {"entity": SAME_THING, "action": SAME_DEED, "style": SAME_STYLE}
#: Values of a build that are looked at, the most frequent ones.
_MOST = 3000
#: Alternatives of a value that are kept, and values whose alternatives are.
_ASKED, _KEPT = 64, 50_000
#: What a doubling of how often a value is stated counts against likeness: the parser's slips are rare, and what is
#: often stated is likelier to be true.
_USUAL = 0.03
_GROUND = ("background", "backdrop", "foreground", "picture", "image", "photo", "scene")
_SIZES = ("size", "height", "length")

Groups = Iterable[Sequence[Sequence[str]]]


class Alternatives:
    """Other values of facts.

    ``values``: what the build states; ``vectors``: likeness of meaning, None to go by frequency; ``groups``: a user's
    lists of values that exclude each other, each value with its forms, the one to write first.
    """

    def __init__(self, values: StatedValues, vectors: TextVectors | None = None, groups: Groups = ()) -> None:
        self._values, self._vectors = values, vectors
        self._groups: dict[str, tuple[int, Sequence[Sequence[str]]]] = {}
        for group in groups:
            for number, forms in enumerate(group):
                for form in forms:
                    self._groups.setdefault(form.lower(), (number, group))
        self._rankings: dict[tuple[str, str], list[str]] = {}
        self._matrices: dict[str, tuple[list[str], npt.NDArray[np.float32], npt.NDArray[np.float64]]] = {}

    def prepare(self, facts: Iterable[Fact]) -> None:
        """Compute the vectors of many facts together, which takes a fifth of the time that it takes one by one."""
        if self._vectors is not None:
            texts = [_framed("entity", thing_name(fact) or fact.of.lower()) for fact in facts if fact.kind == "entity"]
            for fact in facts:
                if fact.kind == "action" and (deed := as_gerund(fact.value.lower().partition(" ")[0])):
                    texts.append(_framed("action", f"{deed} {fact.to.lower()}" if fact.to else deed))
            self._vectors.embed(sorted(set(texts)))

    def of(self, fact: Fact, stated: Sequence[Fact] = (), most: int = 8) -> list[Fact]:
        """What could be stated instead of ``fact``, at most ``most``; what ``stated``, the other facts of its text, say
        already is no alternative. Give the result to ``swap`` and to ``question``."""
        value = " ".join((thing_name(fact) or fact.of.lower() if fact.kind == "entity" else fact.value.lower()).split())
        if not value or fact.kind == "text":
            return []
        if fact.kind == "entity" and any(said_with_object(other) and other.to == fact.of for other in stated):
            return []  # "bath" of "taking a bath"
        others = self._grouped(value)
        if others is not None and fact.kind != "relation":
            return self._facts(fact, others, stated, most)
        match fact.kind:
            case "count":
                return self._facts(fact, _counts(value), stated, most)
            case "attribute":
                return self._facts(fact, self._attributes(fact, value), stated, most)
            case "relation":
                return self._facts(fact, others or self._relations(fact, value), stated, most)
            case "entity":
                return self._facts(fact, self._things(fact, value), stated, most)
            case "action":
                return self._deeds(fact, value, most)
            case _:
                styles = self._nearest("style", value) or closed_classes().styles
                return self._facts(fact, [style for style in styles if value not in style], stated, most)

    def _facts(self, fact: Fact, others: Iterable[str], stated: Sequence[Fact], most: int) -> list[Fact]:
        if fact.kind == "entity":
            taken = {thing_name(other) for other in stated if other.kind == "entity"}
            chosen = list(islice((other for other in others if other not in taken), most))
            return [replace(fact, of=many(other) if fact.plural else other) for other in chosen]
        taken = {
            other.value.lower()
            for other in stated
            if other.kind == fact.kind and other.of_start == fact.of_start and other.to == fact.to
        }
        chosen = list(islice((other for other in others if other not in taken), most))
        if fact.kind == "count":
            single = one_of(fact.of) or fact.of if fact.plural else fact.of
            return [
                replace(fact, value=other, of=single if other == "one" else many(single), plural=other != "one")
                for other in chosen
            ]
        return [replace(fact, value=other) for other in chosen]

    def _grouped(self, value: str) -> list[str] | None:
        """The values of the user's group that a value belongs to; None if it belongs to none."""
        if value not in self._groups:
            return None
        number, group = self._groups[value]
        others = [other for other in range(len(group)) if other != number]
        if value in self._numbers:
            others.sort(key=lambda other: abs(other - number))
        elif self._vectors is not None:
            vectors = self._vectors.embed([value, *(group[other][0] for other in others)])
            likeness = dict(zip(others, np.round(vectors[1:] @ vectors[0], 3), strict=True))
            others.sort(key=lambda other: -likeness[other])
        return [group[other][0] for other in others]

    @cached_property
    def _numbers(self) -> frozenset[str]:
        return frozenset(form for forms in closed_classes().values["count"] for form in forms)

    # Closed classes

    def _attributes(self, fact: Fact, value: str) -> list[str]:
        classes = closed_classes()
        words = value.split(" ")
        known = self._class_of(fact.aspect, words[-1])
        if known is not None:
            said = self._values.attributes[fact.aspect]
            mine = next(forms for forms in known if words[-1] in forms)
            first = [word for word in classes.opposites.get(mine[0], []) if any(word in forms for forms in known)]
            rest = [forms[0] for forms in known if forms is not mine and forms[0] not in first]
            return first + sorted(rest, key=lambda word: -said[word])
        first = classes.opposites.get(value, [])
        if not fact.aspect or fact.aspect == "state":
            same = self._values.said_of.get(thing_name(fact))
            states = self._values.attributes[fact.aspect] if fact.aspect else {}
            others = [word for word in ranked(same) if word in states] if same else []
        else:
            others = ranked(self._values.attributes[fact.aspect])
        others = [word for word in others if not set(words) & set(word.split())]
        return list(dict.fromkeys([*first, *others]))

    def _class_of(self, aspect: str, word: str) -> tuple[tuple[str, ...], ...] | None:
        classes = closed_classes().values
        names = _SIZES if aspect == "size" else (aspect,) if aspect in classes else tuple(classes)
        for name in names:
            if name not in ("count", "relation") and any(word in forms for forms in classes[name]):
                return classes[name]
        return None

    def _relations(self, fact: Fact, value: str) -> list[str]:
        if value not in self._prepositions and (placed := deed_and_place(value)):
            return self._in_place(fact, *placed)
        if (fact.to or "").lower().split(" ")[-1] in _GROUND or value not in self._prepositions:
            return []
        return list(closed_classes().relations[self._prepositions[value]])

    def _in_place(self, fact: Fact, deed: str, place: str) -> list[str]:
        """Another deed in the same place, and after three of those the same deed elsewhere."""
        deeds = [f"{other} {place}" for other in self._nearest("action", deed)]
        places: list[str] = []
        if place in self._prepositions and (fact.to or "").lower().split(" ")[-1] not in _GROUND:
            places = [f"{deed} {other}" for other in closed_classes().relations[self._prepositions[place]]]
        return [*deeds[:3], *places[:2], *deeds[3:], *places[2:]]

    @cached_property
    def _prepositions(self) -> dict[str, str]:
        return {form: forms[0] for forms in closed_classes().values["relation"] for form in forms}

    # What the build states

    def _things(self, fact: Fact, value: str) -> list[str]:
        return self._nearest("part" if fact.aspect == "part" and value in self._values.parts else "entity", value)

    def _deeds(self, fact: Fact, value: str, most: int) -> list[Fact]:
        """Other verbs with the same object, and verbs, or verbs with an object of their own, in place of both."""
        if fact.to is not None and (placed := deed_and_place(value)):
            return [replace(fact, value=other) for other in self._in_place(fact, *placed)][:most]
        verb, space, rest = value.partition(" ")
        deed = as_gerund(verb)
        if deed is None:
            return []
        deed = f"{deed}{space}{rest}"
        if fact.to is None:
            return [replace(fact, value=other) for other in self._nearest("action", deed)][:most]
        whole = f"{deed} {fact.to.lower()}"
        instead = self._nearest("action", whole)
        verbs = [] if deed in closed_classes().light else self._nearest("verb", deed)
        verbs = [other for other in verbs if other not in closed_classes().light | closed_classes().vague]
        found = []
        for number in range(max(len(instead), len(verbs))):
            found += [replace(fact, value=other, to=None) for other in instead[number : number + 1]]
            found += [replace(fact, value=other) for other in verbs[number : number + 1]]
        return found[:most]

    def _nearest(self, kind: str, value: str) -> list[str]:
        """The build's values of a kind that exclude ``value``, the nearest first, as many as are ever asked for."""
        key = (kind, value)
        if key not in self._rankings:
            if len(self._rankings) >= _KEPT:
                self._rankings.clear()
            rules = {"entity": _not_another_thing, "part": _not_another_thing, "style": _same_words}
            excluded = rules.get(kind, _same_verb)
            others = (other for other in self._ranking(kind, value) if not excluded(value, other))
            self._rankings[key] = list(islice(others, _ASKED))
        return self._rankings[key]

    def _ranking(self, kind: str, value: str) -> list[str]:
        names, vectors, usual = self._matrix(kind)
        if not names or self._vectors is None:
            like = closed_classes().broader.get(value, frozenset())
            return sorted(names, key=lambda name: not like & closed_classes().broader.get(name, frozenset()))
        frame = {"part": "entity", "verb": "action"}.get(kind, kind)
        likeness = vectors @ self._vectors.embed([_framed(frame, value)])[0]
        likeness = np.round(likeness, 3)  # so that the order does not depend on how a batch was padded
        order = np.argsort(-likeness - _USUAL * usual, kind="stable")
        return [names[at] for at in order if likeness[at] < _BOUNDS[frame] and names[at] != value]

    def _matrix(self, kind: str) -> tuple[list[str], npt.NDArray[np.float32], npt.NDArray[np.float64]]:
        """The build's values of a kind, their vectors, and the logarithm of how often each occurs."""
        if kind not in self._matrices:
            values = self._values
            counts = {
                "entity": values.entities,
                "part": values.parts,
                "action": _without_object(values),
                "verb": values.deeds_with_object,
                "style": values.styles,
            }[kind]
            names = ranked(counts)[:_MOST]
            frame = {"part": "entity", "verb": "action"}.get(kind, kind)
            vectors = np.zeros((0, 0), np.float32)
            if self._vectors is not None and names:
                vectors = self._vectors.embed([_framed(frame, name) for name in names])
            usual = np.log2([1 + counts[name] for name in names], dtype=np.float64)
            self._matrices[kind] = (names, vectors, usual)
        return self._matrices[kind]


def _framed(frame: str, value: str) -> str:
    return _FRAMES[frame].format(trailing(value) if frame == "style" else value)


def _counts(value: str) -> list[str]:
    """The numbers around a number, the nearest first, the smaller one before the larger."""
    numbers = closed_classes().values["count"]
    at = next((number for number, forms in enumerate(numbers) if value in forms), None)
    if at is None:
        return []
    order = sorted((number for number in range(len(numbers)) if number != at), key=lambda n: (abs(n - at), n))
    return [numbers[number][0] for number in order]


def _without_object(values: StatedValues) -> Counter[str]:
    """Deeds that are told without an object, or with it as one phrase."""
    vague = closed_classes().vague
    alone = {deed: n for deed, n in values.deeds.items() if n > values.deeds_with_object[deed] and deed not in vague}
    return Counter(alone) + values.whole_deeds


def _not_another_thing(one: str, other: str) -> bool:
    classes = closed_classes()
    last = other.split(" ")[-1]
    if last in classes.broad or last in classes.picture_nouns or _kin(one, other):
        return True
    return (last in classes.mass) != (one.split(" ")[-1] in classes.mass)


def _same_words(one: str, other: str) -> bool:
    return one in other or other in one


def _kin(one: str, other: str) -> bool:
    """Whether one thing is a kind of the other, or is called after it ("street sign" and "sign")."""
    if one.split(" ")[-1] == other or other.split(" ")[-1] == one or one.replace(" ", "") == other.replace(" ", ""):
        return True
    broader = closed_classes().broader
    return other in broader.get(one, ()) or one in broader.get(other, ()) or _one_kind(one, other)


def _one_kind(one: str, other: str) -> bool:
    """Whether both are names of one thing ("sofa" and "couch" are in no list of their own)."""
    last, other_last = one.split(" ")[-1], other.split(" ")[-1]
    broader = closed_classes().broader
    if last == one and other_last == other:
        return False
    return last == other_last or other_last in broader.get(last, ()) or last in broader.get(other_last, ())


def _same_verb(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other} ") or other.startswith(f"{one} ")
