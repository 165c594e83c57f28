"""compel's prompt syntax, which InvokeAI writes, translated into the common one: ``fox++``, ``(snow)1.3``.

By its reference (doc/syntax.md of the library): signs or a number behind a word, bracket or quotation weight it;
``("a", "b").blend(0.7, 0.3)`` and ``.and()`` take several prompts with a weight each; ``fox.swap(dog)`` shows the dog;
round brackets alone weight nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_PLUS, _MINUS = 1.1, 0.9
_MOST_SIGNS = 30  # 1.1 to the power of 25 is above the largest weight
_NUMBER = r"-?(?:[0-9]{1,4}(?:\.[0-9]{0,6})?|\.[0-9]{1,6})"
_BOUNDARY = r"(?=[\s,;:!?)\"]|\.(?![0-9])|\Z)"
_TOKEN = re.compile(
    rf"""
    (?P<lora>(?<!\w)(?:withLora|useLora)\([ ]?(?P<name>[\w-]{{1,100}})[ ]?(?:,[ ]?(?P<strength>{_NUMBER})[ ]?)?\))
  | (?P<open>\()
  | (?P<close>\))
  | (?P<quote>")
  | (?P<comma>,)
  | (?P<word>(?:[^\s()",\\]|\\.)+)
    """,
    re.VERBOSE | re.DOTALL,
)
_WEIGHT = re.compile(rf"(?P<signs>\++|-+){_BOUNDARY}|(?P<number>{_NUMBER}){_BOUNDARY}")
_ATTEND = re.compile(rf"\.attend\([ ]?(?:(?P<signs>\++|-+)|(?P<number>{_NUMBER}))[ ]?\)")
_SHARES = re.compile(r"\.(?:blend|and|add)\((?P<shares>[^()]{0,1000})\)")
_SWAP = re.compile(r"\.swap\(")
_SIGNS = re.compile(r"(?<![+-])(?<!\\)(?:\++|-+)(?=[.;:!?]*\Z)")
_SQUARE = re.compile(r"(?<!\\)[\[\]]")
#: What no other syntax has.
FUNCTION = re.compile(r"[)\"]\.(?:blend|and|add)\(|[)\"\w]\.(?:swap|attend)\(|(?<!\w)(?:withLora|useLora)\(")
#: Weights behind brackets and words; a single sign, or two minus signs, may be a hyphen or a dash.
MARK = re.compile(
    r"\)(?:[0-9]?\.[0-9]{1,4}|\++)(?=[\s,.;]|\Z)|(?<![^\W_])(?!(?i:notepad))[^\W\d_]{3,30}\+{2,9}(?=[\s,.;)\"]|\Z)"
)


@dataclass(kw_only=True)
class _Frame:
    """An open bracket or quotation: its index in the output, and those of its commas and inner quotation marks."""

    kind: str
    start: int
    commas: list[int] = field(default_factory=list)
    quotes: list[int] = field(default_factory=list)


def to_common(text: str) -> str:
    """The same prompt with weights in round brackets, as A1111 writes them; square brackets weight nothing here."""
    return _SQUARE.sub(" ", _Translator(text).translate())


class _Translator:
    """One pass over the text; a bracket's weight is filled in where it closes."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._parts: list[str] = []
        self._frames = [_Frame(kind="", start=0)]

    def translate(self) -> str:
        position = 0
        while match := _TOKEN.search(self._text, position):
            self._parts.append(self._text[position : match.start()])
            position = self._token(match)
        self._parts.append(self._text[position:])
        return "".join(self._parts)

    def _token(self, match: re.Match[str]) -> int:
        end = match.end()
        match match.lastgroup:
            case "lora":
                strength = f":{match['strength']}" if match["strength"] else ""
                self._parts.append(f"<lora:{match['name']}{strength}>")
            case "open":
                self._push("(", "(")
            case "quote" if self._frames[-1].kind != '"':
                self._frames[-1].quotes.append(len(self._parts))
                self._push('"', '"')
            case "quote":
                return self._close(end, '"')
            case "close" if self._frames[-1].kind == "swap":
                self._close_swap()
            case "close" if self._frames[-1].kind == "(":
                return self._close(end, ":1)")
            case "comma":
                self._frames[-1].commas.append(len(self._parts))
                self._parts.append(",")
            case "word":
                return self._word(match.group(), end)
            case _:  # a closing bracket without an open one
                self._parts.append(")")
        return end

    def _push(self, kind: str, token: str) -> None:
        self._frames.append(_Frame(kind=kind, start=len(self._parts)))
        self._parts.append(token)

    def _close(self, end: int, closer: str) -> int:
        """Ends a bracket or quotation by what stands behind it: a weight, a function or nothing."""
        frame = self._frames.pop()
        if weight := _WEIGHT.match(self._text, end) or _ATTEND.match(self._text, end):
            self._parts[frame.start] = "("
            self._parts.append(f":{_factor(weight):g})")
            return weight.end()
        if _SWAP.match(self._text, end):
            del self._parts[frame.start :]
            self._push("swap", "")
            return end + len(".swap(")
        if frame.kind == "(" and (shares := _SHARES.match(self._text, end)):
            self._share(frame, [share.strip() for share in shares["shares"].split(",")])
            return shares.end()
        if frame.kind == '"':
            self._frames[-1].quotes.append(len(self._parts))
        self._parts.append(closer)
        return end

    def _share(self, frame: _Frame, shares: list[str]) -> None:
        """Several prompts, each with its share, as keywords of their own; without shares, or with too few, equal."""
        self._unquote(frame)
        numbers = [share for share in shares if re.fullmatch(_NUMBER, share)]
        weights = numbers if len(numbers) == len(frame.commas) + 1 else ["1"] * (len(frame.commas) + 1)
        for comma, weight in zip(frame.commas, weights, strict=False):
            self._parts[comma] = f":{weight}), ("
        self._parts.append(f":{weights[-1]})")

    def _unquote(self, frame: _Frame) -> None:
        for quote in frame.quotes:
            if self._parts[quote] == '"':
                self._parts[quote] = ""

    def _close_swap(self) -> None:
        """What a thing was swapped for; options such as ``s_start=0.3`` follow it after a comma."""
        frame = self._frames.pop()
        self._unquote(frame)
        if frame.commas:
            del self._parts[frame.commas[0] :]

    def _word(self, word: str, end: int) -> int:
        if word.endswith((".swap", ".attend")) and self._text[end : end + 1] == "(":
            if word.endswith(".swap"):
                self._push("swap", "")
                return end + 1
            stem = word.removesuffix(".attend")
            if weight := _ATTEND.match(self._text, end - len(".attend")):
                self._parts.append(f"({stem}:{_factor(weight):g})")
                return weight.end()
        signs = _SIGNS.search(word[-2 * _MOST_SIGNS :])
        stem = word[: len(word) - len(word[-2 * _MOST_SIGNS :]) + signs.start()] if signs else ""
        if signs and any(char.isalnum() for char in stem):
            word = f"({stem}:{_power(signs.group()):g}){word[len(stem) + len(signs.group()) :]}"
        self._parts.append(word)
        return end


def _factor(match: re.Match[str]) -> float:
    return _power(match["signs"]) if match["signs"] else float(match["number"])


def _power(signs: str) -> float:
    base: float = (_PLUS if signs[0] == "+" else _MINUS) ** min(len(signs), _MOST_SIGNS)
    return round(base, 6)
