"""Gibberish detection by a trigram model: words and names against random keystrokes.

The model is of the words that CLIP knows (34,000, of captions in many languages). Letters drawn at random, all equally
likely, would score log(1/27) = -3.3 a letter. Of Danbooru's tags half score above -2.6, of random
letters half below -4.5; names lie in between, so a text must be long enough to be called gibberish.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from functools import cache

from ftfy.badness import badness

from surd.pipeline.models.clip_tokenizer import clip_words

_WORD = re.compile(r"[a-z]{2,}")
_LETTER = re.compile(r"[^\W\d_]")
_SMOOTHING = 0.05  # a trigram never seen counts as a twentieth of one
# (minimum letters, mean score below which they are not words): the shorter the text, the lower its score must be.
_LIMITS = ((24, -3.4), (15, -3.8), (9, -4.3))
_MAX_CHARS = 5000  # enough to decide
_BOUNDARIES = 2  # of a word: trigrams span its beginning and its end, which count as letters


def is_gibberish(text: str) -> bool:
    """Whether most of a text is random letters or wrongly decoded bytes, not words or names of any language.

    Only letters of the Latin alphabet are scored, without their accents.
    """
    text = text[:_MAX_CHARS]
    letters = len(_LETTER.findall(text))
    if letters >= 6 and badness(text) * 4 > letters:  # ftfy counts pairs of letters that only wrong decoding makes
        return True
    score, latin = letter_score(text)
    if latin * 2 < letters:
        return False
    return any(latin >= least and score < limit for least, limit in _LIMITS)


def letter_score(text: str) -> tuple[float, int]:
    """Mean log probability of a letter given the two before it, and the number of letters scored."""
    folded = unicodedata.normalize("NFKD", text.lower())
    words = _WORD.findall("".join(char for char in folded if not unicodedata.combining(char)))
    model = _trigrams()
    total, steps = 0.0, 0
    for word in words:
        framed = f"^^{word}$"
        total += sum(model[framed[at : at + 3]] for at in range(len(framed) - 2))
        steps += len(framed) - _BOUNDARIES
    return total / steps if steps else 0.0, sum(map(len, words))


class _Trigrams(dict[str, float]):
    """Log probability of a trigram's last letter, computed when first needed."""

    def __init__(self) -> None:
        words = [f"^^{word}$" for word in clip_words() if len(word) > 2 and word.isascii() and word.isalpha()]
        self._trigrams = Counter(word[at : at + 3] for word in words for at in range(len(word) - 2))
        self._bigrams = Counter(word[at : at + 2] for word in words for at in range(len(word) - 2))

    def __missing__(self, trigram: str) -> float:
        count, before = self._trigrams[trigram], self._bigrams[trigram[:2]]
        self[trigram] = math.log((count + _SMOOTHING) / (before + _SMOOTHING * 27))
        return self[trigram]


@cache
def _trigrams() -> _Trigrams:
    return _Trigrams()
