"""Chats as a model's own template writes them, also where it has no system role or allows only strict turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jinja2.exceptions import TemplateError

from surd.pipeline.models.chat import Chat, Message


class ChatWriter:
    """Turns chats into tokens by a tokenizer's template, or as plain text where it has none.

    A template may refuse the system role (Gemma 2), or leave it out without a word. Then the instruction goes into the
    first question; and where that is refused too, the whole chat becomes one question.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._folds: dict[tuple[str, ...], Callable[[Chat], list[Message]]] = {}

    def tokens(self, chat: Chat) -> tuple[int, ...]:
        """The tokens of a chat, up to where the answer begins. Raises jinja2's TemplateError if no form is accepted."""
        if not self._tokenizer.chat_template:
            return self._plain("\n".join(message["content"] for message in chat) + "\n")
        roles = tuple(message["role"] for message in chat)
        if roles not in self._folds:
            self._folds[roles] = self._fold_for(roles)
        text = self._write(self._folds[roles](chat))
        return tuple(self._tokenizer(text, add_special_tokens=False).input_ids)

    def _fold_for(self, roles: tuple[str, ...]) -> Callable[[Chat], list[Message]]:
        """The first form in which a template takes messages of these roles and leaves none of them out."""
        chat = [{"role": role, "content": f"message {number}"} for number, role in enumerate(roles)]
        failure: TemplateError | None = None
        folds: tuple[Callable[[Chat], list[Message]], ...] = (list, system_in_question, one_question)
        for fold in folds:
            try:
                text = self._write(fold(chat))
            except TemplateError as error:
                failure = failure or error
                continue
            if all(message["content"] in text for message in chat):
                return fold
        if failure:
            raise failure
        return one_question

    def _write(self, chat: Sequence[Message]) -> str:
        # Of templates that let a model think first, and no other, enable_thinking asks for the answer alone.
        text: str = self._tokenizer.apply_chat_template(
            list(chat), tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        return text

    def _plain(self, text: str) -> tuple[int, ...]:
        """A text with the mark that its model begins every text with, if any, and not the one that would end it."""
        ids: list[int] = self._tokenizer(text).input_ids
        bare: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        at = next((at for at in range(len(ids) - len(bare) + 1) if ids[at : at + len(bare)] == bare), None)
        return tuple(bare if at is None else ids[: at + len(bare)])


def system_in_question(chat: Chat) -> list[Message]:
    """The chat with the system's messages before the first question, in one message with it."""
    system = [message["content"] for message in chat if message["role"] == "system"]
    others = [dict(message) for message in chat if message["role"] != "system"]
    for message in others:
        if message["role"] == "user":
            message["content"] = "\n\n".join([*system, message["content"]])
            return others
    return [{"role": "user", "content": "\n\n".join(system)}, *others]


def one_question(chat: Chat) -> list[Message]:
    """The whole chat as one question: instruction, examples and what is asked, a line between them."""
    return [{"role": "user", "content": "\n\n".join(message["content"] for message in chat)}]
