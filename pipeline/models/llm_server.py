"""The LLM behind an OpenAI-compatible server (vLLM, llama.cpp, transformers serve ...)."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import httpx

from surd.pipeline import untrusted_json
from surd.pipeline.models.answer_cache import AnswerCache
from surd.pipeline.models.answer_text import plain_text
from surd.pipeline.models.chat import Chat, ChatModel, Reply, reply_of
from surd.pipeline.net.retry import attempts, client_settings, describe
from surd.pipeline.net.urls import redact_secrets
from surd.schemas import SurdError
from surd.schemas.config import ServerConfig
from surd.schemas.errors import one_line
from surd.schemas.model_ref import ServerRef

KEY_VARIABLE = "SURD_LLM_API_KEY"
#: What servers call the most tokens of an answer, the usual name first.
_LIMITS = ("max_tokens", "max_completion_tokens")
_KEYS = re.compile(r"\b(?:sk|pk|hf|gsk|xai|AIza|Bearer)[-_ ][\w.*-]{6,}|\bAIza[\w-]{10,}")
_MOST_OF_MESSAGE = 200
_SECONDS = 5.0  # for a server to say that it is there
_MAX_BYTES = 1_000_000  # of one answer: a sentence is never longer
_USER_ERRORS = {
    401: f"set the environment variable {KEY_VARIABLE} to a valid key",
    403: f"set the environment variable {KEY_VARIABLE} to a key that may use this model",
    404: "check the path, which usually ends in /v1, and the model's name",
    405: "check the path, which usually ends in /v1",
}


class UnusableAnswer(Exception):
    """An answer that does not follow the protocol."""


class _Refused(httpx.HTTPStatusError):
    """An error status, with what the server itself says of it."""

    def __init__(self, response: httpx.Response, body: bytes) -> None:
        status = f"HTTP {response.status_code} {response.reason_phrase}".strip()
        message = _message(body)
        super().__init__(f"{status}: {message}" if message else status, request=response.request, response=response)


class LLMServer(ChatModel):
    """``openai:http://host:port/v1#model``: its chat completions, several requests at once, answers cached.

    A prompt that gets no usable answer (a wrongly shaped one, or none after all tries) is a reply with a reason. A
    server that cannot be reached, or that answers nothing at all, is a user error: SurdError. Earlier answers are
    in the cache, so a build that is run again continues from there.
    """

    def __init__(self, ref: ServerRef, settings: ServerConfig) -> None:
        self._ref, self._settings = ref, settings
        self._url = f"{ref.url}/chat/completions"
        self._cache = AnswerCache(settings.cache)
        self._has_answered = False
        self._limit = _LIMITS[0]

    def replies(
        self,
        chats: Sequence[Chat],
        max_new_tokens: int,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        batch_size: int = 32,
    ) -> list[Reply]:
        """See ChatModel. ``batch_size`` has no meaning here: ``server.concurrency`` requests are under way at once.

        Raises SurdError when the server cannot be reached, refuses the key or the model, or answers no prompt at all.
        """
        payloads = [
            {
                "model": self._ref.model,
                "messages": list(chat),
                "max_tokens": max_new_tokens,
                "temperature": temperature,
                "seed": seed,
                "stream": False,
            }
            for chat in chats
        ]
        keys = [self._cache.key(self._url, payload) for payload in payloads]
        found = self._cache.read(keys)
        asked = {key: payload for key, payload in zip(keys, payloads, strict=True) if key not in found}
        if asked:
            found |= asyncio.run(self._ask_all(asked))
        return [found[key] for key in keys]

    async def _ask_all(self, payloads: dict[str, dict[str, Any]]) -> dict[str, Reply]:
        slots = asyncio.Semaphore(self._settings.concurrency)
        settings = client_settings(self._settings.timeout)
        settings["headers"] |= _authorization()
        found: dict[str, Reply] = {}
        silent: list[str] = []  # why the server itself failed a prompt, in the order it did

        async def one(name: str, payload: dict[str, Any]) -> None:
            async with slots:
                try:
                    found[name] = await self._ask(client, payload)
                    self._cache.write(name, found[name])
                except UnusableAnswer as error:
                    found[name] = Reply(why=f"the server's answer {error}")
                except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, json.JSONDecodeError) as error:
                    self._raise_user_error(error)
                    why = str(error) if isinstance(error, _Refused) else describe(error)
                    found[name] = Reply(why=f"the server gave no answer: {why}")
                    silent.append(why)

        async with httpx.AsyncClient(**settings) as client:
            try:
                async with asyncio.TaskGroup() as tasks:
                    for name, payload in payloads.items():
                        tasks.create_task(one(name, payload))
            except ExceptionGroup as group:
                raise group.exceptions[0] from None
        self._has_answered |= len(silent) < len(payloads)
        if len(silent) == len(payloads) and (len(silent) > 1 or not self._has_answered):
            raise SurdError(
                f"models.llm: the server at {self._ref.url} answered none of {len(silent)} prompts ({silent[-1]});"
                " see its log, and run again: what it answered before is kept"
            )
        return found

    async def _ask(self, client: httpx.AsyncClient, payload: dict[str, Any]) -> Reply:
        """One prompt's reply, asked with the name of the token limit that this server knows."""
        limit = self._limit
        try:
            return await self._try(client, _limited(payload, limit))
        except _Refused as error:
            other = next(name for name in _LIMITS if name != limit)
            if error.response.status_code != 400 or other not in str(error):
                raise
            self._limit = other  # for all that follow; the cache knows answers by the first name
            return await self._try(client, _limited(payload, other))

    async def _try(self, client: httpx.AsyncClient, payload: dict[str, Any]) -> Reply:
        """One prompt's reply, with retries. ``settings.timeout`` is for each try as a whole."""
        async for attempt in attempts(self._settings.retries):
            with attempt:
                async with (
                    asyncio.timeout(self._settings.timeout),
                    client.stream("POST", self._url, json=payload) as response,
                ):
                    body = bytearray()
                    async for chunk in response.aiter_bytes():
                        body += chunk
                        if len(body) > _MAX_BYTES:
                            raise UnusableAnswer(f"is longer than {_MAX_BYTES:,} bytes")
                    if response.is_error:
                        raise _Refused(response, bytes(body))
                    response.raise_for_status()
                return read_reply(bytes(body))
        raise AssertionError("attempts yields at least once")

    def _raise_user_error(self, error: Exception) -> None:
        """Raises SurdError for a failure that every other prompt would meet too."""
        if isinstance(error, httpx.HTTPStatusError):
            code = error.response.status_code
            if code in _USER_ERRORS:
                said = f" ({error})" if isinstance(error, _Refused) and ": " in str(error) else ""
                raise SurdError(
                    f"models.llm: the server at {self._ref.url} answered HTTP {code} for model {self._ref.model!r}"
                    f"{said}; {_USER_ERRORS[code]}"
                )
        elif isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.UnsupportedProtocol):
            raise _unreachable(self._ref, error)


def check_server(ref: ServerRef) -> None:
    """Raises SurdError when no server answers at all, or it refuses the key; what its list of models says is not asked,
    since many servers answer to any name."""
    settings = client_settings(_SECONDS)
    settings["headers"] |= _authorization()
    with suppress(httpx.HTTPError), httpx.Client(**settings) as client:
        try:
            status = client.get(f"{ref.url}/models").status_code
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise _unreachable(ref, error) from None
        if status in (401, 403):
            raise SurdError(f"models.llm: the server at {ref.url} answered HTTP {status}; {_USER_ERRORS[status]}")


def _unreachable(ref: ServerRef, error: Exception) -> SurdError:
    return SurdError(f"models.llm: no server answers at {ref.url} ({describe(error)}); start it, or name another model")


def _authorization() -> dict[str, str]:
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()):  # httpx would print it in its complaint
        raise SurdError(f"the environment variable {KEY_VARIABLE} has characters no API key has; set it again")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _limited(payload: dict[str, Any], name: str) -> dict[str, Any]:
    """A payload whose token limit is called ``name``: OpenAI's newer models refuse ``max_tokens``."""
    return {name if key == _LIMITS[0] else key: value for key, value in payload.items()}


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


def read_reply(body: bytes) -> Reply:
    """The reply in a chat completion. Raises UnusableAnswer with the reason, and JSONDecodeError when it is no JSON."""
    document = _document(body)
    if not isinstance(document, dict):
        raise UnusableAnswer("is no JSON object")
    choices = document.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise UnusableAnswer("has no choices")
    message = choices[0].get("message")
    if not isinstance(message, dict) or not isinstance(message.get("content"), str):
        raise UnusableAnswer("has no text at choices[0].message.content")
    return reply_of(message["content"], cut=choices[0].get("finish_reason") == "length")
