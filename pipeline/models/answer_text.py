"""What a language model says, as text that can be stored and shown."""

from __future__ import annotations

import re

_THOUGHT = re.compile(r"<(think|thinking|thought|reasoning)>(.*?)(?:</\1>|\Z)", re.DOTALL)
_THOUGHT_END = re.compile(r"\A.*</(?:think|thinking|thought|reasoning)>", re.DOTALL)
#: Control characters but line breaks and tabs, of both sets; the marks that turn text around; lone surrogates.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def plain_text(text: str) -> str:
    """An answer without control characters, lone surrogates and space around it."""
    return _UNPRINTABLE.sub("", text).strip()


def without_thoughts(text: str) -> str:
    """An answer without what a model thought before it (Qwen3, R1: ``<think>...</think>``).

    A template may hold the opening mark, so what stands before a closing one alone is a thought too. Where the thought
    never ends, nothing is left.
    """
    return _THOUGHT.sub("", _THOUGHT_END.sub("", text))
