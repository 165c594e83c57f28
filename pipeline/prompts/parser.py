"""Parser of web prompts: from tokens to keywords with weights, networks, flags and negative keywords."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass, field

from surd.pipeline.prompts.text import tidy
from surd.pipeline.prompts.tokens import (
    BARE_FLAGS,
    FLAG_VALUE,
    HTML,
    IS_NUMBER,
    MIDJOURNEY_WEIGHT,
    NEXT_FLAG,
    TOKEN,
    VALUE_FLAGS,
)

ROUND, SQUARE = 1.1, 1 / 1.1  # attention of one pair of () or {}, and of [], as in the A1111 web UI
MIN_WEIGHT, MAX_WEIGHT = 0.01, 10.0
_STEPS = 20  # sampling steps, of which [a:b:10] takes a share; the web UI's default
_CAPITALS_BEFORE = re.compile(r"(?<!\w)(?!(?:AND|BREAK)\b)[A-Z]{2,}[ \t]+\Z")
_CAPITALS_AFTER = re.compile(r"[ \t]+(?!(?:AND|BREAK)\b)[A-Z]{2,}")
_DANGLING = re.compile(r"(?:\b(?:a|an|the|and|or|of|with|from|for|into)|[-:])\Z", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Network:
    """A LoRA, LyCORIS, hypernetwork or embedding that the prompt names; ``weight`` is None if none is written."""

    kind: str
    name: str
    weight: float | None = None


@dataclass(kw_only=True, slots=True)
class _Frame:
    """An open bracket: its position in the text, where its pieces begin, and what is at its own level."""

    kind: str
    position: int
    start: int
    colons: list[tuple[int, int]] = field(default_factory=list)  # index of the piece, visible pieces before it
    stray: int = -1  # index of a colon right after a closing bracket: (a):1.2, which is not a weight
    bar: bool = False
    template: bool = False


class Parser:
    """Reads tokens into pieces of text, where None separates keywords, and records where each factor applies.

    A factor is known only when its bracket closes. Recording its two ends and summing up once, instead of multiplying
    all pieces inside at each closing bracket, keeps deep nesting linear.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.pieces: list[str | None] = []
        self.networks: list[Network] = []
        self.flags: list[tuple[str, str]] = []
        self.unresolved: list[str] = []
        self.unwanted: list[str] = []
        self.cut = False
        self._visible = 0  # visible pieces so far
        self._after_close = False
        self._stack = [_Frame(kind="", position=0, start=0)]
        self._part = 0  # where the current part of `a AND b` or `a::2 b::1` begins
        self._logs: defaultdict[int, float] = defaultdict(float)
        self._signs: defaultdict[int, int] = defaultdict(int)
        self._drops: defaultdict[int, int] = defaultdict(int)

    def read(self) -> None:
        position, text = 0, self.text
        while match := TOKEN.search(text, position):
            self._add_text(text[position : match.start()])
            position = self._token(match)
        self._add_text(text[position:])
        if any(frame.kind for frame in self._stack):
            self.cut = True
        elif _DANGLING.search(text.rstrip()[-40:]):
            self.cut = self.cut or self._last_is_text()
        while self._stack[-1].kind:
            self._close(len(text))
        if self._part:
            self._end_part(self._explicit(self._stack[-1]))

    def keywords(self, max_chars: float) -> tuple[list[str], list[float], list[str], bool]:
        """Keywords, their weights, negative keywords, and whether all keywords fit into ``max_chars``."""
        words, weights, unwanted = list[str](), list[float](), self.unwanted
        plus, minus = list[tuple[str, float]](), list[str]()
        log, sign, drop, length = 0.0, 0, 0, 0
        for index, piece in enumerate([*self.pieces, None]):
            log += self._logs.get(index, 0.0)
            sign += self._signs.get(index, 0)
            drop += self._drops.get(index, 0)
            if piece is not None:
                if sign:
                    minus.append(piece)
                elif not drop:
                    plus.append((piece, log))
                continue
            if minus and (word := tidy("".join(minus))):
                unwanted.append(word)
            if plus and (word := tidy("".join(piece for piece, _ in plus))):
                length += len(word) + 2
                if length > max_chars + 2:
                    if not words and (head := tidy(word[: int(max_chars) + 1].rpartition(" ")[0])):
                        return [head], [_mean_weight(plus)], unwanted, False  # all one keyword: its first words
                    return words, weights, unwanted, False
                words.append(word)
                weights.append(_mean_weight(plus))
            plus.clear()
            minus.clear()
        return words, weights, unwanted, True

    def _token(self, match: re.Match[str]) -> int:
        """Handles one token; returns the position to read on from."""
        kind, token, end = match.lastgroup, match.group(), match.end()
        match kind:
            case "emoticon":
                self._add_text(token)
            case "escape":
                # A backslash itself is never meant: what is escaped twice is still one character of the keyword.
                self._add_text(token[1:] if token != "\\\\" else " ")
            case "line" | "separator" | "part":
                self._separate(bar=token == "|")
            case "split":
                self._split(match)
            case "more" | "rest":
                self._network(match)
            case "concept" if match["concept"].lower() not in HTML:
                self._add_network("embedding", match["concept"])
            case "embedding":
                self._add_network("embedding", re.sub(r"\.(?:pt|bin|safetensors)$", "", token[len("embedding:") :]))
            case "template" | "wildcard" | "variable":
                self.unresolved.append(token[:100])
                self._separate() if kind == "template" else self._add_text(" ")
            case "flag":
                return self._flag(match)
            case "open":
                self._open(token, match.start())
            case "close":
                if self._stack[-1].kind == {")": "(", "]": "[", "}": "{"}[token]:
                    self._close(end)
            case "colon":
                return self._colon(match.start())
            case _:  # markup, addresses, a lone backslash
                self._add_text(" ")
        return end

    def _add_text(self, text: str) -> None:
        if text:
            self.pieces.append(text)
            if not text.isspace():
                self._visible += 1
                self._after_close = False

    def _separate(self, *, bar: bool = False) -> None:
        frame = self._stack[-1]
        if frame.stray >= 0 and frame.stray == len(self.pieces) - 2:
            self._explicit(frame)
        self.pieces.append(None)
        self._after_close = False
        frame.bar = frame.bar or bar

    def _split(self, match: re.Match[str]) -> None:
        """BREAK, AND and their like. The two that are words count only outside a text that is all in capitals."""
        token, start, end = match["split"], match.start(), match.end()
        if token in ("AND", "BREAK") and (
            _CAPITALS_BEFORE.search(self.text[max(0, start - 30) : start]) and _CAPITALS_AFTER.match(self.text, end)
        ):
            self._add_text(token)
            return
        if token.startswith("AND") and len(self._stack) == 1:
            self._end_part(self._explicit(self._stack[-1]))
        self._separate()

    def _end_part(self, weight: float | None) -> None:
        if weight is not None:
            self._scale(self._part, weight)
        self._separate()
        self._part = len(self.pieces)

    def _colon(self, position: int) -> int:
        if len(self._stack) == 1 and (match := MIDJOURNEY_WEIGHT.match(self.text, position)):
            self._end_part(float(match[1]) if match[1] else None)
            return match.end()
        frame = self._stack[-1]
        frame.colons.append((len(self.pieces), self._visible))
        if self._after_close:
            frame.stray = len(self.pieces)
        self._add_text(":")
        return position + 1

    def _open(self, token: str, position: int) -> None:
        if self._after_close:  # (a)(b) are two keywords, a (b) c is one
            self._separate()
        self._add_text(" ")
        frame = _Frame(kind=token[0], position=position, start=len(self.pieces), template=len(token) > 1)
        self._stack.append(frame)

    def _close(self, end: int) -> None:
        """Records the factor of the innermost bracket, and which of its pieces it leaves out."""
        frame = self._stack.pop()
        if frame.kind == "{" and (frame.bar or frame.template):
            self.unresolved.append(self.text[frame.position : min(end, frame.position + 100)])
        elif frame.kind == "{":
            self._scale(frame.start, ROUND)
        elif frame.kind == "(":
            weight = self._explicit(frame)
            self._scale(frame.start, ROUND if weight is None else weight)
        elif (when := self._explicit(frame)) is not None:
            self._edit(frame, when)
        elif not frame.bar:
            self._scale(frame.start, SQUARE)
        if self.text[end : end + 1] not in ("'", "’", ".", "!", "?", "%"):
            self._add_text(" ")
        self._after_close = True

    def _edit(self, frame: _Frame, when: float) -> None:
        """``[before:after:when]``: leaves out the one that acted on fewer steps, unless the other is empty."""
        if not frame.colons:
            return
        at, visible = frame.colons[-1]
        self.pieces[at] = None
        before = at > frame.start and visible > 0
        after = self._visible - visible - 3 > 0  # without two colons and the number
        if before and after:
            share = when if when < 1 else when / _STEPS
            low, high = (at, len(self.pieces)) if share > 0.5 else (frame.start, at)
            self._drops[low] += 1
            self._drops[high] -= 1

    def _explicit(self, frame: _Frame) -> float | None:
        """The number at the end of a bracket or part, after a colon of its own level; removed from the text."""
        if frame.colons and frame.colons[-1][0] == len(self.pieces) - 2 and isinstance(self.pieces[-1], str):
            match = IS_NUMBER.fullmatch(self.pieces[-1])
            if match:
                self.pieces[-2:] = ["", ""]
                frame.colons.pop()
                return float(match[1])
        return None

    def _scale(self, start: int, factor: float) -> None:
        end = len(self.pieces)
        if factor == 0:
            self._drops[start] += 1
            self._drops[end] -= 1
        elif factor < 0:
            self._signs[start] += 1
            self._signs[end] -= 1
        else:
            log = math.log(min(max(factor, 1e-3), 1e3))
            self._logs[start] += log
            self._logs[end] -= log

    def _network(self, match: re.Match[str]) -> None:
        kind, more = match["network"].lower(), match["more"] or match["rest"] or ""
        weight = IS_NUMBER.match(more[1:]) if more.startswith(":") else None
        name = match["name"] or match["broken"] or ""  # only a closed tag shows that a comma is part of the name
        self._add_network("embedding" if kind == "embed" else kind, name, float(weight[1]) if weight else None)
        if not more.endswith(">") and not self.text[match.end() :].strip():
            self.cut = True

    def _add_network(self, kind: str, name: str, weight: float | None = None) -> None:
        if name := " ".join(name.split()):
            self.networks.append(Network(kind=kind, name=name, weight=weight))
        self._separate() if kind != "embedding" else self._add_text(" ")

    def _flag(self, match: re.Match[str]) -> int:
        """A Midjourney flag and its value; ``--no`` takes all up to the next flag. An unknown flag stays as a word."""
        name, end = match["flag"].lower(), match.end()
        if name == "no":
            stop = NEXT_FLAG.search(self.text, end)
            assert stop, "the end of the text matches"
            self.unwanted += unwanted_in(self.text[end : stop.start()])
            return stop.start()
        if name in BARE_FLAGS:
            self.flags.append((name, ""))
        elif name in VALUE_FLAGS:
            value = FLAG_VALUE.match(self.text, end)
            self.flags.append((name, value[1].rstrip(".:") if value else ""))
            end = value.end() if value else end
        else:
            self._add_text(match["flag"])
        return end

    def _last_is_text(self) -> bool:
        return bool(self.pieces) and self.pieces[-1] is not None and not self.pieces[-1].isspace()


def _mean_weight(parts: list[tuple[str, float]]) -> float:
    low, high = math.log(MIN_WEIGHT), math.log(MAX_WEIGHT)
    total, letters = 0.0, 0
    for text, log in parts:
        size = len(text) - text.count(" ")
        letters += size
        total += size * (math.exp(min(max(log, low), high)) if log else 1.0)
    return min(max(round(total / (letters or 1), 3), MIN_WEIGHT), MAX_WEIGHT)


def unwanted_in(text: str) -> tuple[str, ...]:
    """The keywords of a negative prompt."""
    parser = Parser(text)
    parser.read()
    return tuple(parser.keywords(math.inf)[0])
