"""What a pair's prompt says, as captioners are told: its text, its keywords without praise, its facts as phrases."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from surd.pipeline.facts.fact import Fact
from surd.pipeline.facts.parse import extract
from surd.pipeline.sentences.caption_templates import Context, without_markup
from surd.schemas import Cleaned
from surd.schemas.config import FactsConfig


def contexts(rows: Sequence[Cleaned], placeholders: Collection[str], config: FactsConfig) -> list[Context]:
    """The context of each row, as far as ``placeholders`` of templates need it.

    Raises SurdError if ``facts.parser`` is missing where facts are needed.
    """
    texts = [without_markup(row.complex or "") for row in rows]
    facts: Sequence[tuple[Fact, ...]] = [()] * len(rows)
    if "facts" in placeholders:
        facts = [sentence.facts for sentence in extract(texts, config)]
    return [
        Context(prompt=text, keywords=_keywords(row), facts=phrases(of_row))
        for text, row, of_row in zip(texts, rows, facts, strict=True)
    ]


def phrases(facts: Sequence[Fact]) -> list[str]:
    """Facts as short phrases, each once: ``white dress``, ``three apples``, ``dog on table``.

    A thing that another fact speaks of has no phrase of its own.
    """
    spoken_of = {name for fact in facts if fact.kind != "entity" for name in (fact.of, fact.to)}
    said = (_phrase(fact) for fact in facts if fact.kind != "entity" or fact.negated or fact.of not in spoken_of)
    return list(dict.fromkeys(said))


def _phrase(fact: Fact) -> str:
    match fact.kind:
        case "entity":
            text = fact.of
        case "attribute" | "count":
            text = f"{fact.value} {fact.of}"
        case "relation" | "action":
            text = " ".join(part for part in (fact.of, fact.value, fact.to) if part)
        case "text":
            text = f'the text "{fact.value}"'
        case "style":
            text = f"style: {fact.value}"
    return f"no {text}" if fact.negated else text


def _keywords(row: Cleaned) -> list[str]:
    praise = set(row.qualities or ())
    return [keyword for keyword in row.keywords or () if keyword not in praise]
