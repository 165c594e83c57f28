"""Articles, plurals and capital letters of English phrases, by inflect."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from surd.pipeline.facts.closed_classes import closed_classes

_ARTICLE = re.compile(r"\b(an?)(\s+)(\w+)", re.IGNORECASE)


@lru_cache(maxsize=1)
def _engine() -> Any:
    import inflect  # only here: typeguard rewrites it as it is imported, which takes a second and more

    return inflect.engine()


@lru_cache(maxsize=4096)
def plural(noun: str) -> str:
    """The plural of a singular noun; what has no letters is its own."""
    return noun if not any(letter.isalpha() for letter in noun) else str(_engine().plural_noun(noun))


@lru_cache(maxsize=4096)
def many(noun: str) -> str:
    """The plural of a singular noun phrase without article ("fire truck" -> "fire trucks"); nouns that are not counted,
    and those that are plural as they stand, stay as they are."""
    words = noun.split(" ")
    last = words[-1]
    if " of " in noun:
        head, _, rest = noun.partition(" of ")
        return f"{many(head)} of {rest}"
    classes = closed_classes()
    if not last or last in classes.mass or last in classes.plural_only or last in classes.singulars:
        return noun
    irregular = {one: more for more, one in closed_classes().singulars.items()}
    return " ".join([*words[:-1], irregular.get(last) or plural(last)])


@lru_cache(maxsize=4096)
def one_of(noun: str) -> str | None:
    """The singular of a plural noun phrase ("fire trucks" -> "fire truck"); None if it has none ("glasses")."""
    words = noun.split(" ")
    last = words[-1]
    if " of " in noun:
        head, _, rest = noun.partition(" of ")
        single = one_of(head)
        return f"{single} of {rest}" if single else None
    if last in closed_classes().singulars.values() or last.endswith(("ss", "us", "is")):
        return noun
    if (single := closed_classes().singulars.get(last)) is not None:
        return " ".join([*words[:-1], single])
    if not last or last in closed_classes().plural_only or last in closed_classes().mass:
        return None
    if not any(letter.isalpha() for letter in last):
        return noun
    single = _engine().singular_noun(last)
    if not single:
        return noun if plural(last) == last else None
    return " ".join([*words[:-1], str(single)])


@lru_cache(maxsize=4096)
def article(word: str) -> str:
    """Which indefinite article a word needs."""
    return "a" if not any(letter.isalnum() for letter in word) else str(_engine().a(word)).split(" ")[0]


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
