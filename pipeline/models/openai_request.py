"""How a question is put to an OpenAI-compatible server: the body of the request, and what to change after a refusal."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any

from surd.pipeline.models.openai_answers import Refused
from surd.pipeline.models.sent_picture import SentPicture

#: What servers call the most tokens of an answer, the usual name first: OpenAI's newer models refuse that one.
_LIMITS = ("max_tokens", "max_completion_tokens")
_FEWER_LOGPROBS = 5  # what servers allow that do not allow 20
_TOO_LARGE = re.compile(
    r"too (?:large|big|long|many)|exceed|(?:larger|longer|greater|bigger|more) than|maximum|max_", re.IGNORECASE
)
_OF_A_PICTURE = re.compile(
    r"image|picture|pixel|payload|\brequest\b|body|content|prompt|context|input|token", re.IGNORECASE
)
_FILTERED = re.compile(r"content[ _]?(?:filter|policy|management)|safety|moderation|responsible ai", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Question:
    """The payload of a chat completion, with the most tokens of the answer as ``max_tokens``.

    ``picture``: what it is about; in the payload stands its ``name`` instead of the data URL.
    """

    payload: dict[str, Any]
    picture: SentPicture | None = None


class Dialect:
    """What a server does not take, learnt from its refusals and left out from then on.

    ``lenient``: that may be seed and logprobs too, and not only the usual name of the token limit.
    """

    def __init__(self, lenient: bool) -> None:
        self.lenient = lenient
        self.limit = _LIMITS[0]
        self.changes: dict[str, Any] = {}  # field -> its value; None: the field is left out

    def request(self) -> Request:
        return Request(self)


class Request:
    """One question's ways to be asked: each refusal may lead to another, and none is taken twice."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._limit, self._changes = dialect.limit, dict(dialect.changes)
        self._limits = {self._limit}

    async def body(self, question: Question) -> bytes:
        """The JSON of the request, with the data URL of the picture in the place of its name.

        Raises UnreadablePicture.
        """
        document = json.dumps(self._payload(question), separators=(",", ":"), allow_nan=False).encode()
        if question.picture is None:
            return document
        # Texts cannot hold this mark: their quotes are escaped.
        before, _, after = document.partition(f'"url":"{question.picture.name}"'.encode())
        url = question.picture.stored_url()
        if url is None:
            url = await asyncio.to_thread(question.picture.encoded_url)
        return b"".join((before, b'"url":"', url, b'"', after))

    def change(self, error: Refused, question: Question) -> bool:
        """Whether there is another way to ask what was refused so; it is taken for all questions that follow."""
        dialect, payload, code = self._dialect, self._payload(question), error.response.status_code
        other = next((name for name in _LIMITS if name not in self._limits), None)
        if code == 400 and other and other in str(error):
            self._limit = dialect.limit = other
            self._limits.add(other)
            return True
        if not dialect.lenient or code not in (400, 422):
            return False
        if "logprobs" in error.words and payload.get("top_logprobs", 0) > _FEWER_LOGPROBS:
            change: dict[str, Any] = {"top_logprobs": _FEWER_LOGPROBS}
        elif "logprobs" in error.words and "logprobs" in payload:
            change = {"logprobs": None, "top_logprobs": None}
        elif "seed" in error.words and "seed" in payload:
            change = {"seed": None}
        else:
            return False
        self._changes |= change
        left_out = {name for name, value in dialect.changes.items() if value is None}
        dialect.changes |= {name: value for name, value in change.items() if name not in left_out}
        return True

    def _payload(self, question: Question) -> dict[str, Any]:
        named = {self._limit if name == _LIMITS[0] else name: value for name, value in question.payload.items()}
        values = {name: self._changes.get(name, value) for name, value in named.items()}
        return {name: value for name, value in values.items() if value is not None}


def is_too_large(error: Refused) -> bool:
    """Whether a server refuses what it was sent for its size."""
    code, words = error.response.status_code, error.words
    return code == 413 or (code in (400, 422) and bool(_TOO_LARGE.search(words) and _OF_A_PICTURE.search(words)))


def is_about_picture(error: Refused) -> bool:
    """Whether it is this picture that a server refuses, for its size or for what it shows."""
    code, words = error.response.status_code, error.words
    return is_too_large(error) or (code in (400, 422) and bool(_FILTERED.search(words)))
