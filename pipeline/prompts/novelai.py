"""NovelAI's prompt syntax, translated into the common one: ``1.5::fox, tree::``, ``{fox}``, ``[fox]``, ``-1::hat::``.

By its documentation, page "Strengthening and Weakening": a number before two colons weights all that follows, up to the
next two colons, the next weight or the end; two colons close open brackets too; a brace is a factor of 1.05. Round
brackets are letters, as in Danbooru's ``saber (fate)``. The words under a negative weight are unwanted.
"""

from __future__ import annotations

import re

from surd.pipeline.prompts.text import EMOTICON

_NUMBER = r"-?(?:[0-9]{1,4}(?:\.[0-9]{0,4})?|\.[0-9]{1,4})"
_TOKEN = re.compile(
    rf"""
    (?P<escape>\\.)
  | (?P<emoticon>{EMOTICON})
  | (?<![\w.])(?P<weight>{_NUMBER})::(?=[ \t]*[^\s,;:|}}\])])   # else it is a tag's own: "1.2::year 2025::,"
  | (?P<end>::)
  | \|\|(?P<choice>[^|\n]+(?:\|[^|\n]+)+)\|\|
  | (?<!\w)(?:source|target|mutual)\#
  | (?P<open>[{{\[])
  | (?P<close>[}}\]])
  | (?P<round>[()])
    """,
    re.VERBOSE | re.DOTALL,
)
_FACTORS = {"{": "1.05", "[": "0.952"}
_PAIRS = {"}": "{", "]": "["}
_AFTER_WORD = re.compile(r"\w[ \t]?\Z")
#: A weight that begins a keyword. Midjourney's stand behind the words, those of dynamic prompts in braces.
EVIDENT = re.compile(r"(?:\A|[,\n])[ \t]{0,9}-?(?:[0-9]{1,2}(?:\.[0-9]{1,4})?|\.[0-9]{1,4})::[ \t]{0,9}[^\W\d_]")


def to_common(text: str) -> str:
    """The same prompt with weights in round brackets, as A1111 writes them."""
    parts: list[str] = []
    closers: list[tuple[str, str]] = []  # what was opened, and what closes it in the common syntax
    rounds: list[bool] = []  # whether each open round bracket is part of a name
    position = 0
    for match in _TOKEN.finditer(text):
        parts.append(text[position : match.start()])
        position = match.end()
        _translate(match, parts, closers, rounds)
    parts.append(text[position:])
    broken = rounds or any(kind != "weight" for kind, _ in closers)
    return "".join([*parts, *(closer for _, closer in reversed(closers)), "(" if broken else ""])


def _translate(match: re.Match[str], parts: list[str], closers: list[tuple[str, str]], rounds: list[bool]) -> None:
    kind, token = match.lastgroup, match.group()
    if kind in ("escape", "emoticon"):
        parts.append(token)
    elif kind == "weight":
        if any(opened == "weight" for opened, _ in closers):
            _close_to(closers, "weight", parts)
        parts.append("(")
        closers.append(("weight", f":{float(match['weight']):g})"))
    elif kind == "end":
        parts += [closer for _, closer in reversed(closers)]
        closers.clear()
    elif kind == "choice":
        parts.append(f"{{{match['choice']}}}")
    elif kind == "open":
        parts.append("(")
        closers.append((token, f":{_FACTORS[token]})"))
    elif kind == "close":
        if closers and closers[-1][0] == _PAIRS[token]:
            parts.append(closers.pop()[1])
    elif token == "(":
        rounds.append(_AFTER_WORD.search(match.string[max(0, match.start() - 2) : match.start()]) is not None)
        parts.append("\\(" if rounds[-1] else " ")
    elif token == ")":
        parts.append(("\\)" if rounds.pop() else " ") if rounds else "\\)")


def _close_to(closers: list[tuple[str, str]], kind: str, parts: list[str]) -> None:
    """Closes what was opened since the last one of a kind, and that one."""
    while closers:
        opened, closer = closers.pop()
        parts.append(closer)
        if opened == kind:
            return
