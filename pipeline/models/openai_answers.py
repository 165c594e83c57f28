"""What OpenAI-compatible servers answer to a chat completion: the text, the reasons why there is none, and errors."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

import httpx

from surd.pipeline import untrusted_json
from surd.pipeline.models.answer_text import plain_text
from surd.pipeline.models.chat import Reply, reply_of
from surd.pipeline.net.urls import redact_secrets
from surd.schemas.errors import one_line

KEY_VARIABLE = "SURD_LLM_API_KEY"
_KEYS = re.compile(r"\b(?:sk|pk|hf|gsk|xai|AIza|Bearer)[-_ ][\w.*-]{6,}|\bAIza[\w-]{10,}")
_MOST_OF_MESSAGE = 200


class UnusableAnswer(Exception):
    """An answer that does not follow the protocol."""


class Refused(httpx.HTTPStatusError):
    """An error status, with what the server itself says of it, in its ``words``: "" if nothing."""

    def __init__(self, response: httpx.Response, body: bytes) -> None:
        status = f"HTTP {response.status_code} {response.reason_phrase}".strip()
        self.words = _message(body)
        super().__init__(
            f"{status}: {self.words}" if self.words else status, request=response.request, response=response
        )


def first_choice(body: bytes) -> Mapping[str, Any]:
    """``choices[0]`` of a chat completion. Raises as ``read_reply``."""
    document = _document(body)
    if not isinstance(document, dict):
        raise UnusableAnswer("is no JSON object")
    choices = document.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise UnusableAnswer("has no choices")
    return choices[0]


def read_reply(body: bytes) -> Reply:
    """The reply in a chat completion. Raises UnusableAnswer with the reason, and JSONDecodeError when it is no JSON."""
    choice = first_choice(body)
    message = choice.get("message")
    if not isinstance(message, dict) or not isinstance(message.get("content"), str):
        raise UnusableAnswer("has no text at choices[0].message.content")
    return reply_of(message["content"], cut=choice.get("finish_reason") == "length")


def _document(body: bytes) -> Any:
    """The JSON of an answer. Raises JSONDecodeError when it is none, which is tried again, and UnusableAnswer else."""
    try:
        return untrusted_json.parse(body)
    except json.JSONDecodeError:
        raise
    except UnicodeDecodeError:
        raise UnusableAnswer("is not UTF-8") from None
    except ValueError as error:  # nested too deeply, a number of too many digits
        raise UnusableAnswer(f"is JSON that cannot be read ({one_line(error, 80)})") from None


def _message(body: bytes) -> str:
    """The server's own words for an error, in one line, without control characters and keys."""
    try:
        document = untrusted_json.parse(body)
    except ValueError:
        return ""
    for name in ("error", "message", "detail"):
        if isinstance(document, dict) and document.get(name):
            document = document[name]
            if isinstance(document, dict):
                document = document.get("message") or ""
            break
    text = " ".join(plain_text(document).split()) if isinstance(document, str) else ""
    if key := os.environ.get(KEY_VARIABLE, "").strip():
        text = text.replace(key, "***")
    return _KEYS.sub("***", redact_secrets(text))[:_MOST_OF_MESSAGE]
