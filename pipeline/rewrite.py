"""rewrite: turns kept complex prompts into plain sentences by asking the LLM."""

from __future__ import annotations

import re

from pipeline.build import Build
from pipeline.models import Models
from pipeline.models.llm import Message
from pipeline.pixels import batched
from schemas import Cleaned, Deduped, Rewritten
from schemas.config import RewriteConfig

_SYSTEM = "You turn the tags of a picture into one short plain English sentence. Leave out quality words."
_EXAMPLES = (
    (
        "masterpiece, best quality, 1girl, white dress, holding, 3 apples, 8k",
        "A girl in a white dress holds three apples.",
    ),
    ("2dogs, highres, green background, artstation, sketch", "A pencil sketch of two dogs on a green background."),
    ("absurdres, 1boy, swimming, hdr, blue background", "A boy is swimming in front of a blue background."),
    ("old sepia photo, car, left of, house, sharp focus", "An old sepia photograph of a car to the left of a house."),
)
_MAX_PROMPT_CHARS = 600
_MAX_WORDS = 40
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]?")


def rewrite(build: Build, part: int, settings: RewriteConfig, models: Models) -> list[Rewritten]:
    """One partition's rewrites. An answer that is no usable sentence is dropped: the row then has an empty list."""
    rows = build.read_rows("dedup", part, Deduped)
    prompts = build.read_rows("clean", part, Cleaned)
    rewritten = [Rewritten(**row.verdict()) for row in rows]
    if not settings.enabled:
        return rewritten
    answers: dict[str, str | None] = {}
    texts = {prompts[at].complex or "" for at, row in enumerate(rows) if row.kept}
    for batch in batched(sorted(texts, key=lambda text: (len(text), text)), settings.batch_size):
        raw = models.llm.answer([chat(text) for text in batch], settings.max_new_tokens)
        answers |= {text: plain_sentence(answer) for text, answer in zip(batch, raw, strict=True)}
    for at, row in enumerate(rows):
        if row.kept:
            answer = answers[prompts[at].complex or ""]
            rewritten[at] = rewritten[at].model_copy(update={"rewrites": [answer] if answer else []})
    return rewritten


def chat(prompt: str) -> list[Message]:
    """The few-shot conversation that ends with the prompt to rewrite."""
    messages = [{"role": "system", "content": _SYSTEM}]
    for tags, sentence in _EXAMPLES:
        messages += [{"role": "user", "content": tags}, {"role": "assistant", "content": sentence}]
    return [*messages, {"role": "user", "content": prompt[:_MAX_PROMPT_CHARS]}]


def plain_sentence(answer: str) -> str | None:
    """The first sentence of an answer, or None when there is none to use: empty, too long, a tag list, an example."""
    match = _SENTENCE.search(answer.strip().strip("\"'`*- "))
    if not match:
        return None
    sentence = " ".join(match.group().split()).strip("\"'`* ")
    words = sentence.split()
    if not 3 <= len(words) <= _MAX_WORDS or sentence.count(",") > len(words) / 3:
        return None
    if sentence in (example for _, example in _EXAMPLES):
        return None
    sentence = sentence[0].upper() + sentence[1:]
    return sentence if sentence[-1] in ".!?" else f"{sentence}."
