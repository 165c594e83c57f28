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
from surd.pipeline.facts.omissions import omission
from surd.pipeline.facts.parse import Sentence
from surd.pipeline.facts.parse_tree import ParseTree
from surd.pipeline.facts.phrases import applied
from surd.pipeline.facts.replacements import replacement


def swap(sentence: Sentence, fact: Fact, other: Fact | str) -> str | None:
    """``sentence`` with another value of ``fact``.

    ``other``: the value (of an entity: what it is called, singular), or the fact that is to be stated instead, which
    may also have another ``to`` than ``fact``: an action whose ``to`` is None takes the place of a verb and its object
    ("riding a horse" -> "sleeping").
    """
    if isinstance(other, str):
        other = replace(fact, of=other) if fact.kind == "entity" else replace(fact, value=other)
    tree = _tree(sentence)
    edits = replacement(tree, fact, other) if tree is not None and fact.start >= 0 else None
    changed = applied(sentence.text, edits) if tree is not None and edits else None
    return changed if changed != sentence.text else None


def drop(sentence: Sentence, fact: Fact) -> str | None:
    """``sentence`` without ``fact`` and what depends on it: a relation goes with the thing that it leads to."""
    tree = _tree(sentence)
    edits = omission(tree, fact) if tree is not None and fact.start >= 0 else None
    changed = applied(sentence.text, edits) if tree is not None and edits else None
    return changed if changed != sentence.text else None


def add(sentence: Sentence, fact: Fact) -> str | None:
    """``sentence`` with ``fact``, which it does not state yet, at the noun that is called ``fact.of``."""
    tree = _tree(sentence)
    if tree is None or not len(tree):
        return None
    styles = [stated.start for stated in sentence.facts if stated.kind == "style" and stated.start >= 0]
    edits = addition(tree, fact, styles)
    return applied(sentence.text, edits) if edits else None


def _tree(sentence: Sentence) -> ParseTree | None:
    return None if sentence.doc is None or sentence.cut else _tree_of(sentence.doc)


@lru_cache(maxsize=64)
def _tree_of(doc: Any) -> ParseTree:
    return ParseTree(doc)
