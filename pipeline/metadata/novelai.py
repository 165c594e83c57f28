"""Prompts of NovelAI's fourth and later models: a caption of the whole picture, and one of each character."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from surd.pipeline import untrusted_json
from surd.pipeline.untrusted_json import to_text

_MOST_CHARACTERS = 50  # the site allows six


def is_novelai(document: dict[str, Any]) -> bool:
    """Whether a JSON object is the comment that NovelAI writes from its fourth model on."""
    return any(isinstance(document.get(key), dict) for key in ("v4_prompt", "v4_negative_prompt"))


def comment_of(texts: dict[str, str]) -> dict[str, Any]:
    """The JSON object in a file's text ``Comment`` if it is NovelAI's with captions, else an empty one."""
    comment = texts.get("Comment", "")
    if "v4_" not in comment:
        return {}
    try:
        document = untrusted_json.parse(comment)
    except ValueError:
        return {}
    return document if isinstance(document, dict) and is_novelai(document) else {}


def captions(comment: dict[str, Any], key: str, plain: str | None) -> str | None:
    """The base caption and the captions of all characters under ``key``, joined; with none, the ``plain`` prompt.

    The plain prompt of the same comment repeats the base caption alone.
    """
    prompt = comment.get(key)
    caption = prompt.get("caption") if isinstance(prompt, dict) else None
    if not isinstance(caption, dict):
        return plain
    base = _text(caption.get("base_caption")) or plain or ""
    parts = [base, *_characters(caption.get("char_captions"))]
    return ", ".join(filter(None, (part.strip().rstrip(",").rstrip() for part in parts))) or None


def _characters(value: Any) -> Iterator[str]:
    for entry in value[:_MOST_CHARACTERS] if isinstance(value, list) else ():
        if isinstance(entry, dict):
            yield _text(entry.get("char_caption"))


def _text(value: Any) -> str:
    return (to_text(value) or "") if isinstance(value, str) else ""
