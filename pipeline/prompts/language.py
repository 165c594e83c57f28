"""prompt language: turns the words of a prompt into the language they are in, or None where they do not tell.

Keyword soup and names look like any language, so a verdict on Latin letters wants many of them, a clear winner and next
to no chance of English. Other scripts tell by themselves.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

#: What prompts on the web are written in; with all of the library's languages short text looks like rare ones.
LANGUAGES = (
    "ar",
    "bg",
    "cs",
    "da",
    "de",
    "el",
    "en",
    "es",
    "fa",
    "fi",
    "fr",
    "he",
    "hi",
    "hu",
    "id",
    "it",
    "ja",
    "ko",
    "nl",
    "no",
    "pl",
    "pt",
    "ro",
    "ru",
    "sv",
    "th",
    "tr",
    "uk",
    "vi",
    "zh",
)
_LATIN = re.compile(
    r"[^\W\d_\u0250-\U0010ffff]+(?:[\u0300-\u036f\u1e00-\u1eff][^\W\d_\u0250-\U0010ffff]*)*|[\u1e00-\u1eff]+"
)
_OTHER = re.compile(r"[^\W\d_\u0000-\u024f\u1e00-\u1eff]+")
_SYLLABIC = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_SYLLABLE = 3  # letters that one Chinese, Japanese or Korean character stands for
_MIN_ENGLISH = 0.5
_MAX_ENGLISH = 0.02  # chance of English above which nothing is called foreign
# (letters and spaces at least, probability at least) for a foreign language in Latin letters: of phrases, and where no
# three words stand together, as in tags and names.
_PHRASES, _TAGS = ((24, 0.6), (12, 0.85)), ((24, 0.95),)
_PHRASE = re.compile(r"[^\W\d_]+(?:[ '’-]+[^\W\d_]+){2}")
_MAX_CHARS = 1000  # enough to tell


def detect_language(text: str) -> str | None:
    """ISO 639-1 code of one of ``LANGUAGES``, or None where the words are too few or point nowhere."""
    text = text[:_MAX_CHARS].lower()
    latin, other = " ".join(_LATIN.findall(text)), " ".join(_OTHER.findall(text))
    if len(other) + (_SYLLABLE - 1) * len(_SYLLABIC.findall(other)) > len(latin):
        return _identifier().classify(other)[0] if len(other) > 1 else None
    if not latin:
        return None
    chances = dict(_identifier().rank(latin))
    best = max(chances, key=lambda code: (chances[code], code))
    if best == "en":
        return best if chances[best] >= _MIN_ENGLISH else None
    limits = _PHRASES if _PHRASE.search(text) else _TAGS
    sure = any(len(latin) >= least and chances[best] >= limit for least, limit in limits)
    return best if sure and chances["en"] < _MAX_ENGLISH else None


@cache
def _identifier() -> LanguageIdentifier:
    """langid.py's model (naive Bayes over byte n-grams, 97 languages), of py3langid's 4 MB of plain arrays."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(LANGUAGES)
    return identifier
