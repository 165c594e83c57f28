"""Language of a prompt, or None if its words are not enough to tell.

Lists of keywords and names look like any language, so a decision on Latin letters needs many of them, a clear winner
and almost no chance of English. Other scripts are clear by themselves.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

#: What prompts on the web are written in; with all of the library's languages, short text is taken for rare ones.
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
_MAX_ENGLISH = 0.02  # probability of English above which nothing is called foreign
# (minimum letters and spaces, minimum probability) of a foreign language in Latin letters: for phrases, and for text
# without three words in a row, as in tags and names.
_PHRASES, _TAGS = ((24, 0.6), (12, 0.85)), ((24, 0.95),)
_PHRASE = re.compile(r"[^\W\d_]+(?:[ '’-]+[^\W\d_]+){2}")
_MAX_CHARS = 1000  # enough to decide


def detect_language(text: str) -> str | None:
    """ISO 639-1 code of one of ``LANGUAGES``, or None if the words are too few or ambiguous."""
    text = text[:_MAX_CHARS].lower()
    latin, other = " ".join(_LATIN.findall(text)), " ".join(_OTHER.findall(text))
    if len(other) + (_SYLLABLE - 1) * len(_SYLLABIC.findall(other)) > len(latin):
        return _identifier().classify(other)[0] if len(other) > 1 else None
    if not latin:
        return None
    probabilities = dict(_identifier().rank(latin))
    best = max(probabilities, key=lambda code: (probabilities[code], code))
    if best == "en":
        return best if probabilities[best] >= _MIN_ENGLISH else None
    limits = _PHRASES if _PHRASE.search(text) else _TAGS
    sure = any(len(latin) >= least and probabilities[best] >= limit for least, limit in limits)
    return best if sure and probabilities["en"] < _MAX_ENGLISH else None


@cache
def _identifier() -> LanguageIdentifier:
    """langid.py's model (naive Bayes over byte n-grams, 97 languages) as py3langid ships it: 4 MB of plain arrays."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(LANGUAGES)
    return identifier
