"""Another value in place of a fact's: the places of a sentence that change with it."""

from __future__ import annotations

from surd.pipeline.facts.agreement import gender, pronoun_edits, verb_edits
from surd.pipeline.facts.closed_classes import closed_classes
from surd.pipeline.facts.fact import Fact
from surd.pipeline.facts.inflection import many, one_of
from surd.pipeline.facts.parse_tree import NOUNS, VERBS, ParseTree
from surd.pipeline.facts.phrases import (
    PARTS_OF_NAMES,
    Edit,
    determiner,
    group_of,
    head_of,
    is_plural,
    noun_phrase,
    object_of,
    starts_sentence,
    tokens,
    written,
)
from surd.pipeline.facts.recounting import SOMEONE, recounted
from surd.pipeline.facts.style_phrases import restyled
from surd.pipeline.facts.verb_forms import inflected


def replacement(tree: ParseTree, fact: Fact, other: Fact) -> list[Edit] | None:
    """The edits that turn ``fact`` into ``other``; None if there are none that keep the sentence whole."""
    span = tokens(tree, fact.start, fact.end)
    if not span or (tree.starts[span[0]] != fact.start and fact.kind not in ("count", "text")):
        return None
    beside = tree.text[max(fact.start - 1, 0) : fact.start] + tree.text[fact.end : fact.end + 1]
    if "-" in beside and fact.kind != "text":
        return None
    match fact.kind:
        case "entity":
            return _entity(tree, span, other.of.lower() if other.of.islower() else other.of)
        case "count":
            return recounted(tree, fact, span, other.value.lower())
        case "attribute":
            return _attribute(tree, fact, span, other.value)
        case "relation":
            return _relation(tree, fact, span, other)
        case "action":
            return _action(tree, fact, span, other)
        case "text":
            return [Edit(fact.start, fact.end, other.value)]
        case "style":
            return restyled(tree, span, other.value)


# Things


def _entity(tree: ParseTree, span: range, name: str) -> list[Edit] | None:
    noun = head_of(tree, span)
    if noun is None or not name or noun != span[-1] or tree.deps[noun] in PARTS_OF_NAMES:
        return None
    classes = closed_classes()
    last = name.split(" ")[-1]
    plural = is_plural(tree, noun)
    new_plural = (plural and last not in classes.mass) or last in classes.plural_only
    new = many(one_of(name) or name) if plural else name
    edits = [] if new_plural == plural else verb_edits(tree, noun, new_plural)
    if edits is None:
        return None
    if tree.lower[noun] in SOMEONE:
        edits.append(written(tree, span, name if new_plural or last in classes.mass else f"a {name}"))
    else:
        article = _article_edits(tree, noun, last, new_plural)
        if article is None:
            return None
        opens = any(edit.text == "a " for edit in article)  # then the capital letter is the article's
        edits += [*article, Edit(tree.starts[span[0]], tree.ends[noun], new) if opens else written(tree, span, new)]
    if new_plural != plural or gender(one_of(new) or new if plural else new, new_plural) != _gender_of(tree, noun):
        pronouns = pronoun_edits(tree, noun, new, new_plural)
        if pronouns is None:
            return None
        edits += pronouns
    repeated = _repetitions(tree, noun, new, plural)
    if repeated is None:
        return None
    if noun + 1 < len(tree) and tree.tags[noun + 1] == "POS":
        suffix = "'" if new_plural and new.endswith("s") else "'s"
        edits.append(Edit(tree.starts[noun + 1], tree.ends[noun + 1], suffix))
    return edits + repeated


def _gender_of(tree: ParseTree, noun: int) -> str:
    return gender(tree.lower[noun], is_plural(tree, noun))


def _article_edits(tree: ParseTree, noun: int, new: str, new_plural: bool) -> list[Edit] | None:
    """ "a" goes before what is not counted or is plural, and comes before what is counted where something that is not
    stood alone."""
    classes = closed_classes()
    phrase = noun_phrase(tree, noun)
    lead = determiner(tree, noun)
    number = tree.kid(noun, "nummod")
    uncounted = new_plural or new in classes.mass
    if (number is not None and (new in classes.mass or new_plural != is_plural(tree, noun))) or (
        new in classes.mass and group_of(tree, noun) is not None
    ):
        return None
    if lead is not None and tree.lower[lead] in (
        "a",
        "an",
        "another",
        "each",
        "every",
        "this",
        "that",
        "these",
        "those",
    ):
        if not uncounted or (is_plural(tree, noun) and new_plural):
            return []
        if tree.lower[lead] not in ("a", "an") or lead + 1 >= len(tree):
            return None
        return [Edit(tree.starts[lead], tree.starts[lead + 1])]
    alone = (lead is None and number is None and not is_plural(tree, noun)) or tree.lower[noun] in classes.plural_only
    first = starts_sentence(tree, phrase[0]) and tree.lower[noun] not in classes.mass  # "Truck on a road": a headline
    written_out = not first and (tree.lower[noun] in classes.mass or "a" in tree.lower or "an" in tree.lower)
    if alone and written_out and not uncounted and tree.deps[noun] != "conj":
        return [Edit(tree.starts[phrase[0]], tree.starts[phrase[0]], "a ")]
    return []


def _repetitions(tree: ParseTree, noun: int, new: str, plural: bool) -> list[Edit] | None:
    """The same thing named again ("the dog") changes with it; None where another of its kind is spoken of."""
    edits = []
    for i, word in enumerate(tree.lower):
        if i == noun or word != tree.lower[noun] or tree.tags[i] not in NOUNS:
            continue
        lead = determiner(tree, i)
        said = tree.lower[lead] if lead is not None else ""
        if said in ("another", "other") or any(tree.lower[k] in ("other", "second") for k in tree.kids[i]):
            return None
        if said in ("the", "this", "that", "these", "those") and i > noun and tree.kid(i, "compound") is None:
            edits.append(Edit(tree.starts[i], tree.ends[i], new))
    lead = determiner(tree, noun)
    if lead is not None and tree.lower[lead] == "another":
        return None if any(w == tree.lower[noun] for i, w in enumerate(tree.lower) if i != noun) else edits
    return edits


# What is said of things


def _attribute(tree: ParseTree, fact: Fact, span: range, value: str) -> list[Edit] | None:
    head = head_of(tree, span)
    if not value or head is None or tree.tags[head] in ("JJR", "JJS") or tree.deps[head] in ("pobj", "dobj"):
        return None
    around = (
        tree.text[tree.starts[span[0]] - 1 : tree.starts[span[0]]]
        + tree.text[tree.ends[span[-1]] : tree.ends[span[-1]] + 1]
    )
    if "-" in around:
        return None
    if value.lower() in (tree.lower[i] for i in tree.conjuncts(head) if i not in span):
        return None
    first = tree.heads[head] if tree.deps[head] == "conj" else head
    if first != head and value.lower() == tree.lower[first]:
        return None
    if tree.tags[head] in NOUNS and tree.deps[head] == "attr":
        return _entity(tree, span, value)
    after_noun = tree.heads[head] != head and head > tree.heads[head]
    if not after_noun and value.lower() in closed_classes().postnominal:
        return None
    if not after_noun and " " in value and any(word in ("in", "of", "with", "by", "on") for word in value.split()):
        return None
    return [written(tree, span, value)]


def _relation(tree: ParseTree, fact: Fact, span: range, other: Fact) -> list[Edit] | None:
    value = other.value.lower()
    if not value:
        return None
    first = span[0]
    if tree.tags[first] in VERBS and tree.lower[first] != "left":
        return _verbal_relation(tree, span, value)
    if tree.lower[first] in ("left", "right", "top", "front", "side"):
        while first > 0 and tree.lower[first - 1] in ("the", "to", "on", "at", "in"):
            first -= 1
    if tree.lower[span[-1]] in ("left", "right", "front", "side", "top") and span[-1] + 1 < len(tree):
        return None
    if tree.deps[span[-1]] == "prt" or any(tree.deps[k] == "pcomp" for k in tree.kids[span[-1]]):
        return None
    edits = [written(tree, range(first, span[-1] + 1), value)]
    if other.to and fact.to and other.to.lower() != fact.to.lower():
        target = object_of(tree, span[-1])
        if target is None:
            return None
        moved = _entity(tree, range(target, target + 1), other.to)
        if moved is None or tree.kid(target, "compound") is not None:
            return None
        edits += moved
    return edits


def _verbal_relation(tree: ParseTree, span: range, value: str) -> list[Edit] | None:
    """A verb with its preposition ("looking at" -> "walking towards"); a lone preposition replaces the preposition."""
    tag = tree.tags[span[0]]
    if value.split(" ")[0].endswith("ing"):
        form = inflected(value, tag)
        return [written(tree, span, form)] if form and tag != "VBN" else None
    if len(span) < 2 or value.split(" ")[0].endswith("ed"):
        return [written(tree, span, value)] if tag == "VBN" and value.split(" ")[0].endswith("ed") else None
    return [written(tree, span[1:], value)] if tag == "VBG" else None


def _action(tree: ParseTree, fact: Fact, span: range, other: Fact) -> list[Edit] | None:
    verb = head_of(tree, span)
    if verb is None or tree.tags[verb] not in VERBS or not other.value:
        return None
    done_to = tree.tags[verb] in ("VBN", "VBD") and tree.kid(verb, "aux", "nsubj") is None
    passive = done_to or tree.kid(verb, "auxpass", "nsubjpass") is not None
    form = inflected(other.value, tree.tags[verb]) if not passive else None
    if form is None:
        return None
    words = other.value.split(" ")
    last = span[-1]
    if other.to is None and fact.to:
        target = tree.kid(verb, "dobj", "dative") or object_of(tree, last)
        if target is None or target < verb or tree.kid(target, "conj") is not None:
            return None
        last = noun_phrase(tree, target)[-1]
        kept = noun_phrase(tree, target)[0]
        if any(i not in range(kept, last + 1) for i in range(span[-1] + 1, last + 1)):
            return None
        if any(k > target and (tree.lower[k] == "of" or tree.deps[k] in ("relcl", "acl")) for k in tree.kids[target]):
            return None
    elif (fact.to and len(words) > 2 and not any(other.value.endswith(f" {p}") for p in closed_classes().places)) or (
        not fact.to
        and any(tree.deps[k] in ("dobj", "xcomp", "ccomp", "pobj", "oprd") for i in (verb, *span) for k in tree.kids[i])
    ):
        return None
    return [written(tree, range(span[0], last + 1), form)]
