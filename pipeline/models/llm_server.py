"""The LLM behind an OpenAI-compatible server (vLLM, llama.cpp, transformers serve ...)."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import httpx

from surd.pipeline.models.answer_cache import AnswerCache
from surd.pipeline.models.chat import Chat, ChatModel, Reply
from surd.pipeline.net.retry import attempts, client_settings, describe
from surd.schemas import SurdError
from surd.schemas.config import ServerConfig
from surd.schemas.model_ref import ServerRef

KEY_VARIABLE = "SURD_LLM_API_KEY"
_SECONDS = 5.0  # for a server to say that it is there
_MAX_BYTES = 1_000_000  # of one answer: a sentence is never longer
_USER_ERRORS = {
    401: f"set the environment variable {KEY_VARIABLE} to a valid key",
    403: f"set the environment variable {KEY_VARIABLE} to a key that may use this model",
    404: "check the path, which usually ends in /v1, and the model's name",
    405: "check the path, which usually ends in /v1",
}


class _Malformed(Exception):
    """An answer that does not follow the protocol."""


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
                except _Malformed as error:
                    found[name] = Reply(why=f"the server's answer {error}")
                except (httpx.HTTPError, TimeoutError, json.JSONDecodeError) as error:
                    self._raise_user_error(error)
                    found[name] = Reply(why=f"the server gave no answer: {describe(error)}")
                    silent.append(describe(error))

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
        """One prompt's reply, with retries. ``settings.timeout`` is for each try as a whole."""
        async for attempt in attempts(self._settings.retries):
            with attempt:
                async with (
                    asyncio.timeout(self._settings.timeout),
                    client.stream("POST", self._url, json=payload) as response,
                ):
                    response.raise_for_status()
                    body = bytearray()
                    async for chunk in response.aiter_bytes():
                        body += chunk
                        if len(body) > _MAX_BYTES:
                            raise _Malformed(f"is longer than {_MAX_BYTES:,} bytes")
                return _reply(json.loads(body))
        raise AssertionError("attempts yields at least once")

    def _raise_user_error(self, error: Exception) -> None:
        """Raises SurdError for a failure that every other prompt would meet too."""
        if isinstance(error, httpx.HTTPStatusError):
            code = error.response.status_code
            if code in _USER_ERRORS:
                raise SurdError(
                    f"models.llm: the server at {self._ref.url} answered HTTP {code} for model {self._ref.model!r};"
                    f" {_USER_ERRORS[code]}"
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


def _reply(document: Any) -> Reply:
    """The reply in a chat completion. Raises _Malformed with the reason."""
    if not isinstance(document, dict):
        raise _Malformed("is no JSON object")
    choices = document.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise _Malformed("has no choices")
    message = choices[0].get("message")
    if not isinstance(message, dict) or not isinstance(message.get("content"), str):
        raise _Malformed("has no text at choices[0].message.content")
    return Reply(text=message["content"], cut=choices[0].get("finish_reason") == "length")
