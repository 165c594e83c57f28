"""Functions that ComfyUI nodes apply to text, with bounded work; None where their outcome cannot be told."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

#: No node makes a longer text, in letters.
MAX_LETTERS = 100_000
# A pattern with one repetition takes time in the square of the text, with two in its cube: some 20 ms each at most.
_LETTERS_BY_REPETITIONS = (20_000, 3_000, 200)
_MAX_PATTERN = 300
#: What a random choice looks like in a text: {a|b}, __wildcard__, ${variable}, {% jinja %}.
_CHANCE = re.compile(r"\{[^{}]*[|$%]|\$\{|\{[{%]|__[\w./*\\-]{1,100}__")
_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{\d+,?\d*\}|\{,\d+\}|\(\?:|\(\?|.", re.DOTALL)
_REFERENCE = re.compile(r"\\[1-9]")
_SPACES = re.compile(r"(?<!\s)\s{2,}")
_COMMAS = re.compile(r",{2,}")


def case(text: str, mode: Any = None) -> str | None:
    """Core's Case Converter and CR Text Operation."""
    changes: dict[Any, Callable[[str], str]] = {
        "UPPERCASE": str.upper, "uppercase": str.upper, "lowercase": str.lower, "Capitalize": str.capitalize,
        "capitalize": str.capitalize, "Title Case": str.title, "invert_case": str.swapcase, "trim": str.strip,
        "reverse": lambda text: text[::-1], "remove_spaces": lambda text: text.replace(" ", ""),
    }  # fmt: skip
    return changes[mode](text) if isinstance(mode, str) and mode in changes else None


def trim(text: str, mode: Any = None) -> str | None:
    changes = {"Both": str.strip, "Left": str.lstrip, "Right": str.rstrip}
    return changes[mode](text) if isinstance(mode, str) and mode in changes else None


def substring(text: str, start: Any = None, end: Any = None) -> str | None:
    return text[start:end] if isinstance(start, int) and isinstance(end, int) else None


def wildcards(text: str) -> str | None:
    """The text of a node that replaces wildcards, if there are none in it."""
    return None if _CHANCE.search(text) else text


def replaced(text: str, find: str, by: str) -> str | None:
    """``text.replace(find, by)``; None if that would be too long."""
    times = text.count(find)
    return text.replace(find, by) if len(text) + times * (len(by) - len(find)) <= MAX_LETTERS else None


def regex(
    text: str, pattern: Any = None, replacement: Any = None, ignore_case: Any = True, multiline: Any = False,
    dotall: Any = False, count: Any = 0,
) -> str | None:  # fmt: skip
    """Core's Regex Replace."""
    compiled = _compiled(pattern, text, _flags(ignore_case, multiline, dotall))
    if compiled is None or not isinstance(replacement, str) or not isinstance(count, int):
        return None
    if len(replacement) * (len(text) + 1) > 20 * MAX_LETTERS:
        return None
    try:
        result = compiled.sub(replacement, text, count=max(0, count))
    except (re.error, IndexError):
        return None
    return result if len(result) <= MAX_LETTERS else None


def extract(
    text: str, pattern: Any = None, mode: Any = None, ignore_case: Any = True, multiline: Any = False,
    dotall: Any = False, group: Any = 1,
) -> str | None:  # fmt: skip
    """Core's Regex Extract."""
    compiled = _compiled(pattern, text, _flags(ignore_case, multiline, dotall))
    if compiled is None or not isinstance(group, int) or group < 0:
        return None
    found = list(compiled.finditer(text))
    usable = [match for match in found if compiled.groups >= group]
    if mode in ("First Match", "First Group"):
        found, usable = found[:1], usable[:1]
    if mode in ("First Match", "All Matches") and (mode == "First Match" or not compiled.groups):
        return "\n".join(match[0] for match in found)
    if mode in ("First Group", "All Groups"):
        return "\n".join(match[group] or "" for match in usable)
    return None


def string_function(action: Any, tidy: Any = None, a: Any = None, b: Any = None, c: Any = None) -> str | None:
    """The String Function of pythongosssss: appends or replaces, and tidies the commas of tags."""
    first, second, third = (text if isinstance(text, str) else "" for text in (a, b, c))
    if action == "append":
        made: str | None = (", " if tidy == "yes" else "").join(text for text in (first, second, third) if text)
    elif len(second) > 1 and second[0] == second[-1] == "/":
        made = regex(first, second[1:-1], third, False)
    else:
        made = replaced(first, second, third)
    if made is None or tidy != "yes":
        return made
    return _COMMAS.sub(",", _SPACES.sub(" ", made).replace(" ,", ",")).strip()


def _flags(ignore_case: Any, multiline: Any, dotall: Any) -> int:
    flags = (re.IGNORECASE if ignore_case else 0) | (re.MULTILINE if multiline else 0) | (re.DOTALL if dotall else 0)
    return int(flags)


def _compiled(pattern: Any, text: str, flags: int) -> re.Pattern[str] | None:
    """A pattern from a graph, if its work on the text is bounded; it may have been written to take for ever."""
    if not isinstance(pattern, str) or len(pattern) > _MAX_PATTERN:
        return None
    repetitions = _repetitions(pattern)
    if repetitions is None or repetitions >= len(_LETTERS_BY_REPETITIONS):
        return None
    if len(text) > _LETTERS_BY_REPETITIONS[repetitions]:
        return None
    try:
        return re.compile(pattern, flags)
    except (re.error, RecursionError, OverflowError):
        return None


def _repetitions(pattern: str) -> int | None:
    """How often a pattern repeats a letter; None if it repeats a group, refers to one, or looks around."""
    total, before = 0, ""
    for token in _TOKEN.findall(pattern):
        is_repetition = token in ("*", "+", "?") or (len(token) > 1 and token[0] == "{")
        if is_repetition and before not in ("*", "+", "?", "}"):  # a second one only says how eager the first is
            if before == ")":
                return None
            total += token != "?"
        elif token == "(?" or _REFERENCE.match(token):
            return None
        before = token if is_repetition and len(token) == 1 else token[-1:] if token[0] != "\\" else ""
    return total
