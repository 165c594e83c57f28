"""Forms of English verbs: from a present participle to its base and on to any other form."""

from __future__ import annotations

import re
from functools import lru_cache

from surd.pipeline.facts.closed_classes import closed_classes

_VOWELS = "aeiou"
_SINGLE_SYLLABLE = re.compile(r"[^aeiou]*[aeiouy]+[^aeiouy]*")
#: Endings of verbs of several syllables that lost an e before "ing", where most others lost none.
_DROPPED_E = ("at", "ut", "in", "id", "ud", "od", "ad", "ap", "um", "am", "iz", "ul", "ur", "uc", "ak", "ik", "ok")


@lru_cache(maxsize=4096)
def base(gerund: str) -> str | None:
    """The base of a present participle ("sitting" -> "sit"); None if the word is not one.

    By the spelling rules, with lists of the exceptions (``closed_classes.yaml``).
    """
    if (known := closed_classes().gerund_bases.get(gerund)) is not None:
        return known
    if not gerund.endswith("ing") or len(gerund) < 5 or not gerund.isalpha():
        return None
    stem = gerund[:-3]
    if not any(letter in _VOWELS + "y" for letter in stem):
        return None
    return f"{stem}e" if _lost_e(stem) else _without_doubling(stem)


def _without_doubling(stem: str) -> str:
    return stem[:-1] if stem[-1] == stem[-2] and stem[-1] in "bdgkmnprtv" and len(stem) > 3 else stem


def _lost_e(stem: str) -> bool:
    last, before = stem[-1], stem[-2]
    if stem in closed_classes().stems_with_e:
        return True
    if last == before or last in "aeiowyxhj":
        return False
    if last in "vcu":
        return True
    if stem.endswith(("iat", "uat")):
        return True
    if last in "sz":
        return before != "t"
    if last == "g":
        return before != "n"
    if last == "l" and before not in _VOWELS:
        return before not in "rwl"
    if before not in _VOWELS or (len(stem) > 2 and stem[-3] in _VOWELS and not stem.startswith("qu")):
        return False
    return bool(_SINGLE_SYLLABLE.fullmatch(stem)) or stem.endswith(_DROPPED_E)


@lru_cache(maxsize=4096)
def gerund(verb: str) -> str:
    """The present participle of a base ("sit" -> "sitting")."""
    for participle, known in closed_classes().gerund_bases.items():
        if known == verb:
            return participle
    if verb.endswith("ie"):
        return f"{verb[:-2]}ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")) and len(verb) > 2:
        return f"{verb[:-1]}ing"
    return f"{_doubled(verb)}ing"


@lru_cache(maxsize=4096)
def third_person(verb: str) -> str:
    """The form of "he, she, it" ("carry" -> "carries")."""
    if verb in ("be", "have"):
        return "is" if verb == "be" else "has"
    if verb.endswith("y") and verb[-2:-1] not in _VOWELS:
        return f"{verb[:-1]}ies"
    return f"{verb}es" if verb.endswith(("s", "x", "z", "ch", "sh", "o")) else f"{verb}s"


@lru_cache(maxsize=4096)
def plural_person(verb: str) -> str | None:
    """The base of a third person form ("carries" -> "carry"); None if the word is not one."""
    if verb in ("is", "has"):
        return "are" if verb == "is" else "have"
    if not verb.endswith("s") or verb.endswith("ss") or len(verb) < 3:
        return None
    if verb.endswith("ies") and len(verb) > 4:
        return f"{verb[:-3]}y"
    return verb[:-2] if verb.endswith(("ches", "shes", "sses", "xes", "zzes", "oes")) else verb[:-1]


@lru_cache(maxsize=4096)
def past(verb: str, participle: bool = False) -> str:
    """The past tense, or the past participle, of a base."""
    if verb in closed_classes().irregular:
        return closed_classes().irregular[verb][int(participle)]
    if verb.endswith("e"):
        return f"{verb}d"
    if verb.endswith("y") and verb[-2:-1] not in _VOWELS:
        return f"{verb[:-1]}ied"
    return f"{_doubled(verb)}ed"


@lru_cache(maxsize=4096)
def as_gerund(verb: str) -> str | None:
    """The present participle of a verb in any form ("rides", "rode", "ride" -> "riding"); None if it is none.

    A word that could be the base of one verb and the past of another ("saw") is taken as the past.
    """
    if verb.endswith("ing"):
        return verb if base(verb) else None
    pasts = _verbs_of_pasts()
    if verb in ("is", "are", "was", "were", "be", "has", "have", "had") or not verb.isalpha() or len(verb) < 2:
        return None
    if verb in pasts:
        return gerund(pasts[verb])
    if verb.endswith("ied"):
        return f"{verb[:-3]}ying"
    if verb.endswith("ed") and len(verb) > 4:
        return f"{verb[:-2]}ing"
    return gerund(plural_person(verb) or verb)


@lru_cache(maxsize=4096)
def deed_and_place(value: str) -> tuple[str, str] | None:
    """A verb with a preposition of place as participle and preposition ("runs on" -> "running", "on"); None if it is
    something else."""
    verb, _, place = value.lower().partition(" ")
    deed = as_gerund(verb) if place in closed_classes().places else None
    return (deed, place) if deed else None


@lru_cache(maxsize=1)
def _verbs_of_pasts() -> dict[str, str]:
    return {form: verb for verb, forms in closed_classes().irregular.items() for form in forms}


def inflected(phrase: str, tag: str) -> str | None:
    """A phrase that begins with a present participle ("riding a horse") in another form, given as a Penn Treebank tag;
    None if it does not begin with one."""
    verb, space, rest = phrase.partition(" ")
    if tag == "VBG":
        return phrase if base(verb) else None
    stem = base(verb)
    if stem is None:
        return None
    match tag:
        case "VBZ":
            form = third_person(stem)
        case "VB" | "VBP":
            form = "are" if stem == "be" and tag == "VBP" else stem
        case "VBD" | "VBN":
            form = past(stem, tag == "VBN")
        case _:
            return None
    return f"{form}{space}{rest}"


def _doubled(verb: str) -> str:
    closed = len(verb) > 2 and verb[-1] in "bdgmnprt" and verb[-2] in _VOWELS and verb[-3] not in _VOWELS
    stressed = bool(_SINGLE_SYLLABLE.fullmatch(verb)) or verb in closed_classes().doubling
    return f"{verb}{verb[-1]}" if closed and stressed else verb
