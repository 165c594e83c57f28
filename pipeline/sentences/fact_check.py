"""Fact checking: what the texts of a picture state, put to the witnesses, as probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from surd.pipeline.facts.fact import Fact
from surd.pipeline.facts.parse import Sentence
from surd.pipeline.facts.people import names_person
from surd.pipeline.sentences.claims import (
    GROUNDS,
    FactClaim,
    Key,
    agree,
    exclusive,
    fact_key,
    head,
    in_words,
    slot,
    stated,
    topics,
    with_its_thing,
)
from surd.pipeline.sentences.fact_calibration import FactCalibration, FactScores
from surd.pipeline.sentences.witnesses import Witness

#: Facts put in the place of others, per picture: they are false, and show what witnesses say of such.
_FALSE_PER_PICTURE = 4
#: Pictures whose captions speak of most that there is to speak of.
_MANY = 30


@dataclass
class PictureTexts:
    """The texts of one picture: candidate sentences with their method, and the scene that its complex prompt states.

    ``claims``: what they state, each fact once.
    """

    picture: int
    candidates: dict[str, str]
    scene: str
    claims: dict[Key, FactClaim] = field(default_factory=dict)

    @property
    def is_its_prompt(self) -> bool:
        """Whether prompt and captions agree on anything: else the prompt may be that of another picture."""
        return any(claim.origin == "both" for claim in self.claims.values())


class FactChecker:
    """Checks many pictures together, so that parser and witnesses see few, large batches.

    ``read(texts)`` gives the facts of texts, ``others(fact, picture)`` what could be true in place of a fact, the
    likeliest for the picture first; ``edited(sentence, fact, other)`` the sentence with another fact in place of one,
    or for None without it; ``added(sentence, fact)`` with one more fact. ``people(sentences)``: where texts name
    people, of whom no witness is asked.
    """

    def __init__(
        self,
        witnesses: Sequence[Witness],
        read: Callable[[Sequence[str]], list[Sentence]],
        others: Callable[[Fact, int], Sequence[Fact]],
        edited: Callable[[Sentence, Fact, Fact | None], str | None],
        added: Callable[[Sentence, Fact], str | None],
        people: Callable[[Sequence[Sentence]], list[list[tuple[int, int]]]],
    ) -> None:
        self.witnesses = list(witnesses)
        self.calibration = FactCalibration()
        self._read, self._others, self._edited, self._added = read, others, edited, added
        self._people_of = people
        self._sentences: dict[str, Sentence] = {}
        self._people: dict[str, list[tuple[int, int]]] = {}

    def sentence(self, text: str) -> Sentence:
        """The facts of a text that ``read`` has seen."""
        return self._sentences[text]

    def read(self, texts: Iterable[str]) -> None:
        """Find the facts of texts, all at once; those found before stay."""
        missing = sorted(set(texts) - self._sentences.keys())
        sentences = self._read(missing)
        self._sentences |= {sentence.text: sentence for sentence in sentences}
        self._people |= dict(zip(missing, self._people_of(sentences), strict=True))

    def check(self, pictures: Sequence[PictureTexts]) -> None:
        """Fill the claims of pictures, with how probable each is; measures first what the witnesses' answers mean."""
        self.read(text for texts in pictures for text in (*texts.candidates, texts.scene))
        for texts in pictures:
            self._collect(texts)
        if len(pictures) >= _MANY:
            _disregard_unseen(pictures)
        for texts in pictures:
            _dispute(list(texts.claims.values()))
        claims = [claim for texts in pictures for claim in texts.claims.values()]
        false = [claim for texts in pictures for claim in self._false_claims(texts)]
        self._ask([*claims, *false])
        agreed = [claim for claim in claims if claim.origin == "both"]
        self.calibration.fit(self._scores(agreed), self._scores(false), self._scores(claims))
        self._believe(claims)
        for texts in pictures:
            _exclude(list(texts.claims.values()), self._together)
            _depend(texts.claims.values())

    def complete(self, sentences: Sequence[tuple[PictureTexts, Sentence]]) -> None:
        """Ask of what only the prompt states and no sentence could be completed by so far."""
        asked = []
        for texts, sentence in sentences:
            for key, claim in texts.claims.items():
                if "prompt" in claim.origin and not claim.scores and not claim.sentence and self._needs_rivals:
                    texts.claims[key] = self._prompted(texts, claim.fact, [sentence.text])
                    asked.append(texts.claims[key])
        self.judge(asked)

    def judge(self, claims: Sequence[FactClaim]) -> None:
        """Ask of further claims, and fill how probable each is."""
        self._ask(claims)
        self._believe(claims)

    def claim(self, texts: PictureTexts, sentence: Sentence, fact: Fact, implied: bool = False) -> FactClaim:
        """The claim that a sentence makes by a fact; a new one if nobody made it before."""
        key = fact_key(fact)
        if key not in texts.claims:
            texts.claims[key] = self._new(texts, sentence, fact, implied)
        return texts.claims[key]

    def rivals(
        self, sentence: Sentence, fact: Fact, picture: int, first: Sequence[Fact] = ()
    ) -> list[tuple[Fact | None, str]]:
        """What could be stated in place of a fact, that of ``first`` first, with the sentence that states it; None: the
        sentence without the fact. What cannot be put there is left out, and what the sentence states already."""
        facts = [other for other, _ in stated(sentence)]
        found: list[tuple[Fact | None, str]] = []
        for other in (*first, *self._others(fact, picture), None):
            if other is not None and any(agree(other, known) for known in (*facts, *(one for one, _ in found if one))):
                continue
            text = self._edited(sentence, fact, other)
            if text and text != sentence.text:
                found.append((other, text))
        return found

    def _collect(self, texts: PictureTexts) -> None:
        for text in texts.candidates:
            sentence = self._sentences[text]
            for fact, implied in stated(sentence):
                self.claim(texts, sentence, fact, implied)
        for said, _ in stated(self._sentences[texts.scene]):
            fact = in_words(said)
            if fact.kind == "entity" and head(fact.of) in GROUNDS:  # every picture has one
                continue
            if not any(agree(fact, claim.fact) for claim in texts.claims.values()):
                texts.claims[fact_key(fact)] = self._prompted(texts, fact, list(texts.candidates))

    def _prompted(self, texts: PictureTexts, fact: Fact, sentences: Sequence[str]) -> FactClaim:
        """A claim that only the prompt makes, in the first of the sentences that can be completed by it."""
        for text in sentences if self._needs_rivals and not fact.negated else ():
            sentence = self._sentences[text]
            facts = [other for other, _ in stated(sentence)]
            if completed := self._added(sentence, with_its_thing(fact, facts)):
                others = self._others(fact, texts.picture)
                rivals = (self._added(sentence, with_its_thing(other, facts)) for other in others)
                return FactClaim(
                    texts.picture, fact, completed, (text, *(rival for rival in rivals if rival)), origin="prompt"
                )
        return FactClaim(texts.picture, fact, origin="prompt")

    def _new(self, texts: PictureTexts, sentence: Sentence, fact: Fact, implied: bool) -> FactClaim:
        seen = any(
            agree(fact, other)
            for text, method in texts.candidates.items()
            if method == "caption" and text in self._sentences
            for other, _ in stated(self._sentences[text])
        )
        prompted = any(agree(fact, other) for other in self._sentences[texts.scene].facts)
        origin = {(True, True): "both", (True, False): "caption", (False, True): "prompt"}.get((seen, prompted))
        if names_person(fact, self._people[sentence.text]):
            return FactClaim(texts.picture, fact, sentence.text, origin=origin or "neither", person=True)
        rivals = tuple(text for _, text in self.rivals(sentence, fact, texts.picture)) if self._needs_rivals else ()
        return FactClaim(texts.picture, fact, sentence.text, rivals, origin or "neither", implied=implied)

    @property
    def _needs_rivals(self) -> bool:
        return any(witness.name == "clip" for witness in self.witnesses)

    def _false_claims(self, texts: PictureTexts) -> Iterator[FactClaim]:
        """Facts of other pictures in the place of facts on which a caption and the prompt agree."""
        count = 0
        for claim in list(texts.claims.values()):
            if (
                claim.origin != "both"
                or claim.sentence is None
                or claim.implied
                or claim.person
                or count == _FALSE_PER_PICTURE
            ):
                continue
            sentence = self._sentences[claim.sentence]
            changed = self.rivals(sentence, claim.fact, texts.picture)
            for fact, text in changed:
                if fact is None or any(agree(fact, other.fact) for other in texts.claims.values()):
                    continue
                rivals = (sentence.text, *(other for _, other in changed if other != text))
                yield FactClaim(texts.picture, fact, text, rivals)
                count += 1
                break

    def _ask(self, claims: Sequence[FactClaim]) -> None:
        for witness in self.witnesses:
            witness.ask([claim for claim in claims if witness.name not in claim.scores and not claim.person])

    def _scores(self, claims: Sequence[FactClaim]) -> FactScores:
        scores = [[claim.scores.get(one.name, np.nan) for one in self.witnesses] for claim in claims]
        return FactScores(
            np.array(scores, float).reshape(len(claims), len(self.witnesses)),
            np.array([_kind(claim.fact) for claim in claims], str),
            np.array([claim.origin for claim in claims], str),
        )

    def _believe(self, claims: Sequence[FactClaim]) -> None:
        for claim, belief in zip(claims, self.calibration.probabilities(self._scores(claims)), strict=True):
            claim.belief = float(belief)

    def _together(self, one: FactClaim, other: FactClaim) -> bool:
        """Whether one sentence makes both claims: a car may be red and white."""
        return one.sentence is not None and one.sentence == other.sentence


def _disregard_unseen(pictures: Sequence[PictureTexts]) -> None:
    """A prompt names things and styles that no picture shows ("octane render"). Those of which no caption of these
    pictures speaks count as stated by nobody."""
    spoken: dict[str, set[str]] = {"entity": set(), "style": set()}
    for texts in pictures:
        for claim in texts.claims.values():
            if claim.fact.kind in spoken and claim.origin in ("both", "caption"):
                spoken[claim.fact.kind] |= topics(claim.fact)
    for texts in pictures:
        for claim in texts.claims.values():
            seen = spoken.get(claim.fact.kind)
            if claim.origin == "prompt" and seen is not None and not topics(claim.fact) & seen:
                claim.origin = "neither"


def _dispute(claims: list[FactClaim]) -> None:
    """Where a caption names one thing and the prompt another, either is likelier to err than where only one speaks.
    Things, actions and styles are compared with all of their kind, what is said of a thing with what else is."""

    def about(claim: FactClaim) -> tuple[str, ...]:
        return (claim.fact.kind,) if claim.fact.kind in ("entity", "action", "style") else slot(claim.fact)

    sides = {origin: {about(one) for one in claims if one.origin == origin} for origin in ("caption", "prompt")}
    disputed = sides["caption"] & sides["prompt"]
    for claim in claims:
        if claim.origin in sides and about(claim) in disputed and not claim.implied:
            claim.origin = f"disputed {claim.origin}"


def _depend(claims: Iterable[FactClaim]) -> None:
    """What is said of a thing is no more probable than that the thing is there (DSG, arXiv 2310.18235, section 3)."""
    claims = list(claims)
    things: dict[str, float] = {}
    for claim in claims:
        if (
            claim.fact.kind == "entity"
            and claim.scores
            and not claim.fact.negated
            and head(claim.fact.of) not in GROUNDS
        ):
            things[head(claim.fact.of)] = max(claim.belief, things.get(head(claim.fact.of), 0.0))
    for claim in claims:
        if claim.fact.kind not in ("entity", "style", "text"):
            about = (things.get(head(phrase), 1.0) for phrase in (claim.fact.of, claim.fact.to or ""))
            claim.belief = min(claim.belief, *about)


def _kind(fact: Fact) -> str:
    """What witnesses are measured by: attributes by what they are about, as far as that is common."""
    return fact.aspect if fact.kind == "attribute" and fact.aspect == "colour" else fact.kind


def _exclude(claims: list[FactClaim], together: Callable[[FactClaim, FactClaim], bool]) -> None:
    """Divide the probability of claims that exclude each other: a picture of two cats does not show three."""
    slots: dict[tuple[str, ...], list[FactClaim]] = {}
    for claim in claims:
        if exclusive(claim.fact) and not claim.fact.negated:
            slots.setdefault(slot(claim.fact), []).append(claim)
    for rivals in slots.values():
        odds = [claim.belief / max(1e-9, 1 - claim.belief) for claim in rivals]
        beliefs = []
        for claim, own in zip(rivals, odds, strict=True):
            others = sum(
                odd
                for other, odd in zip(rivals, odds, strict=True)
                if other is not claim and not agree(other.fact, claim.fact) and not together(other, claim)
            )
            beliefs.append(own / (1 + own + others))
        for claim, belief in zip(rivals, beliefs, strict=True):
            claim.belief = belief
