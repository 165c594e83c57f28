"""clean: turns a web prompt into its cleaned complex prompt, keywords with weights and LoRA names, or a reason."""

from __future__ import annotations

import html
import re
import unicodedata
from dataclasses import dataclass

from pipeline.build import Build
from pipeline.models import Models
from schemas import Cleaned, Pair, Reason, SourceRecord
from schemas.config import CleanConfig

_MARKUP = re.compile(r"</?[a-zA-Z!][^<>]*>")
_EXTRA_NETWORK = re.compile(r"<(?:lora|lyco|hypernet|loha|locon):([^:<>]+)(?::[^<>]*)?>", re.IGNORECASE)
_SEPARATOR = re.compile(r"\b(?:BREAK|AND)\b|[,;\n\r|]+")
_WEIGHT = re.compile(r":\s*([+-]?\d*\.?\d+)\s*$")
_WORD = re.compile(r"[^\W\d_]{2,}|[\u3040-\u9fff\uac00-\ud7af]")
# The levels galleries give to pictures that are fit for work, as words, numbers and booleans.
_SAFE_LEVELS = {"", "none", "false", "safe", "pg", "g", "0", "1"}
_UNSAFE_WORDS = re.compile(
    r"\b(?:nsfw|nude|nudity|naked|topless|porn\w*|hentai|sex|sexual|erotic|uncensored|nipples?|genitals?|gore)\b",
    re.IGNORECASE,
)
ROUND, SQUARE = 1.1, 1 / 1.1  # attention of one pair of () or {}, and of [], as the A1111 web UI counts it


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A parsed web prompt. ``weights[i]`` is the attention weight of ``keywords[i]``."""

    keywords: list[str]
    weights: list[float]
    loras: list[str]

    @property
    def text(self) -> str:
        return ", ".join(self.keywords)


def clean(build: Build, part: int, settings: CleanConfig, models: Models) -> list[Cleaned]:
    """One partition's prompts, cleaned. Rejects records without a prompt, with nothing in it, or not work-safe."""
    records = build.read_rows("collect", part, SourceRecord)
    pairs = build.read_rows("fetch", part, Pair)
    return [_clean_row(record, pair, settings) for record, pair in zip(records, pairs, strict=True)]


def parse_prompt(text: str, max_chars: int = 4000) -> Prompt:
    """Parse attention weights ``(a:1.2)`` ``((a))`` ``[a]`` ``{a}``, extra-network tags, BREAK/AND and tag underscores.

    Never raises: unbalanced brackets are read as if closed at the end. A prompt longer than ``max_chars`` is cut at
    its last whole keyword.
    """
    text = unicodedata.normalize("NFC", html.unescape(text))
    loras = [name.strip() for name in _EXTRA_NETWORK.findall(text)]
    text = _MARKUP.sub(" ", _EXTRA_NETWORK.sub(",", text))
    keywords: list[str] = []
    weights: list[float] = []
    length = 0
    for chunk, weight in _weighted(text):
        for piece in _SEPARATOR.split(chunk):
            keyword = _normalise(piece)
            length += len(keyword) + 2
            if length > max_chars + 2:
                return Prompt(keywords=keywords, weights=weights, loras=loras)
            if keyword:
                keywords.append(keyword)
                weights.append(round(weight, 3))
    return Prompt(keywords=keywords, weights=weights, loras=loras)


def _clean_row(record: SourceRecord, pair: Pair, settings: CleanConfig) -> Cleaned:
    row = Cleaned(**pair.verdict())
    if not row.kept:
        return row
    if not pair.prompt or not pair.prompt.strip():
        return row.reject("clean", Reason.NO_PROMPT)
    if not settings.allow_nsfw:
        level = (record.nsfw_level or "").strip().lower()
        if level not in _SAFE_LEVELS:
            return row.reject("clean", Reason.NSFW, f"the source's level is {level}")
        if word := _UNSAFE_WORDS.search(pair.prompt):
            return row.reject("clean", Reason.NSFW, f"the prompt says {word.group().lower()}")
    prompt = parse_prompt(pair.prompt, settings.max_chars)
    if len(_WORD.findall(prompt.text)) < settings.min_words:
        return row.reject("clean", Reason.EMPTY_PROMPT, pair.prompt.strip())
    return row.model_copy(
        update={
            "complex": prompt.text,
            "keywords": prompt.keywords,
            "weights": prompt.weights,
            "loras": prompt.loras,
        }
    )


def _weighted(text: str) -> list[tuple[str, float]]:
    """Split at brackets into (text, weight); weights of nested brackets multiply."""
    chunks: list[tuple[str, float]] = []
    stack: list[tuple[str, int]] = []  # the open bracket, and where its chunks begin
    plain: list[str] = []

    def flush() -> None:
        if plain:
            chunks.append(("".join(plain), 1.0))
            plain.clear()

    position = 0
    while position < len(text):
        char = text[position]
        if char == "\\" and position + 1 < len(text):
            plain.append(text[position + 1])
            position += 1
        elif char in "([{":
            flush()
            stack.append((char, len(chunks)))
        elif char in ")]}":
            flush()
            if stack and stack[-1][0] == {")": "(", "]": "[", "}": "{"}[char]:
                opening, start = stack.pop()
                _scale(chunks, start, SQUARE if opening == "[" else ROUND, explicit=opening == "(")
        else:
            plain.append(char)
        position += 1
    flush()
    for opening, start in reversed(stack):
        _scale(chunks, start, SQUARE if opening == "[" else ROUND, explicit=False)
    return chunks


def _scale(chunks: list[tuple[str, float]], start: int, factor: float, *, explicit: bool) -> None:
    """Multiply the weights from ``start`` on by an explicit ``:1.2`` at the end of the last chunk, else by factor."""
    if explicit and len(chunks) > start and (match := _WEIGHT.search(chunks[-1][0])):
        text, weight = chunks[-1]
        chunks[-1] = (text[: match.start()], weight)
        factor = float(match.group(1))
    chunks[start:] = [(text, weight * factor) for text, weight in chunks[start:]]


def _normalise(piece: str) -> str:
    visible = "".join(char if char.isprintable() else " " for char in piece)
    words = " ".join(visible.split()).strip(" .")
    return words.replace("_", " ").strip() if " " not in words else words
