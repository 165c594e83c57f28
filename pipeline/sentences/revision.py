"""Revision of sentences: facts that lose are exchanged or left out, facts that are sure are added."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from surd.pipeline.facts.fact import Fact
from surd.pipeline.facts.parse import Sentence
from surd.pipeline.sentences.claims import (
    GROUNDS,
    FactClaim,
    Key,
    agree,
    exclusive,
    fact_key,
    head,
    is_named,
    new_words,
    slot,
    stated,
    with_its_thing,
)
from surd.pipeline.sentences.fact_check import FactChecker, PictureTexts

_MOST_WORDS = 60
#: Facts that are tried for each that may be changed: some cannot be, and those are not tried again.
_TRIES = 3
#: Things before what is said of them: what is said of a thing that is not there has no meaning.
_ORDER = ("entity", "count", "attribute", "action", "relation", "text", "style")
#: What a fact adds to a sentence reads best in this order.
_ADDED = ("count", "attribute", "action", "relation", "entity", "text", "style")


@dataclass
class Revision:
    """A sentence on its way: ``text`` as it is now, ``before`` as it was. ``repairs`` says what was changed, with the
    probabilities before and after; ``left`` are facts that could not be changed; ``holds``: witnesses have judged it,
    and it may stand as it is."""

    texts: PictureTexts
    text: str
    before: str = ""
    repairs: list[str] = field(default_factory=list)
    left: set[Key] = field(default_factory=set)
    checked: int = 0
    holds: bool = False

    def __post_init__(self) -> None:
        self.before = self.text


@dataclass(frozen=True)
class _Edit:
    """A proposed text: ``old`` is exchanged for ``new``; without ``new`` left out, without ``old`` added."""

    one: Revision
    text: str
    old: FactClaim | None
    new: FactClaim | None

    def apply(self) -> None:
        claim = self.new or self.old
        assert claim is not None
        was, now = (one.belief if one else 0.0 for one in (self.old, self.new))
        words = [_words(one.fact) if one else "unsaid" for one in (self.old, self.new)]
        self.one.repairs.append(f"{_label(claim.fact)}: {words[0]} -> {words[1]} ({was:.3f} -> {now:.3f})")
        self.one.text = self.text

    def give_up(self) -> None:
        claim = self.old or self.new
        assert claim is not None
        self.one.left.add(fact_key(claim.fact))


class Reviser:
    """Edits sentences until each states what the witnesses hold for true.

    ``least``: a stated fact less probable is exchanged or left out. ``sure``: what comes instead must be at least so
    probable. ``added``: what is added must be. ``add(sentence, fact)`` gives the sentence with one more fact, None if
    it cannot.
    """

    def __init__(
        self, checker: FactChecker, add: Callable[[Sentence, Fact], str | None], *,
        least: float, sure: float, added: float, rounds: int,
    ) -> None:  # fmt: skip
        self._checker, self._add = checker, add
        self._least, self._sure, self._added, self._rounds = least, sure, added, rounds

    def revise(self, revisions: Sequence[Revision]) -> None:
        """Edit all sentences together, one fact of each a round: beside a wrong fact anything else looks better than it
        is, so the others are asked again without it."""
        for one in revisions:
            one.checked = len(self._checker.sentence(one.text).facts)
        for step in (self._corrections, self._additions):
            for _ in range(_TRIES * self._rounds):
                edits = step(revisions)
                if edits is None:
                    break
                self._checker.read(edit.text for edit in edits)
                for edit in edits:
                    old, new = (self._checker.sentence(text) for text in (edit.one.text, edit.text))
                    changed = (edit.old.fact if edit.old else None, edit.new.fact if edit.new else None)
                    if _keeps_the_rest(old, new, *changed):
                        edit.apply()
                    else:
                        edit.give_up()

    # What is wrong

    def _corrections(self, revisions: Sequence[Revision]) -> list[_Edit] | None:
        """One edit of each sentence that has a fact which loses; None if none has."""
        losers = [(one, loser) for one, loser in zip(revisions, self._losers(revisions), strict=True) if loser]
        if not losers:
            return None
        options = [self._options(one, loser) for one, loser in losers]
        self._checker.judge([edit.new for of_one in options for edit in of_one if edit.new])
        edits = []
        for (one, loser), of_one in zip(losers, options, strict=True):
            sure = [edit for edit in of_one if edit.new is None or edit.new.belief >= self._sure]
            if sure:  # a value that is sure before leaving the fact out
                edits.append(max(sure, key=lambda edit: edit.new.belief if edit.new else -1.0))
            else:
                one.left.add(fact_key(loser.fact))
        return edits

    def _losers(self, revisions: Sequence[Revision]) -> list[FactClaim | None]:
        """Of each sentence the fact that is most surely wrong, with the places of the sentence's own words."""
        claims = []
        for one in revisions:
            sentence = self._checker.sentence(one.text)
            of_one = [(self._checker.claim(one.texts, sentence, *fact), fact[0]) for fact in stated(sentence)]
            claims.append(of_one if len(one.repairs) < self._rounds else [])
        self._checker.judge([claim for of_one in claims for claim, _ in of_one if not claim.scores])
        losers: list[FactClaim | None] = []
        for one, of_one in zip(revisions, claims, strict=True):
            wrong = [
                dataclasses.replace(claim, fact=fact)
                for claim, fact in of_one
                if claim.scores and claim.belief < self._least and fact_key(fact) not in one.left
            ]
            losers.append(min(wrong, key=_order, default=None))
        return losers

    def _options(self, one: Revision, loser: FactClaim) -> list[_Edit]:
        """The sentence with each other value in the place of the loser's, and without it.

        A count that only an article implies gives way to a count that somebody states: "a man" may be one of many.
        """
        sentence, fact = self._checker.sentence(one.text), loser.fact
        said = [
            dataclasses.replace(fact, of=claim.fact.of if fact.kind == "entity" else fact.of, value=claim.fact.value)
            for claim in one.texts.claims.values()
            if slot(claim.fact) == slot(fact) and not agree(claim.fact, fact)
            if claim.belief >= self._sure or not claim.scores
        ]
        rivals = self._checker.rivals(sentence, fact, loser.picture, said)
        edits = []
        for other, text in rivals:
            if loser.implied and other not in said:
                continue
            if other is None:
                edits.append(_Edit(one, text, loser, None))
                continue
            claim = next((known for known in one.texts.claims.values() if agree(known.fact, other)), None)
            if claim is None or not claim.scores:
                rest = (sentence.text, *(rival for _, rival in rivals if rival != text))
                claim = FactClaim(loser.picture, other, text, rest, origin=claim.origin if claim else "neither")
            edits.append(_Edit(one, text, loser, dataclasses.replace(claim, fact=other)))
        return edits

    # What is missing

    def _additions(self, revisions: Sequence[Revision]) -> list[_Edit] | None:
        """One edit of each sentence that lacks something sure; None if none does."""
        edits = []
        self._checker.complete([(one.texts, self._checker.sentence(one.text)) for one in revisions])
        for one in revisions:
            sentence = self._checker.sentence(one.text)
            if len(one.repairs) >= 2 * self._rounds or len(one.text.split()) >= _MOST_WORDS:
                continue
            facts = [fact for fact, _ in stated(sentence)]
            claims = [claim for claim in one.texts.claims.values() if self._is_missing(one, claim, facts)]
            for claim in sorted(claims, key=lambda claim: (_ADDED.index(claim.fact.kind), -claim.belief)):
                if text := self._add(sentence, with_its_thing(claim.fact, facts)):
                    edits.append(_Edit(one, text, None, claim))
                    break
                one.left.add(fact_key(claim.fact))
        return edits or None

    def _is_missing(self, one: Revision, claim: FactClaim, facts: Sequence[Fact]) -> bool:
        """Whether a claim is sure, new to a sentence that states ``facts``, and fits it."""
        fact = claim.fact
        if claim.belief < self._added or not claim.scores or claim.origin == "neither" or fact.negated or claim.implied:
            return False
        if fact_key(fact) in one.left or any(agree(fact, other) for other in facts):
            return False
        if "prompt" in claim.origin and not one.texts.is_its_prompt:
            return False
        if not new_words(fact, one.text):
            return False
        match fact.kind:
            case "style":
                return not any(other.kind == "style" for other in facts)
            case "text":
                return True
            case "entity":
                # What only another caption names may be what this one names otherwise.
                is_prompted = claim.origin in ("both", "prompt") and head(fact.of) not in GROUNDS
                return is_prompted and claim.belief >= self._sure
            case "attribute" if not fact.aspect:
                return False
        if exclusive(fact) and any(slot(other) == slot(fact) for other in facts):
            return False
        if fact.kind == "relation" and any(
            other.kind == "relation" and {head(other.of), head(other.to or "")} == {head(fact.of), head(fact.to or "")}
            for other in facts
        ):
            return False
        return is_named(fact.of, facts) or (fact.kind == "attribute" and head(fact.of) in GROUNDS)


def _keeps_the_rest(before: Sentence, after: Sentence, old: Fact | None, new: Fact | None) -> bool:
    """Whether an edit changed the facts that it should, and no others."""
    changed = {head(fact.of) for fact in (old, new) if fact and fact.kind == "entity"}
    changed |= {head(old.of)} & set(GROUNDS) if old and new is None else set()
    earlier, later = ([fact for fact, implied in stated(one) if not implied] for one in (before, after))
    for fact in earlier:
        lost = not any(agree(fact, other) for other in later)
        if lost and head(fact.to or "") in GROUNDS and fact.value in after.text:  # it hangs on another word now
            continue
        if lost and not (old and (agree(fact, old) or {head(fact.of), head(fact.to or "")} & changed)):
            return False
    for fact in later:
        appeared = not any(agree(fact, other) for other in earlier)
        if appeared and not (new and (agree(fact, new) or {head(fact.of), head(fact.to or "")} & _about(new))):
            return False
    return new is None or any(agree(new, fact) for fact, _ in stated(after))


def _order(claim: FactClaim) -> tuple[int, float]:
    return _ORDER.index(claim.fact.kind), claim.belief


def _about(fact: Fact) -> set[str]:
    """The things that a new fact may bring into a sentence."""
    return {head(fact.of), head(fact.to or "")} - {""}


def _label(fact: Fact) -> str:
    return fact.aspect if fact.kind == "attribute" and fact.aspect else fact.kind


def _words(fact: Fact) -> str:
    return fact.of if fact.kind == "entity" else fact.value
