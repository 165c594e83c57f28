"""Paraphrases of plain sentences by rules, so that the trained model does not learn a single wording by heart."""

from __future__ import annotations

import random
import re
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from surd.pipeline.sentences.lexicon import Lexicon, LexiconFact
from surd.pipeline.sentences.yaml_file import read_yaml
from surd.schemas.paths import absolute

DEFAULT = Path(__file__).with_name("wordings.yaml")
_BLANK = r"([\w-]+(?: [\w-]+){0,2}?)"
_VERB = re.compile(r"\b(?:is|are|was|were|has|have|there)\b", re.IGNORECASE)
_LONE = ("a", "one", "a single")


class ParaphraseRules(BaseModel):
    """The ways in which a sentence may be worded (see ``wordings.yaml``)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1]
    frames: tuple[str, ...] = Field(default=("{}",), min_length=1)
    phrases: tuple[tuple[str, ...], ...] = ()
    forms: tuple[str, ...] = ()

    @field_validator("frames")
    @classmethod
    def _frames_hold_the_sentence(cls, frames: tuple[str, ...]) -> tuple[str, ...]:
        for frame in frames:
            if frame.count("{}") != 1:
                raise ValueError(f"{frame!r} must hold {{}} once")
        return frames

    @field_validator("phrases")
    @classmethod
    def _phrases_are_alike(cls, phrases: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        for group in phrases:
            if len(group) < 2 or len({phrase.count("{}") for phrase in group}) > 1 or group[0].count("{}") > 1:
                raise ValueError(f"{list(group)} must be two phrases or more, all with {{}} once or all without")
        return phrases

    def paraphrase(self, sentence: str, lexicon: Lexicon, rng: random.Random) -> str:
        """``sentence`` in a wording that ``rng`` chooses; what no rule matches stays as it is."""
        plain = sentence.rstrip(" .")
        if not plain:
            return sentence
        for group in self.phrases:
            plain = _swap_phrase(plain, group, rng)
        for name in self.forms:
            plain = _other_form(plain, name, lexicon, rng)
        counts = [fact for fact in lexicon.facts(plain) if lexicon.is_number(fact)]
        if len(counts) == 1:
            plain = _other_article(plain, counts[0], rng)
        if counts and counts[0].start == 0 and not _VERB.search(plain):
            frame = rng.choice(self.frames).replace("{be}", "are" if counts[0].plural else "is")
            plain = frame.replace("{}", plain[0].lower() + plain[1:])
        return f"{plain[0].upper()}{plain[1:]}{'' if plain[-1] in '!?' else '.'}"


def _swap_phrase(sentence: str, group: tuple[str, ...], rng: random.Random) -> str:
    """Replaces the first phrase of a group that occurs in ``sentence`` by another of the group."""
    for phrase in group:
        pattern = r"\b" + re.escape(phrase).replace(r"\{\}", _BLANK) + r"\b"
        if match := re.search(pattern, sentence, re.IGNORECASE):
            other = rng.choice(group).replace("{}", match.group(1) if match.groups() else "")
            return sentence[: match.start()] + other + sentence[match.end() :]
    return sentence


def _other_form(sentence: str, group: str, lexicon: Lexicon, rng: random.Random) -> str:
    """Replaces the first fact of a lexicon group by any of its forms."""
    fact = next((fact for fact in lexicon.facts(sentence) if fact.group == group), None)
    if fact is None:
        return sentence
    return sentence[: fact.start] + rng.choice(lexicon.groups[group].values[fact.value]) + sentence[fact.end :]


def _other_article(sentence: str, count: LexiconFact, rng: random.Random) -> str:
    """Replaces "a" by "one" or "a single", or keeps it."""
    if sentence[count.start : count.end].lower() not in ("a", "an"):
        return sentence
    article = rng.choice(_LONE)
    return sentence if article == "a" else sentence[: count.start] + article + sentence[count.end :]


def paraphrase_rules_file(path: str | None) -> Path:
    """The file of the rules; None: the one that ships."""
    return absolute(path) if path else DEFAULT


@lru_cache(maxsize=4)
def read_paraphrase_rules(path: str | None) -> ParaphraseRules:
    """The rules in a YAML file; None: those that ship. Raises SurdError with line and column of an error."""
    return read_yaml(paraphrase_rules_file(path), ParaphraseRules, "correct.wordings")
