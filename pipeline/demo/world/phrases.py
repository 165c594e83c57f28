"""Phrases of a scene in the words of a lexicon: nouns with numbers and articles, verbs in several forms, styles.

A structure such as "{what} on {ground}[, {style}]." (``wordings.yaml``) is filled from a `Phrases`, which draws each
word once, so that a text calls a thing by one name.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import cached_property

from surd.pipeline.demo.world.prompts import NUMBERS, OPPOSITE
from surd.pipeline.demo.world.scenes import Scene
from surd.pipeline.demo.world.words import FactWords, riddles
from surd.pipeline.facts.inflection import plural, with_article
from surd.pipeline.facts.verb_forms import base, third_person

GROUNDS = ("background", "backdrop")
MORE_GROUNDS = (
    "background", "background", "backdrop", "field", "canvas", "surface", "plain background", "solid background",
)  # fmt: skip
#: Bases of participles that the rules of English spelling do not give.
BASES = {"pirouetting": "pirouette", "snorkelling": "snorkel", "duelling": "duel", "kayaking": "kayak"}
_NOUN = re.compile(r"\{([^}]+)\}")
_SLOT = re.compile(r"\{(\w+)\}")
_OPTION = re.compile(r"\[([^\[\]]*)\]")


class Phrases:
    """The phrases of one scene. With the probability `own` each word is the world's own."""

    def __init__(
        self, scene: Scene, lexicon: FactWords, rng: random.Random, own: float = 0.0, grounds: tuple[str, ...] = GROUNDS
    ) -> None:
        self.scene, self._lexicon, self._rng, self._own, self._grounds = scene, lexicon, rng, own, grounds

    def fill(self, structure: str) -> str:
        """The sentence of a structure: its slots filled, its optional parts dropped if the scene has no style, capital
        letters where sentences begin (not in a structure that begins in lower case)."""
        has_style = self.scene.style != "none"
        chosen = _OPTION.sub(lambda part: part.group(1) if has_style else "", structure)
        text = _SLOT.sub(lambda slot: SLOTS[slot.group(1)](self), chosen)
        text = " ".join(text.split())
        if _SLOT.sub("", chosen).isupper():
            return text.upper()
        return text if structure[0].islower() else _capitals(text)

    @property
    def are_many(self) -> bool:
        return self.scene.count > 1

    @cached_property
    def what(self) -> str:
        """The noun phrase for all that is shown."""
        if self.scene.relation:
            return f"{self.first} {self.relation} {self.second}"
        if not self.scene.action:
            return self._counted(self.things)
        form, phrase = self._action
        if form == "@":
            return self._counted(phrase)
        if form == "!":
            return f"{phrase} by {self.who}"
        return f"{self.who} {phrase}"

    @cached_property
    def clause(self) -> str:
        """What is shown, as a main clause."""
        if self.scene.relation and self._rng.random() < 0.6:
            return f"{self.first} is {self.relation} {self.second}"
        if self.scene.action and self._action[0] not in "@!" and self._rng.random() < 0.8:
            return f"{self.who} {self.does}"
        verb = "are" if self.are_many else "is"
        return self._rng.choice((f"there {verb} {self.what}", f"{self.what} {verb} here", f"{self.what} can be seen"))

    @cached_property
    def who(self) -> str:
        """Who acts."""
        return self._counted(self._inflected(self._person))

    @cached_property
    def does(self) -> str:
        """What they do, as a verb in the present that agrees with them."""
        form, phrase = self._participle
        verb = "are" if self.are_many else "is"
        first, _, rest = phrase.partition(" ")
        plain = BASES.get(first) or base(first) if not form and first.isalpha() else None
        if plain is None or rest == "climbing" or self._rng.random() < 0.4:
            return f"{verb} {phrase}"
        return f"{plain if self.are_many else third_person(plain)} {rest}".strip()

    @cached_property
    def doing(self) -> str:
        """What they do, as a participle or a phrase like it."""
        return self._participle[1]

    @cached_property
    def things(self) -> str:
        """The noun with its colour, in the number of the scene, without the number itself."""
        noun = self._inflected(self._noun)
        return f"{self.tint} {noun}" if self.scene.tint else noun

    @cached_property
    def plural(self) -> str:
        """The same for many of them."""
        noun = _forms(self._noun)[1]
        return f"{self.tint} {noun}" if self.scene.tint else noun

    @cached_property
    def bare(self) -> str:
        """`what` without articles, as in a telegram."""
        return re.sub(r"\b(an?|the) ", "", self.what)

    @cached_property
    def tint(self) -> str:
        return self._lexicon.choice("colours", self.scene.tint, self._rng, self._own)

    @cached_property
    def colour(self) -> str:
        return self._lexicon.choice("colours", self.scene.background, self._rng, self._own)

    @cached_property
    def ground(self) -> str:
        ground = self._rng.choice(self._grounds)
        return _a(f"{ground.replace(' ', f' {self.colour} ')}" if " " in ground else f"{self.colour} {ground}")

    @cached_property
    def style(self) -> str:
        """The style as an adverbial phrase; empty without one."""
        if self.scene.style == "none":
            return ""
        phrase = self._lexicon.choice("styles", self.scene.style, self._rng, self._own)
        return f"as {_a(_forms(phrase[1:])[0])}" if phrase[0] == "@" else phrase

    @cached_property
    def pic(self) -> str:
        """The noun for a picture in this style."""
        if self.scene.style == "none":
            return self._rng.choice(self._lexicon.pictures)
        nouns = [p[1:] for p in self._lexicon.words["styles"][self.scene.style] if p[0] == "@"]
        return _forms(nouns[0] if self._rng.random() < self._own else self._rng.choice(nouns))[0]

    @cached_property
    def first(self) -> str:
        return _a(_forms(self._subject(self.scene.other if self._swapped else self.scene.subject))[0])

    @cached_property
    def second(self) -> str:
        return _a(_forms(self._subject(self.scene.subject if self._swapped else self.scene.other))[0])

    @cached_property
    def opposite(self) -> str:
        """How `second` stands to `first`."""
        return self._related(OPPOSITE[self._seen])

    @cached_property
    def clues(self) -> tuple[str, str]:
        """What the action or the subject says of itself, in relation scenes first and second."""
        if self.scene.action:
            return riddles()["actions"][self.scene.action], ""
        one, other = (riddles()["subjects"].get(str(name), "") for name in (self.scene.subject, self.scene.other))
        return (other, one) if self._swapped else (one, other)

    @cached_property
    def relation(self) -> str:
        """How `first` stands to `second`."""
        return self._related(self._seen)

    def _related(self, relation: str) -> str:
        return self._lexicon.choice("relations", relation, self._rng, self._own)

    @cached_property
    def _swapped(self) -> bool:
        return self.scene.kind == "relation" and self._rng.random() < 0.3

    @cached_property
    def _seen(self) -> str:
        """The relation of `first` to `second`, as the scene would name it."""
        relation = str(self.scene.relation)
        return OPPOSITE[relation] if self._swapped else relation

    def _subject(self, name: str | None) -> str:
        return self._lexicon.choice("subjects", name, self._rng, self._own)

    @cached_property
    def _noun(self) -> str:
        return self._subject(self.scene.subject)

    @cached_property
    def _person(self) -> str:
        return self._lexicon.people[0] if self._rng.random() < self._own else self._rng.choice(self._lexicon.people)

    def _inflected(self, noun: str) -> str:
        return _forms(noun)[self.are_many]

    @cached_property
    def _action(self) -> tuple[str, str]:
        """(form, phrase): "" a participle, "~" a phrase behind a noun, "@" who does it, "!" a passive."""
        return self._read(self._lexicon.choice("actions", self.scene.action, self._rng, self._own))

    @cached_property
    def _participle(self) -> tuple[str, str]:
        """As `_action`, but one of the first two forms: the lexicon's, else the world's own."""
        if self._action[0] in ("", "~"):
            return self._action
        phrases = [p for p in self._lexicon.words["actions"][str(self.scene.action)] if p[0] not in "@!"]
        return self._read(self._rng.choice(phrases)) if phrases else ("", str(self.scene.action))

    def _read(self, phrase: str) -> tuple[str, str]:
        form = phrase[0] if phrase[0] in "@~!" else ""
        phrase = phrase.removeprefix(form)
        if form == "@":
            phrase = self._inflected(phrase)
        return form, _NOUN.sub(lambda one: plural(one.group(1)) if self.are_many else _a(one.group(1)), phrase)

    def _counted(self, nouns: str) -> str:
        """`nouns`, already in the scene's number, behind a word for that number."""
        if nouns.split(" ")[0] in ("someone", "somebody"):
            return nouns
        number = self._lexicon.choice("counts", self.scene.count, self._rng, self._own)
        return _a(nouns) if number == "a" else f"{number} {nouns}"


def _a(phrase: str) -> str:
    return f"an {phrase}" if phrase.startswith("8") else with_article(phrase)


def _forms(noun: str) -> tuple[str, str]:
    """Singular and plural."""
    one, _, more = noun.partition("/")
    return one, more or plural(one)


#: What stands for each slot of a structure.
SLOTS: dict[str, Callable[[Phrases], str]] = {
    "what": lambda of: of.what, "clause": lambda of: of.clause, "bare": lambda of: of.bare,
    "who": lambda of: of.who, "does": lambda of: of.does, "doing": lambda of: of.doing,
    "is": lambda of: "are" if of.are_many else "is", "was": lambda of: "were" if of.are_many else "was",
    "things": lambda of: of.things, "plural": lambda of: of.plural, "number": lambda of: NUMBERS[of.scene.count],
    "tint": lambda of: of.tint, "colour": lambda of: of.colour, "ground": lambda of: of.ground,
    "style": lambda of: of.style, "pic": lambda of: of.pic, "medium": lambda of: _a(of.pic),
    "first": lambda of: of.first, "second": lambda of: of.second,
    "rel": lambda of: of.relation, "opp": lambda of: of.opposite,
    "clue": lambda of: of.clues[0], "clue2": lambda of: of.clues[1],
}  # fmt: skip


def _capitals(text: str) -> str:
    """A capital letter at the beginning and behind the end of a sentence."""
    text = re.sub(r"([.!?] )([a-z])", lambda found: found.group(1) + found.group(2).upper(), text)
    return text[:1].upper() + text[1:]
