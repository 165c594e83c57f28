"""Where the parameters of an infotext begin: several ``Key: value`` of keys that tools write, not one word in prose."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NUMBER = r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?"
_END = r"(?=[ \t]*(?:[,\n]|\Z))"
#: Keys whose values have one form. Without one of them a line is prose: "Model: Anna, Version: summer".
_FIRM = (
    rf"(?:Steps|Clip [Ss]kip|Width|Height):[ \t]*[0-9]{{1,5}}{_END}",
    rf"(?:(?:Distilled )?CFG [Ss]cale|Guidance Scale|Denoising strength|(?:Variation s|S)eed):[ \t]*{_NUMBER}{_END}",
    rf"Size:[ \t]*[0-9]{{2,5}}[ \t]?x[ \t]?[0-9]{{2,5}}{_END}",
    rf"Model hash:[ \t]*[0-9A-Fa-f]{{6,64}}{_END}",
)
_LOOSE = (
    "Sampler|Schedule type|Scheduler|Model|VAE|VAE hash|Version|Pipeline|Parser|App|Backend|Operations|RNG|ENSD|Eta"
    "|Hires upscaler|Hires upscale|Hires steps|Refiner|Styles|Lora hashes|TI hashes|Hashes|Civitai resources"
    "|Face restoration|Batch size|Batch pos|Batch|Token merging ratio|Created Date|Tiling|Index|TE|UNet"
)
_KEY = re.compile(rf"(?<![\w\\.-])(?=[A-Z])(?:(?P<firm>{'|'.join(_FIRM)})|(?:{_LOOSE}):(?=[ \t]))")
_QUICK = (
    "Steps:",
    "Seed:",
    "Size:",
    "CFG scale:",
    "CFG Scale:",
    "Guidance Scale:",
    "Clip skip:",
    "Model hash:",
    "Width:",
)
_LEFT = re.compile(r"[^,\n]*,[ \t]*")  # between a key and the next one: its value and the comma
_PAIRS = re.compile(r"[ \t]*(?:[A-Za-z][\w \-/]{0,40}:[ \t][^,\n:]*,[ \t]*)*")
_REST = re.compile(r"(?:[A-Za-z][\w \-/]{0,40}:[ \t][^,\n:]*(?:,[ \t]*|(?=\n)|\Z))+")
_STEPS = re.compile(r"[ \t]*Steps:[ \t]*[0-9]{1,5}[ \t]*\Z")
_MOST_LINES = 100
_MIDDLE_KNOWN, _MIDDLE_FIRM = 3, 2  # of parameters that follow a prompt on its line, unless nothing else follows it


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Where a text's parameters begin and end, and how many known keys they have."""

    start: int
    end: int
    known: int


@dataclass(kw_only=True)
class _Line:
    start: int
    end: int
    first: int
    known: int = 0
    firm: int = 0

    def begins(self, text: str) -> bool:
        """Whether there are only pairs before the first known one; its beginning is then that of the line."""
        pairs = _PAIRS.match(text, self.start, self.first)
        return pairs is not None and pairs.end() == self.first

    def follows(self, text: str) -> bool:
        """Whether these are parameters although there is a prompt before them on the line."""
        if self.known >= _MIDDLE_KNOWN and self.firm >= _MIDDLE_FIRM:
            return True
        return self.known > 1 and self.firm > 0 and _REST.fullmatch(text, self.first, self.end) is not None


def find_parameters(text: str, *, least: int = 2) -> Parameters | None:
    """The last line of parameters, or None. In linear time.

    A line of its own needs ``least`` known keys, but one alone only if it is ``Steps: 20`` and nothing else.
    Parameters that follow a prompt on the same line need three, or two and nothing but pairs behind them. Adjacent
    lines of one parameter each are read together.
    """
    if not any(key in text for key in _QUICK):
        return None
    lines = _lines(text)[-_MOST_LINES:]
    for at in range(len(lines) - 1, -1, -1):
        line = lines[at]
        if line.begins(text):
            start, known, firm = line.start, line.known, line.firm
            single = known == 1  # a line for each parameter: then a loose one may be among them
            while at and lines[at - 1].end + 1 == start and lines[at - 1].begins(text):
                if not (lines[at - 1].firm or (single and lines[at - 1].known == 1)):
                    break
                at -= 1
                start, known, firm = lines[at].start, known + lines[at].known, firm + lines[at].firm
            if firm and (known > 1 or (least < 2 and _STEPS.fullmatch(text, start, line.end))):
                return Parameters(start=start, end=line.end, known=known)
        elif line.follows(text):
            return Parameters(start=line.first, end=line.end, known=line.known)
    return None


def _lines(text: str) -> list[_Line]:
    """Every line with a firm key, with what is known of it from the first key on that only pairs follow."""
    lines: list[_Line] = []
    last_end = -1  # of the pair before, if none but its value stands between
    for match in _KEY.finditer(text):
        if not lines or match.start() > lines[-1].end:
            start = text.rfind("\n", 0, match.start()) + 1
            end = text.find("\n", match.start())
            lines.append(_Line(start=start, end=len(text) if end < 0 else end, first=match.start()))
            last_end = match.end()
        line = lines[-1]
        if not line.firm:  # a loose key is only counted if nothing but its value precedes the next one
            gap = _LEFT.fullmatch(text, last_end, match.start())
            if line.known and not gap:
                line.first, line.known = match.start(), 0
        line.known += 1
        line.firm += match["firm"] is not None
        last_end = match.end()
    return [line for line in lines if line.firm or line.known]
