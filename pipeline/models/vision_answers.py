"""What a vision server answers about a picture: a text, and how probable "yes" was for its first word."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from surd.pipeline.models.answer_text import plain_text
from surd.pipeline.models.chat import Reply, reply_of
from surd.pipeline.models.openai_answers import UnusableAnswer, first_choice
from surd.pipeline.models.openai_client import AnswerFormat

TOP_LOGPROBS = 20  # the most that OpenAI's API and vLLM give unless they are told otherwise
_SHOWN = 80
#: What stands around a word in a token: spaces, those of SentencePiece and byte-level BPE, quotes, stops, Markdown.
_AROUND = " \t\r\n▁ĠĊ\"'`*_.,:;!?()[]{}<>#|-"

_SPECIAL = re.compile(r"\s*<[^<>]*>\s*")  # <s>, <|im_start|>


@dataclass(frozen=True, kw_only=True)
class VisionAnswer:
    """A text, or the reason why it is missing. ``cut``: it stopped at the token limit.

    ``first``: (token, natural logarithm of its probability) of what the first word could have been, the likeliest
    first; empty where the server gave none.
    """

    text: str | None = None
    why: str | None = None
    cut: bool = False
    first: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class YesNo:
    """``p``: the probability of "yes", against "no"; None where there is no answer, and then ``why``.

    ``calibrated``: False where it is only what the answer said, 1 or 0, because the server gave no logprobs.
    """

    p: float | None = None
    why: str | None = None
    calibrated: bool = True


class VisionAnswers(AnswerFormat[VisionAnswer]):
    """Kept as they came, so that a better reading of an answer needs no new one."""

    def read(self, body: bytes) -> VisionAnswer:
        choice = first_choice(body)
        message = choice.get("message")
        if not isinstance(message, dict):
            raise UnusableAnswer("has no message at choices[0].message")
        if isinstance(refusal := message.get("refusal"), str) and refusal.strip():
            return VisionAnswer(why=f"the model refused: {_shown(refusal)}")
        text = _text(message.get("content"))
        if choice.get("finish_reason") == "content_filter":
            return VisionAnswer(why="the server's content filter left out the answer")
        if text is None:
            raise UnusableAnswer("has no text at choices[0].message.content")
        reply = reply_of(text, cut=choice.get("finish_reason") == "length")
        return _answer(reply, tuple(_first_word(choice.get("logprobs"))))

    def missing(self, why: str) -> VisionAnswer:
        return VisionAnswer(why=why)

    def dump(self, answer: VisionAnswer) -> str:
        return json.dumps(vars(answer), ensure_ascii=True, separators=(",", ":"))

    def load(self, document: str) -> VisionAnswer | None:
        try:
            kept = VisionAnswer(**json.loads(document))
            first = tuple((str(token), float(logprob)) for token, logprob in kept.first)
        except (ValueError, TypeError, RecursionError):
            return None
        if isinstance(kept.text, str):
            return _answer(reply_of(kept.text, cut=bool(kept.cut)), first)
        return VisionAnswer(why=plain_text(kept.why)) if isinstance(kept.why, str) else None


def yes_no(answer: VisionAnswer) -> YesNo:
    """The probability of "yes" in an answer that begins with yes or no.

    P(yes) / (P(yes) + P(no)) over all ways to write them that the server lists for the first word. Where it lists only
    one of them, the other counts with the most that it can have: no more than the least one listed, and than all the
    rest together. An answer that begins with anything else is none: its small shares of yes and no say little.
    """
    if answer.text is None:
        return YesNo(why=answer.why)
    word = next(iter(answer.text.split()), "").strip(_AROUND).casefold()
    if word not in ("yes", "no"):
        shown = _shown(answer.text)
        return YesNo(why=f"it answered neither yes nor no: {shown}" if shown else "it answered nothing")
    shares = {"yes": 0.0, "no": 0.0}
    for token, logprob in answer.first:
        if (name := token.strip(_AROUND).casefold()) in shares:
            shares[name] += math.exp(min(logprob, 0.0))
    if not any(shares.values()):
        return YesNo(p=float(word == "yes"), calibrated=False)
    listed = [math.exp(min(logprob, 0.0)) for _, logprob in answer.first]
    unlisted = min(listed[-1] if len(listed) > 1 else 1.0, max(0.0, 1.0 - math.fsum(listed)))
    yes, no = (share or unlisted for share in (shares["yes"], shares["no"]))
    return YesNo(p=yes / (yes + no))


def _answer(reply: Reply, first: tuple[tuple[str, float], ...]) -> VisionAnswer:
    return VisionAnswer(text=reply.text, why=reply.why, cut=reply.cut, first=first)


def _text(content: Any) -> str | None:
    """The text of a message: a string, or the text parts of a list."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        texts = [part for part in parts if isinstance(part, str)]
        return "".join(texts) if texts else None
    return content if isinstance(content, str) else None


def _first_word(logprobs: Any) -> Iterator[tuple[str, float]]:
    """The candidates for the first token that has a letter in it: (token, logprob), the likeliest first."""
    positions = logprobs.get("content") if isinstance(logprobs, dict) else None
    for position in positions if isinstance(positions, list) else ():
        token = position.get("token") if isinstance(position, dict) else None
        if isinstance(token, str) and not _SPECIAL.fullmatch(token) and any(mark.isalnum() for mark in token):
            top = position.get("top_logprobs")
            listed = [*_pairs(top if isinstance(top, list) else []), *_pairs([position])]
            yield from sorted(dict(listed).items(), key=lambda pair: -pair[1])[:TOP_LOGPROBS]
            return


def _pairs(candidates: list[Any]) -> Iterator[tuple[str, float]]:
    for one in candidates:
        if isinstance(one, Mapping) and isinstance(one.get("token"), str):
            logprob = one.get("logprob")
            if isinstance(logprob, int | float) and not isinstance(logprob, bool) and abs(logprob) < 1e6:
                yield _plain_token(one["token"]), float(logprob)


def _plain_token(token: str) -> str:
    """A token that can be stored; the spaces around it stay, by which tokens differ."""
    return token.encode("utf-8", "replace").decode()[:_SHOWN]


def _shown(text: str) -> str:
    words = " ".join(plain_text(text).split())
    return words if len(words) <= _SHOWN else f"{words[: _SHOWN - 3]}..."
