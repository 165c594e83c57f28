"""Another number of things in a sentence: the number, its noun, and the words that agree with them."""

from __future__ import annotations

from surd.pipeline.facts.agreement import pronoun_edits, verb_edits
from surd.pipeline.facts.closed_classes import closed_classes
from surd.pipeline.facts.fact import Fact
from surd.pipeline.facts.inflection import many, one_of
from surd.pipeline.facts.parse_tree import ParseTree
from surd.pipeline.facts.phrases import (
    Edit,
    cut,
    determiner,
    group_of,
    head_of,
    is_plural,
    subtree,
    tokens,
    written,
)
from surd.pipeline.facts.vocabulary import vocabulary

#: Words for exactly one.
ONE = ("one", "a", "an", "a single", "single", "lone", "1")
SOMEONE = ("someone", "somebody", "anyone", "anybody")


def recounted(tree: ParseTree, fact: Fact, span: range, value: str) -> list[Edit] | None:
    """The edits that put the number ``value`` in place of a count's (``span``); None if the sentence would break."""
    of_span = tokens(tree, fact.of_start, fact.of_end)
    noun = head_of(tree, of_span)
    if not value:
        return None
    if noun is None:
        return None
    if tree.lower[noun] in SOMEONE and span[-1] == noun:
        if value in ONE:
            return None
        verbs = verb_edits(tree, noun, True)
        pronouns = pronoun_edits(tree, noun, "people", True)
        return (
            None if verbs is None or pronouns is None else [*verbs, *pronouns, written(tree, span, f"{value} people")]
        )
    number = _number_span(tree, span, noun)
    if number is None:
        return None
    single, was_single = value in ONE, not is_plural(tree, noun)
    grouped = group_of(tree, noun)
    if grouped is not None and grouped not in number and single:
        return None
    partitive = number[-1] + 1 < len(tree) and tree.lower[number[-1] + 1] == "of"
    word = "one" if partitive else "a" if single else value
    edits: list[Edit] = []
    if single != was_single:
        changed = _renumbered(
            tree, noun, noun if grouped is None or grouped not in number else grouped, single, partitive
        )
        if changed is None:
            return None
        edits += changed
    lead = determiner(tree, noun)
    if lead is not None and lead < number[0] and lead not in number:
        if not single:
            edits.append(written(tree, number, value))
        else:
            before = {"these": "this", "those": "that"}.get(tree.lower[lead])
            if before:
                edits.append(written(tree, range(lead, lead + 1), before))
            edits.append(cut(tree, number))
        return edits
    return [*edits, written(tree, number, word)]


def _number_span(tree: ParseTree, span: range, noun: int) -> range | None:
    """The words of a number with the article and the "of" that belong to it: "a couple of", "a single"."""
    first, last = span[0], span[-1]
    if last >= noun or tree.text[tree.ends[last] : tree.ends[last] + 1] == "-":
        return None
    if tree.text[tree.starts[first] - 1 : tree.starts[first]] == "-":
        return None
    if tree.lower[last] in vocabulary().collectives and tree.lower[last + 1] == "of":
        last += 1
    if (
        first > 0
        and tree.lower[first - 1] in ("a", "an")
        and (last > span[-1] or tree.lower[first] in ("single", "lone", "dozen", "few"))
    ):
        first -= 1
    if last > span[-1] and first > 0 and tree.deps[first - 1] in ("amod", "det", "poss", "nummod"):
        return None
    if last == span[-1] and not (tree.heads[last] == noun or noun in subtree(tree, last)):
        return None
    return range(first, last + 1)


def _renumbered(tree: ParseTree, noun: int, subject: int, single: bool, partitive: bool) -> list[Edit] | None:
    """The noun, and what agrees with it (``subject``: with "couple of" before it), made singular or plural; None if
    something speaks of several."""
    if single and any(
        word in closed_classes().together for i, word in enumerate(tree.lower) if not _counts(tree, i, noun)
    ):
        return None
    if any(tree.deps[kid] in ("conj", "appos") for kid in tree.kids[noun]) or tree.deps[noun] == "conj":
        return None
    edits = verb_edits(tree, subject, not single)
    name = one_of(tree.words[noun]) if single else many(tree.words[noun])
    if edits is None or name is None or (not single and tree.lower[noun] in closed_classes().mass):
        return None
    if partitive:
        return edits
    pronouns = pronoun_edits(tree, noun, name, not single)
    if pronouns is None:
        return None
    return [*edits, *pronouns, written(tree, range(noun, noun + 1), name)]


def _counts(tree: ParseTree, i: int, noun: int) -> bool:
    """Whether a token is a number or word before the noun itself, or a pronoun (which is changed with it)."""
    return (tree.heads[i] == noun and i < noun) or tree.tags[i] in ("PRP", "PRP$")
