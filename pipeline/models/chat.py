"""Interface of LLMs that answer chats, in process or behind a server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from surd.pipeline.models.answer_text import plain_text, without_thoughts
from surd.pipeline.models.counting import OnDone, uncounted

STILL_THINKING = "it was still thinking at rewrite.max_new_tokens"
Message = dict[str, str]
Chat = Sequence[Message]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer, or the reason why it is missing. ``cut``: it stopped at the token limit and may be incomplete."""

    text: str | None = None
    why: str | None = None
    cut: bool = False


def reply_of(text: str, *, cut: bool) -> Reply:
    """The reply that an answer makes: without thoughts and control characters. ``cut``: see Reply."""
    answer = plain_text(without_thoughts(text))
    if not answer and plain_text(text):
        return Reply(why=STILL_THINKING if cut else "it thought and gave no answer")
    return Reply(text=answer, cut=cut)


class ChatModel(ABC):
    """An LLM that answers chats: in process (``LLM``) or behind an OpenAI-compatible server (``LLMServer``)."""

    @abstractmethod
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
        """One reply per chat, in order; greedy at temperature 0, else sampled: the same chat and seed, the same reply.

        Pass all chats at once: they are batched here, similar lengths together. Chats that begin with the same
        messages (a few-shot prefix) share the computation for those. ``on_done`` is told of replies as they come.
        """

    def answer(
        self,
        chats: Sequence[Chat],
        max_new_tokens: int,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        batch_size: int = 32,
    ) -> list[str | None]:
        """``replies`` without the reasons: None if there is no answer."""
        replies = self.replies(chats, max_new_tokens, temperature=temperature, seed=seed, batch_size=batch_size)
        return [reply.text for reply in replies]
