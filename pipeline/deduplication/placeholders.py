"""Placeholder pictures: one picture that a site serves in place of many, known by the unlike prompts it comes under."""

from __future__ import annotations

import re
from collections.abc import Iterable

REPEATS = "collect/repeats.json"  # of a build: key -> further prompts of a record that came often
ENOUGH = 5  # prompts of which no two are alike; a picture that several people described has a word in common
MAX_CHARS = 400  # of a prompt that are looked at
_WORD = re.compile(r"[^\W\d_]+")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")  # scripts without spaces
#: Words that say nothing of what is shown: of grammar, of number and colour, of kinds and praise of pictures.
_EMPTY_WORDS = """
a an the of in on at by with and or to for from into over under near its his her their is are was be it this that these
those some one two three four five six very as up out no not der die das ein eine und im mit von le la les un une de des
du et el los y con red green blue yellow black white brown grey gray orange purple pink golden dark light bright small
big large little tall old new young image picture photo photograph photography painting drawing art artwork illustration
render style view background closeup portrait scene high low quality detailed highly best masterpiece beautiful
realistic ultra resolution hd uhd trending artstation lighting cinematic
"""
_EMPTY = frozenset(_EMPTY_WORDS.split())


def content_words(prompt: str) -> frozenset[str]:
    """The words of a prompt that say what is shown, without a plural's s; of scripts without spaces, pairs of signs."""
    words: set[str] = set()
    for word in _WORD.findall(prompt[:MAX_CHARS].lower()):
        if _UNSPACED.search(word):
            words |= {word[at : at + 2] for at in range(max(1, len(word) - 1))}
        elif len(word) > 1 and word not in _EMPTY:
            words.add(word.removesuffix("s") if len(word) > 3 else word)
    return frozenset(words)


def are_unlike(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether two prompts describe nothing in common: no word, or of long prompts at most one in ten."""
    return bool(one and other) and 10 * len(one & other) <= min(len(one), len(other))


def unlike_prompts(prompts: Iterable[str], most: int = ENOUGH) -> list[str]:
    """The first prompts of which each is unlike all before it, at most ``most``."""
    chosen: list[tuple[str, frozenset[str]]] = []
    for prompt in prompts:
        words = content_words(prompt)
        if words and all(are_unlike(words, other) for _, other in chosen):
            chosen.append((prompt, words))
            if len(chosen) == most:
                break
    return [prompt for prompt, _ in chosen]
