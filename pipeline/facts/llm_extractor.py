"""Facts by a language model, in the manner of DSG (arXiv 2310.18235): asked for as lines, checked against the text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from surd.pipeline.facts.fact import Fact, Kind
from surd.pipeline.facts.vocabulary import vocabulary
from surd.pipeline.models.chat import ChatModel, Message, Reply
from surd.pipeline.models.counting import OnDone, uncounted
from surd.schemas.errors import SurdError, one_line

DEFAULT = Path(__file__).with_name("llm_template.yaml")
_MOST_CHARS = 2000
_MOST_TOKENS = 512
_MOST_UNFOUND = 1 / 3  # of an answer's facts whose words the text does not hold; with more, the answer is not used
_MARKUP = re.compile(r"[<>]|\[/?INST\]", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_ENDINGS = ("ing", "ed", "es", "s", "e")
_NAMES = {"men": "man", "women": "woman", "people": "person", "children": "child", "feet": "foot", "teeth": "tooth"}
_FIELDS = {"entity": (2, 2), "attribute": (3, 3), "count": (3, 3), "relation": (4, 4), "action": (3, 4), "text": (3, 3),
           "style": (3, 3)}  # fmt: skip


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FactsExample(_Part):
    """A text, and its facts as lines."""

    text: str = Field(min_length=1)
    facts: str = Field(min_length=1)


class FactsTemplate(_Part):
    """System message, question and examples (see ``llm_template.yaml``)."""

    version: Literal[1]
    system: str = Field(min_length=1)
    ask: str
    examples: tuple[FactsExample, ...] = ()

    @field_validator("ask")
    @classmethod
    def _holds_the_text_once(cls, ask: str) -> str:
        if ask.count("{text}") != 1:
            raise ValueError("it must hold {text} once")
        return ask

    def chat(self, text: str) -> list[Message]:
        """The few-shot conversation that ends with the text."""
        messages = [{"role": "system", "content": self.system}]
        for example in self.examples:
            messages.append({"role": "user", "content": self._question(example.text)})
            messages.append({"role": "assistant", "content": example.facts.strip()})
        return [*messages, {"role": "user", "content": self._question(text)}]

    def _question(self, text: str) -> str:
        return self.ask.replace("{text}", " ".join(_MARKUP.sub(" ", text[:_MOST_CHARS]).split()))


class UnusableFacts(Exception):
    """An answer that is not a list of facts of the text, and why."""


@lru_cache(maxsize=4)
def read_facts_template(path: str | None) -> FactsTemplate:
    """The template in a YAML file; None: the shipped one. Raises SurdError naming ``facts.template``."""
    file = DEFAULT if path is None else Path(path)
    try:
        return FactsTemplate.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise SurdError(
            f"facts.template is {path!r}: it cannot be read ({one_line(error)}); give a YAML file"
        ) from None
    except yaml.YAMLError as error:
        raise SurdError(f"facts.template is {path!r}: it is not YAML ({one_line(error)}); repair the file") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise SurdError(f"facts.template is {path!r}: {field}: {first['msg']}; repair the file") from None


def ask_for_facts(
    texts: Sequence[str], llm: ChatModel, template: FactsTemplate, on_done: OnDone = uncounted
) -> list[tuple[Fact, ...] | str]:
    """For each text its facts, or the reason why the LLM's answer cannot be used."""
    replies = llm.replies([template.chat(text) for text in texts], _MOST_TOKENS, on_done=on_done)
    return [_facts_or_reason(reply, text) for reply, text in zip(replies, texts, strict=True)]


def _facts_or_reason(reply: Reply, text: str) -> tuple[Fact, ...] | str:
    if reply.text is None:
        return reply.why or "no answer"
    if reply.cut:
        return f"the answer did not end within {_MOST_TOKENS} tokens"
    try:
        return read_facts(reply.text, text)
    except UnusableFacts as error:
        return str(error)


def read_facts(answer: str, text: str) -> tuple[Fact, ...]:
    """The facts of an answer, each located in the text; those whose words are not in it are left out.

    Raises UnusableFacts if a line is not a fact, if no fact is left, or if more than a third had to be left out.
    """
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    place = _Places(text)
    facts = [_fact(line, place) for line in lines]
    found = tuple(dict.fromkeys(fact for fact in facts if fact is not None))
    if not found:
        raise UnusableFacts("the answer states nothing that the text states")
    if len(facts) - sum(fact is not None for fact in facts) > _MOST_UNFOUND * len(facts):
        raise UnusableFacts("more than a third of the answer's facts are not in the text")
    return found


def _fact(line: str, place: _Places) -> Fact | None:
    parts = [part.strip() for part in line.removeprefix("!").split("|")]
    kind = parts[0].lower()
    if kind not in get_args(Kind):
        raise UnusableFacts(f"the answer has a line that is not a fact: {line[:80]!r}")
    least, most = _FIELDS[kind]
    if not least <= len(parts) <= most or (kind != "style" and not parts[1]) or not all(parts[2:3]):
        raise UnusableFacts(f"the answer has a line of a wrong form: {line[:80]!r}")
    of, value = parts[1], parts[2] if least > 2 else ""
    to = parts[3] if len(parts) == 4 and parts[3] else None
    of_span, value_span = place.of(of), place.of(value if value else of)
    if (
        value_span is None
        or (of and of_span is None)
        or (to and place.of(to) is None)
        or (kind == "relation" and not to)
    ):
        return None
    head = place.head(of) if of else None
    return Fact(
        kind=kind,  # type: ignore[arg-type]
        of=place.text[slice(*of_span)] if of_span and of else "",
        value=place.text[slice(*value_span)] if value else "", to=to, start=value_span[0], end=value_span[1],
        of_start=head[0] if head else -1, of_end=head[1] if head else -1, plural=bool(head) and _is_plural(of),
        aspect=_aspect(kind, of, value), negated=line.startswith("!"),
    )  # fmt: skip


def _aspect(kind: str, of: str, value: str) -> str:
    words = vocabulary()
    if kind == "entity":
        return "part" if of.lower().split()[-1] in words.parts else "whole"
    return words.aspects.get(value.lower(), "") if kind == "attribute" else ""


def _is_plural(of: str) -> bool:
    last = of.lower().split()[-1]
    return (last.endswith("s") and not last.endswith("ss")) or last in ("people", "men", "women", "children")


class _Places:
    """Where phrases stand in a text, inflection aside."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._spans = [match.span() for match in _WORD.finditer(text)]
        self._stems = [_stem(text[start:end]) for start, end in self._spans]

    def of(self, phrase: str) -> tuple[int, int] | None:
        """The characters of the phrase's words, one behind the other; None if the text does not hold them so."""
        stems = [_stem(word) for word in _WORD.findall(phrase)]
        count = len(stems)
        for i in range(len(self._stems) - count + 1):
            if stems and self._stems[i : i + count] == stems:
                return self._spans[i][0], self._spans[i + count - 1][1]
        return None

    def head(self, phrase: str) -> tuple[int, int] | None:
        """The characters of the phrase's last word."""
        span = self.of(phrase)
        words = _WORD.findall(phrase)
        if span is None or not words:
            return None
        return next(((start, end) for start, end in self._spans if end == span[1]), None)


def _stem(word: str) -> str:
    word = word.lower()
    word = _NAMES.get(word, word)
    number = vocabulary().numbers.get(word)
    if number is not None:
        return str(number)
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) > 2 and not word.endswith("ss"):
            word = word.removesuffix(ending)
            break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word
