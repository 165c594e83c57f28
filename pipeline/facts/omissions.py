"""A sentence without one of its facts: the phrases that go with it."""

from __future__ import annotations

from surd.pipeline.facts.fact import Fact
from surd.pipeline.facts.omitted_phrases import BE, cut_apart, depth, outermost, phrase, predicate, verb_phrase
from surd.pipeline.facts.parse_tree import NOUNS, VERBS, ParseTree
from surd.pipeline.facts.phrases import (
    SUBJECTS,
    Edit,
    cut,
    determiner,
    head_of,
    is_plural,
    main_noun,
    noun_phrase,
    object_of,
    subtree,
    tokens,
)
from surd.pipeline.facts.style_phrases import apart, leading, place


def omission(tree: ParseTree, fact: Fact) -> list[Edit] | None:
    """The edits that take ``fact`` out of its sentence; None if none leave it whole."""
    span = tokens(tree, fact.start, fact.end)
    if not span:
        return None
    head = head_of(tree, span)
    if head is None:
        return None
    match fact.kind:
        case "entity":
            return _entity(tree, head)
        case "count":
            return _count(tree, fact, span)
        case "attribute":
            return _attribute(tree, fact, span, head)
        case "relation":
            return _relation(tree, fact, span)
        case "action":
            return _action(tree, head)
        case "text":
            return _text(tree, span)
        case "style":
            return _style(tree, span)


def _entity(tree: ParseTree, noun: int) -> list[Edit] | None:
    if tree.kid(noun, "conj") is not None or tree.deps[noun] == "conj":
        return _conjunct(tree, noun)
    if noun == main_noun(tree):
        return None
    head = tree.heads[noun]
    if tree.deps[noun] == "pobj":
        return phrase(tree, outermost(tree, head))
    if tree.deps[noun] in ("dobj", "obj") and tree.tags[head] in VERBS:
        return verb_phrase(tree, head, whole=True)
    return None


def _conjunct(tree: ParseTree, noun: int) -> list[Edit] | None:
    """One of several that are joined: "a dog and a cat" -> "a dog"; the verb agrees with what is left."""
    first = noun
    while tree.deps[first] == "conj":
        first = tree.heads[first]
    joined = tree.conjuncts(first)
    if any(tree.tags[i] not in NOUNS for i in joined) or len(joined) > 2:
        return None
    second = joined[1]
    joint = tree.kid(first, "cc")
    if joint is None or tree.lower[joint] != "and" or not first < joint < second:
        return None
    if any(i not in (joint,) and i > first and tree.deps[i] != "conj" for i in tree.kids[first]):
        return None
    if noun == second:
        edits = [cut(tree, range(joint, subtree(tree, second)[-1] + 1))]
        left = first
    else:
        if determiner(tree, second) is None and not is_plural(tree, second):
            return None
        start, end = noun_phrase(tree, first)[0], noun_phrase(tree, second)[0]
        edits = [Edit(tree.starts[start], tree.starts[end])]
        left = second
    if tree.deps[first] in SUBJECTS and not is_plural(tree, left):
        verb = tree.heads[first]
        if tree.tags[verb] not in VERBS:
            return None
        for word in (verb, *tree.kids[verb]):
            if (word == verb or tree.deps[word] in ("aux", "auxpass")) and tree.lower[word] in ("are", "were", "have"):
                form = {"are": "is", "were": "was", "have": "has"}[tree.lower[word]]
                edits.append(Edit(tree.starts[word], tree.ends[word], form))
                break
        else:
            if tree.tags[verb] == "VBP":
                return None
    return edits


def _count(tree: ParseTree, fact: Fact, span: range) -> list[Edit] | None:
    noun = head_of(tree, tokens(tree, fact.of_start, fact.of_end))
    if noun is None or not is_plural(tree, noun) or span[-1] >= noun:
        return None
    last = span[-1]
    if (
        tree.text[tree.ends[last] : tree.ends[last] + 1] == "-"
        or tree.text[tree.starts[span[0]] - 1 : tree.starts[span[0]]] == "-"
    ):
        return None
    first = span[0]
    if tree.lower[last + 1] == "of":
        last += 1
        first = subtree(tree, span[0])[0]
        if any(tree.deps[i] not in ("det",) for i in range(first, span[0])):
            return None
    elif tree.heads[last] != noun and noun not in subtree(tree, last):
        return None
    elif first > 0 and tree.lower[first - 1] in ("a", "an"):
        first -= 1
    if (
        tree.kid(noun, "conj") is not None
        and first == noun_phrase(tree, noun)[0]
        and determiner(tree, noun) is not None
    ):
        return None
    return [cut(tree, range(first, last + 1))]


def _attribute(tree: ParseTree, fact: Fact, span: range, head: int) -> list[Edit] | None:
    before, after = tree.starts[span[0]] - 1, tree.ends[span[-1]]
    if "-" in tree.text[max(before, 0) : before + 1] + tree.text[after : after + 1]:
        return None
    if tree.kid(head, "conj", "cc") is not None or tree.deps[head] == "conj":
        return _joined_attribute(tree, head, span)
    if tree.deps[head] in ("acomp", "attr", "oprd") and tree.heads[head] != head:
        return predicate(tree, tree.heads[head], head)
    whole = subtree(tree, head)
    noun = tree.heads[head]
    if tree.deps[head] in ("amod", "nmod", "compound", "advmod") and head < noun:
        first = min(whole[0], span[0])
        if first > 0 and tree.words[first - 1] == "," and tree.heads[first - 1] == noun:
            first -= 1
        elif first == noun_phrase(tree, noun)[0] and not is_plural(tree, noun) and determiner(tree, noun) is not None:
            return None
        last = head
        if tree.words[last + 1] == "," and tree.words[first] != ",":
            last += 1
        return [cut(tree, range(first, last + 1))]
    if tree.deps[head] == "acl" and head > noun:
        return [cut(tree, whole)] if not _holds(tree, whole) else None
    return None


def _holds(tree: ParseTree, span: range) -> bool:
    """Whether a span says more than one thing: it has a noun in it."""
    return any(tree.tags[i] in NOUNS for i in span)


def _joined_attribute(tree: ParseTree, head: int, span: range) -> list[Edit] | None:
    """One of two adjectives: "black and white" -> "white"."""
    first = tree.heads[head] if tree.deps[head] == "conj" else head
    joined = tree.conjuncts(first)
    joint = tree.kid(first, "cc")
    if len(joined) != 2 or joint is None or not joined[0] < joint < joined[1] or len(span) > 1:
        return None
    if tree.deps[first] not in ("amod", "acomp") or any(tree.kids[i] for i in (joined[1],)):
        return None
    if head == joined[1]:
        return [cut(tree, range(joint, head + 1))]
    return [Edit(tree.starts[head], tree.starts[joined[1]])]


def _relation(tree: ParseTree, fact: Fact, span: range) -> list[Edit] | None:
    head = span[0]
    if tree.tags[head] in VERBS:
        if tree.lower[head] in BE:
            return None
        return verb_phrase(tree, head, whole=True)
    first = min(span, key=lambda i: depth(tree, i))
    return phrase(tree, outermost(tree, first))


def _text(tree: ParseTree, span: range) -> list[Edit] | None:
    """The phrase that says what is written somewhere: "that says ...", "with the text ...", "reading ..."."""
    at = span[0] - 1  # the parser hangs a quotation anywhere; what it is called, or who says it, stands before it
    for _ in range(8):
        if at < 0 or tree.heads[at] == at:
            return None
        head = tree.heads[at]
        if tree.deps[at] in ("acl", "relcl", "prep") and head < at and tree.tags[head] in NOUNS:
            whole = subtree(tree, at)
            if any(tree.deps[k] == "prep" and k > span[-1] for k in tree.kids[at]):
                return None
            return [cut_apart(tree, range(whole[0], max(whole[-1], span[-1]) + 1))]
        at = head
    return None


def _style(tree: ParseTree, span: range) -> list[Edit] | None:
    if leading(tree, span):
        after = span[-1] + 1
        head = tree.heads[span[-1]]
        first = subtree(tree, span[-1])[0]
        if head == span[-1] and first == 0 and object_of(tree, after) is not None:
            return [Edit(tree.starts[0], tree.starts[after + 1])]
        return None
    whole = place(tree, span)
    if apart(tree, whole):
        return [cut(tree, range(whole[0] - 1, whole[-1] + 1))]
    if whole[0] < span[0] and whole[0] > 0:
        after = whole[-1] + 1
        if after >= len(tree) or not tree.words[after][0].isalnum():
            return [cut(tree, whole)]
    return None


def _action(tree: ParseTree, verb: int) -> list[Edit] | None:
    return verb_phrase(tree, verb, whole=False) if tree.tags[verb] in VERBS else None
