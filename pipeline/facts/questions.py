"""The yes/no question about one fact alone, for models that look at a picture."""

from __future__ import annotations

from surd.pipeline.facts.fact import Fact
from surd.pipeline.facts.inflection import with_article


def question(fact: Fact) -> str:
    """A question that is answered with yes exactly if the fact is true of the picture (negation aside).

    >>> question(Fact(kind="attribute", of="dress", value="white"))
    'Is the dress white?'
    """
    be = "Are" if fact.plural else "Is"
    thing = f"the {fact.of}"
    match fact.kind:
        case "entity":
            return f"{be} there {fact.of if fact.plural else with_article(fact.of)} in the picture?"
        case "count":
            return f"{be} there exactly {fact.value} {fact.of} in the picture?"
        case "attribute":
            return f"{be} {thing} {fact.value}?"
        case "relation":
            return f"{be} {thing} {fact.value} the {fact.to}?"
        case "action":
            return f"{be} {thing} {fact.value}{f' the {fact.to}' if fact.to else ''}?"
        case "text":
            return f'Does the picture show the text "{fact.value}"?'
        case "style":
            return f"Is the style of the picture {fact.value}?"
