"""Client of OpenAI-compatible servers: many chat completions at once, retries, and no question asked twice."""

from __future__ import annotations

import asyncio
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack, suppress
from itertools import islice
from typing import Generic, TypeVar

import httpx

from surd.pipeline.models.answer_cache import AnswerCache, OpenAnswers
from surd.pipeline.models.counting import OnDone, uncounted
from surd.pipeline.models.openai_answers import KEY_VARIABLE, Refused, UnusableAnswer
from surd.pipeline.models.openai_request import Dialect, Question, is_about_picture, is_too_large
from surd.pipeline.models.sent_picture import UnreadablePicture
from surd.pipeline.net.retry import attempts, client_settings, describe
from surd.schemas import SurdError
from surd.schemas.config import ServerConfig
from surd.schemas.model_ref import ServerRef

A = TypeVar("A")
_SECONDS = 5.0  # for a server to say that it is there
_MAX_BYTES = 1_000_000  # of one answer: a sentence is never longer
_CHUNK = 32  # questions whose answers are looked up at once
_USER_ERRORS = {
    401: f"set the environment variable {KEY_VARIABLE} to a valid key",
    403: f"set the environment variable {KEY_VARIABLE} to a key that may use this model",
    404: "check the path, which usually ends in /v1, and the model's name",
    405: "check the path, which usually ends in /v1",
}
_JSON = {"Content-Type": "application/json"}


class AnswerFormat(ABC, Generic[A]):
    """What a client's answers are: how they are read, kept in the cache, and what stands for one that is missing."""

    @abstractmethod
    def read(self, body: bytes) -> A:
        """The answer in a completion. Raises UnusableAnswer, which says why, and JSONDecodeError if it is no JSON."""

    @abstractmethod
    def missing(self, why: str) -> A:
        """What stands for an answer that was not got."""

    @abstractmethod
    def dump(self, answer: A) -> str:
        """The document of an answer in the cache."""

    @abstractmethod
    def load(self, document: str) -> A | None:
        """The answer of a document; None where it is damaged: then the question is asked again."""


class OpenAIClient(Generic[A]):
    """Chat completions of one model behind a server, ``server.concurrency`` at once, answers cached.

    A question that gets no usable answer (a wrongly shaped one, or none after all tries) is a missing answer with a
    reason. A server that cannot be reached, or that answers nothing at all, is a user error: SurdError. A request's
    place is taken by the next one when its answer is in the cache, so that of a killed process no more questions are
    asked again than ``server.concurrency``: those under way.

    ``role``: the role of the model, for messages. ``lenient``: fields that a server does not take (seed, logprobs) are
    left out from then on.
    """

    def __init__(
        self, ref: ServerRef, settings: ServerConfig, answers: AnswerFormat[A], *, role: str, lenient: bool = False
    ) -> None:
        self._ref, self._settings, self._answers = ref, settings, answers
        self._field = f"models.{role}"
        self._url = f"{ref.url}/chat/completions"
        self._cache = AnswerCache(settings.cache)
        self._has_answered = False
        self._dialect = Dialect(lenient)

    def ask(self, questions: Iterable[Question], on_done: OnDone = uncounted) -> list[A]:
        """The answers, in order. Equal questions are asked once. ``questions`` are drawn as their turn comes, in
        another thread: of pictures only those of ``server.concurrency`` questions and 64 more are held. ``on_done`` is
        told of answers as they come.

        Raises SurdError when the server cannot be reached, refuses the key or the model, or answers nothing at all.
        """
        return asyncio.run(self._ask_all(questions, on_done))

    async def _ask_all(self, questions: Iterable[Question], on_done: OnDone) -> list[A]:
        order: list[str] = []
        found: dict[str, A] = {}
        under_way: set[str] = set()
        silent: list[str] = []  # why the server itself failed a question, in the order it did
        slots = asyncio.Semaphore(self._settings.concurrency)

        idle: list[httpx.AsyncClient] = []
        clients = self._clients()

        async def one(client: httpx.AsyncClient, key: str, question: Question) -> None:
            try:
                found[key] = await self._answer(client, cache, key, question, silent)
                on_done(1)
            finally:
                idle.append(client)
                slots.release()

        async with self._cache.open() as cache, AsyncExitStack() as connections:
            try:
                async with asyncio.TaskGroup() as tasks:
                    source = iter(questions)
                    following = tasks.create_task(self._draw(source, cache))
                    while drawn := await following:
                        following = tasks.create_task(self._draw(source, cache))  # while these are asked
                        order += [key for key, *_ in drawn]
                        found |= {key: kept for key, _, kept in drawn if kept is not None}
                        for key, question, _ in drawn:
                            if key in found or key in under_way:
                                on_done(1)
                            else:
                                under_way.add(key)
                                await slots.acquire()
                                client = idle.pop() if idle else await connections.enter_async_context(next(clients))
                                tasks.create_task(one(client, key, question))
            except ExceptionGroup as group:
                raise group.exceptions[0] from None
        self._raise_if_silent(silent, len(under_way))
        return [found[key] for key in order]

    async def _draw(self, questions: Iterator[Question], cache: OpenAnswers) -> list[tuple[str, Question, A | None]]:
        """The next questions with their keys, and with their answers if the cache has them."""
        chunk = await asyncio.to_thread(self._keyed, questions)
        documents = await cache.read([key for key, _ in chunk])
        answers = {key: self._answers.load(document) for key, document in documents.items()}
        return [(key, question, answers.get(key)) for key, question in chunk]

    def _keyed(self, questions: Iterator[Question]) -> list[tuple[str, Question]]:
        return [(self._cache.key(self._url, question.payload), question) for question in islice(questions, _CHUNK)]

    def _clients(self) -> Iterator[httpx.AsyncClient]:
        """Clients of one connection each. A pool looks at all of its connections for every request: 64 requests at once
        took 2.6 times as long through one pool as through 64 clients."""
        settings = client_settings(self._settings.timeout)
        settings["headers"] |= _authorization()
        tls = httpx.create_ssl_context()  # the certificates are read once
        while True:
            yield httpx.AsyncClient(**settings, verify=tls, limits=httpx.Limits(max_connections=1))

    async def _answer(
        self, client: httpx.AsyncClient, cache: OpenAnswers, key: str, question: Question, silent: list[str]
    ) -> A:
        """One question's answer, which is in the cache then, or what stands for a missing one."""
        try:
            answer = await self._ask(client, question)
        except UnreadablePicture as error:
            return self._answers.missing(str(error))
        except UnusableAnswer as error:
            return self._answers.missing(f"the server's answer {error}")
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, json.JSONDecodeError) as error:
            self._raise_user_error(error)
            why = str(error) if isinstance(error, Refused) else describe(error)
            if not (question.picture and isinstance(error, Refused) and is_about_picture(error)):
                silent.append(why)
            return self._answers.missing(f"the server gave no answer: {why}")
        cache.write(key, self._answers.dump(answer))
        return answer

    async def _ask(self, client: httpx.AsyncClient, question: Question) -> A:
        """One question's answer, asked in the way that this server takes it, and about a smaller picture if it must be.

        What a server does not take counts for all questions that follow; the cache knows questions by their first form.
        """
        request, picture = self._dialect.request(), question.picture
        while True:
            size = picture.longest if picture else 0
            try:
                return await self._try(client, await request.body(question))
            except Refused as error:
                if request.change(error, question):
                    continue
                if not (picture and (picture.longest != size or (is_too_large(error) and picture.halve()))):
                    raise

    async def _try(self, client: httpx.AsyncClient, body: bytes) -> A:
        """One question's answer, with retries. ``settings.timeout`` is for each try as a whole."""
        async for attempt in attempts(self._settings.retries):
            with attempt:
                async with (
                    asyncio.timeout(self._settings.timeout),
                    client.stream("POST", self._url, content=body, headers=_JSON) as response,
                ):
                    answer = bytearray()
                    async for chunk in response.aiter_bytes():
                        answer += chunk
                        if len(answer) > _MAX_BYTES:
                            raise UnusableAnswer(f"is longer than {_MAX_BYTES:,} bytes")
                    if response.is_error:
                        raise Refused(response, bytes(answer))
                    response.raise_for_status()
                return self._answers.read(bytes(answer))
        raise AssertionError("attempts yields at least once")

    def _raise_user_error(self, error: Exception) -> None:
        """Raises SurdError for a failure that every other question would meet too."""
        if isinstance(error, httpx.HTTPStatusError):
            code = error.response.status_code
            if code in _USER_ERRORS:
                said = f" ({error})" if isinstance(error, Refused) and error.words else ""
                raise SurdError(
                    f"{self._field}: the server at {self._ref.url} answered HTTP {code} for model {self._ref.model!r}"
                    f"{said}; {_USER_ERRORS[code]}"
                )
        elif isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.UnsupportedProtocol):
            raise _unreachable(self._field, self._ref, error)

    def _raise_if_silent(self, silent: list[str], count: int) -> None:
        """Raises SurdError when the server failed every one of ``count`` questions."""
        self._has_answered |= len(silent) < count
        if count and len(silent) == count and (count > 1 or not self._has_answered):
            raise SurdError(
                f"{self._field}: the server at {self._ref.url} answered none of {count} prompts ({silent[-1]});"
                " see its log, and run again: what it answered before is kept"
            )


def check_server(ref: ServerRef, role: str = "llm") -> None:
    """Raises SurdError when no server answers at all, or it refuses the key; what its list of models says is not asked,
    since many servers answer to any name."""
    field = f"models.{role}"
    settings = client_settings(_SECONDS)
    settings["headers"] |= _authorization()
    with suppress(httpx.HTTPError), httpx.Client(**settings) as client:
        try:
            status = client.get(f"{ref.url}/models").status_code
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise _unreachable(field, ref, error) from None
        if status in (401, 403):
            raise SurdError(f"{field}: the server at {ref.url} answered HTTP {status}; {_USER_ERRORS[status]}")


def _unreachable(field: str, ref: ServerRef, error: Exception) -> SurdError:
    return SurdError(f"{field}: no server answers at {ref.url} ({describe(error)}); start it, or name another model")


def _authorization() -> dict[str, str]:
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()):  # httpx would print it in its complaint
        raise SurdError(f"the environment variable {KEY_VARIABLE} has characters no API key has; set it again")
    return {"Authorization": f"Bearer {key}"} if key else {}
