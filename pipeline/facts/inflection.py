"""Articles, plurals and capital letters of English phrases, by inflect."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

_ARTICLE = re.compile(r"\b(an?)(\s+)(\w+)", re.IGNORECASE)


@lru_cache(maxsize=1)
def _engine() -> Any:
    import inflect  # only here: typeguard rewrites it as it is imported, which takes a second and more

    return inflect.engine()


@lru_cache(maxsize=4096)
def plural(noun: str) -> str:
    """The plural of a singular noun."""
    return str(_engine().plural_noun(noun))


@lru_cache(maxsize=4096)
def article(word: str) -> str:
    """Which indefinite article a word needs."""
    return str(_engine().a(word)).split(" ")[0]


def with_article(phrase: str) -> str:
    """A noun phrase behind "a" or "an"."""
    return f"{article(phrase.split(' ')[0])} {phrase}"


def tidy(sentence: str) -> str:
    """Articles that agree with the next word, single spaces, a capital letter at the beginning."""

    def fitting(match: re.Match[str]) -> str:
        word = article(match.group(3))
        return f"{word.capitalize() if match.group(1)[0] == 'A' else word}{match.group(2)}{match.group(3)}"

    sentence = " ".join(_ARTICLE.sub(fitting, sentence).split())
    return sentence[:1].upper() + sentence[1:]
