"""Sentences with one fact changed: another value of it, without it, or with one more; grammar is kept.

None means that the sentence cannot be changed so without breaking it. The functions read the sentence's parse and never
parse again: 20 to 60 microseconds each.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from surd.pipeline.facts.additions import addition
from surd.pipeline.facts.fact import Fact
from surd.pipeline.facts.forms import form_of
from surd.pipeline.facts.omissions import omission
from surd.pipeline.facts.parse import Sentence
from surd.pipeline.facts.parse_tree import ParseTree
from surd.pipeline.facts.phrases import Edit, applied, group_of, head_of, tokens
from surd.pipeline.facts.replacements import replacement
from surd.pipeline.facts.stated_values import style_start


def swap(sentence: Sentence, fact: Fact, other: Fact | str) -> str | None:
    """``sentence`` with another value of ``fact``.

    ``other``: the value (of an entity: what it is called, singular), or the fact that is to be stated instead, which
    may also have another ``to`` than ``fact``: an action whose ``to`` is None takes the place of a verb and its object
    ("riding a horse" -> "sleeping").
    """
    if isinstance(other, str):
        other = replace(fact, of=other) if fact.kind == "entity" else replace(fact, value=other)
    if _is_blank(other):
        return None
    tree = _tree(sentence)
    edits = replacement(tree, fact, other) if tree is not None and fact.start >= 0 else None
    return _changed(sentence, edits)


def drop(sentence: Sentence, fact: Fact) -> str | None:
    """``sentence`` without ``fact`` and what depends on it: a relation goes with the thing that it leads to."""
    tree = _tree(sentence)
    edits = omission(tree, fact) if tree is not None and fact.start >= 0 else None
    return _changed(sentence, edits)


def add(sentence: Sentence, fact: Fact) -> str | None:
    """``sentence`` with ``fact``, which it does not state yet, at the noun that is called ``fact.of``."""
    tree = _tree(sentence)
    if tree is None or not len(tree) or _is_blank(fact):
        return None
    styles = [stated.start for stated in sentence.facts if stated.kind == "style" and stated.start >= 0]
    edits = addition(tree, fact, styles)
    return _changed(sentence, edits)


def _is_blank(fact: Fact) -> bool:
    return not (fact.of if fact.kind == "entity" else fact.value).strip()


def counts_by_article(sentence: Sentence) -> list[Fact]:
    """The counts of one that a sentence states by "a" and "an" alone ("A cat on a chair": one cat, one chair), which
    ``swap`` can change; for things that stand in the singular, places and names of styles left out."""
    tree = _tree(sentence)
    if tree is None:
        return []
    counted = {fact.of_start for fact in sentence.facts if fact.kind == "count"}
    found = []
    end = style_start(sentence)
    for fact in sentence.facts:
        if fact.kind != "entity" or fact.plural or fact.negated or fact.of_start in counted or fact.start >= end:
            continue
        noun = head_of(tree, tokens(tree, fact.of_start, fact.of_end))
        lead = tree.kid(noun, "det") if noun is not None else None
        if noun is None or lead is None or tree.lower[lead] not in ("a", "an") or group_of(tree, noun) is not None:
            continue
        place = {"start": tree.starts[lead], "end": tree.ends[lead]}
        found.append(replace(fact, kind="count", value="one", aspect="", **place))
    return found


def _changed(sentence: Sentence, edits: list[Edit] | None) -> str | None:
    changed = applied(sentence.text, edits) if edits else None
    if changed is not None and sentence.text.isupper():
        changed = changed.upper()
    return changed if changed != sentence.text else None


def _tree(sentence: Sentence) -> ParseTree | None:
    return None if sentence.doc is None or sentence.cut else _tree_of(sentence.doc, sentence.text)


@lru_cache(maxsize=64)
def _tree_of(doc: Any, text: str) -> ParseTree:
    return ParseTree(doc, form_of(text))
