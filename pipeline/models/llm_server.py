"""The LLM behind an OpenAI-compatible server (vLLM, llama.cpp, transformers serve ...)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from surd.pipeline.models.chat import Chat, ChatModel, Reply, reply_of
from surd.pipeline.models.counting import OnDone, uncounted
from surd.pipeline.models.openai_answers import read_reply
from surd.pipeline.models.openai_client import AnswerFormat, OpenAIClient
from surd.pipeline.models.openai_request import Question
from surd.schemas.config import ServerConfig
from surd.schemas.model_ref import ServerRef


class _Replies(AnswerFormat[Reply]):
    def read(self, body: bytes) -> Reply:
        return read_reply(body)

    def missing(self, why: str) -> Reply:
        return Reply(why=why)

    def dump(self, answer: Reply) -> str:
        return json.dumps(dataclasses.asdict(answer), ensure_ascii=True)

    def load(self, document: str) -> Reply | None:
        try:
            kept = Reply(**json.loads(document))
        except (ValueError, TypeError, RecursionError):
            return None
        return reply_of(kept.text, cut=bool(kept.cut)) if isinstance(kept.text, str) else None


class LLMServer(ChatModel):
    """``openai:http://host:port/v1#model``: its chat completions; see OpenAIClient.

    Earlier answers are in the cache, so a build that is run again continues from there.
    """

    def __init__(self, ref: ServerRef, settings: ServerConfig) -> None:
        self._model = ref.model
        self._client = OpenAIClient(ref, settings, _Replies(), role="llm")

    def replies(
        self,
        chats: Sequence[Chat],
        max_new_tokens: int,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        batch_size: int = 32,
        on_done: OnDone = uncounted,
    ) -> list[Reply]:
        """See ChatModel. ``batch_size`` has no meaning here: ``server.concurrency`` requests are under way at once.

        Raises SurdError when the server cannot be reached, refuses the key or the model, or answers no prompt at all.
        """
        payloads = (
            {
                "model": self._model,
                "messages": list(chat),
                "max_tokens": max_new_tokens,
                "temperature": temperature,
                "seed": seed,
                "stream": False,
            }
            for chat in chats
        )
        return self._client.ask((Question(payload=payload) for payload in payloads), on_done)
