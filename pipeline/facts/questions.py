"""The yes/no question about one fact alone, for models that look at a picture."""

from __future__ import annotations

from dataclasses import replace

from surd.pipeline.facts.fact import Fact
from surd.pipeline.facts.inflection import with_article
from surd.pipeline.facts.vocabulary import vocabulary

#: Participles that do not end in -ed.
_PARTICIPLES = frozenset(
    ("made", "seen", "held", "worn", "drawn", "shown", "built", "cut", "written", "taken", "given", "hung", "lit",
     "set", "bent", "laid", "put", "fed", "eaten", "ridden", "driven", "thrown", "blown", "broken", "spread", "shot")
)  # fmt: skip


def question(fact: Fact) -> str:
    """A question that is answered with yes exactly if the fact is true of the picture (negation aside).

    >>> question(Fact(kind="attribute", of="dress", value="white"))
    'Is the dress white?'
    """
    if fact.start == 0:  # where a sentence begins, a capital letter means nothing
        fact = replace(fact, value=fact.value[:1].lower() + fact.value[1:])
    be = "Are" if fact.plural else "Is"
    thing = _the(fact.of)
    match fact.kind:
        case "entity":
            return f"{be} there {fact.of if fact.plural else with_article(fact.of)} in the picture?"
        case "count":
            return _count_question(fact, be)
        case "attribute":
            return f"{be} {thing} {fact.value}?"
        case "relation":
            return f"{be} {thing} {fact.value} {_the(fact.to or '')}?"
        case "action":
            to = f" {_the(fact.to)}" if fact.to else ""
            if _is_participle(fact.value):
                return f"{be} {thing} {fact.value}{to}?"
            return f"{'Do' if fact.plural else 'Does'} {thing} {_bare(fact.value)}{to}?"
        case "text":
            return f'Does the picture show the text "{fact.value}"?'
        case "style":
            return f"Is the style of the picture {fact.value}?"


def _the(phrase: str) -> str:
    return phrase if phrase in ("each other", "one another") else f"the {phrase}"


def _count_question(fact: Fact, be: str) -> str:
    """ "exactly" only with a number; "a group of" with a noun that groups."""
    words, value = vocabulary(), fact.value.lower()
    if value in words.amounts and value not in words.quantities:
        return f"Is there {with_article(value)} of {fact.of} in the picture?"
    exactly = "" if value in words.quantities else "exactly "
    return f"{be} there {exactly}{fact.value} {fact.of} in the picture?"


def _is_participle(value: str) -> bool:
    verb = value.split(" ")[0].lower()
    return verb.endswith(("ing", "ed")) or verb in _PARTICIPLES


def _bare(value: str) -> str:
    """A verb phrase as it stands behind "does": "has" gives "have", "carries up" "carry up"."""
    verb, space, rest = value.partition(" ")
    low = verb.lower()
    if low == "has":
        low = "have"
    elif low.endswith("ies") and len(low) > 4:
        low = low[:-3] + "y"
    elif low.endswith(("ches", "shes", "sses", "xes", "oes")):
        low = low[:-2]
    elif low.endswith("s") and not low.endswith("ss"):
        low = low[:-1]
    return low + space + rest
