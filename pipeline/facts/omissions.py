"""A sentence without one of its facts: the phrases that go with it."""

from __future__ import annotations

from surd.pipeline.facts.closed_classes import closed_classes
from surd.pipeline.facts.fact import Fact
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

_BE = ("is", "are", "was", "were", "'s", "'re", "be", "being", "been")


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
        return _phrase(tree, outermost(tree, head))
    if tree.deps[noun] in ("dobj", "obj") and tree.tags[head] in VERBS:
        return _verb_phrase(tree, head, whole=True)
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
        return _predicate(tree, tree.heads[head], head)
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


def _predicate(tree: ParseTree, verb: int, said: int) -> list[Edit] | None:
    """ "The dress is white" -> "The dress": a verb of being goes with what it says, if it says nothing else."""
    if tree.lower[verb] not in _BE and tree.lower[verb] not in ("looks", "look", "appears", "appear", "seems", "seem"):
        return None
    subject = tree.kid(verb, *SUBJECTS)
    if subject is None or tree.kid(verb, "expl") is not None or tree.lower[subject] in ("that", "which", "who"):
        return None
    rest = [
        k for k in tree.kids[verb] if k not in (subject, said) and tree.deps[k] not in ("punct", "aux", "neg", "advmod")
    ]
    whole = range(min(verb, *(k for k in (*tree.kids[verb], verb) if k > subject)), subtree(tree, said)[-1] + 1)
    if (
        subtree(tree, subject)[-1] >= whole[0]
        or any(k in whole for k in rest)
        or tree.deps[verb] not in ("ROOT", "relcl")
    ):
        return None
    if any(tree.deps[k] != "prep" for k in rest) or tree.tags[subject] not in NOUNS:
        return None
    return [cut(tree, whole)]


def _relation(tree: ParseTree, fact: Fact, span: range) -> list[Edit] | None:
    head = span[0]
    if tree.tags[head] in VERBS:
        if tree.lower[head] in _BE:
            return None
        return _verb_phrase(tree, head, whole=True)
    first = min(span, key=lambda i: _depth(tree, i))
    return _phrase(tree, outermost(tree, first))


def _depth(tree: ParseTree, i: int) -> int:
    depth = 0
    while tree.heads[i] != i and depth < 100:
        i, depth = tree.heads[i], depth + 1
    return depth


def outermost(tree: ParseTree, preposition: int) -> int:
    """The word at which a prepositional phrase begins: "on" of "on top of", "next" of "next to", "to" of "to the
    left of"."""
    outer = preposition
    while True:
        head = tree.heads[outer]
        if head == outer or head > outer:
            return outer
        nested = tree.deps[outer] in ("prep", "pcomp") and tree.deps[head] in ("prep", "advmod") and head == outer - 1
        place = (
            tree.lower[outer] in ("of", "to")
            and tree.deps[head] == "pobj"
            and tree.lower[head]
            in (
                "left",
                "right",
                "top",
                "front",
                "side",
                "middle",
                "back",
                "edge",
                "center",
                "bottom",
                "inside",
                "corner",
            )
        )
        if nested and (tree.tags[head] == "RB" or tree.deps[head] == "prep" or tree.tags[head] == "IN"):
            outer = head
        elif place and tree.heads[head] < head:
            outer = tree.heads[head]
        else:
            return outer


def _phrase(tree: ParseTree, head: int) -> list[Edit] | None:
    """A prepositional phrase with all in it; the verb too if it says nothing without."""
    whole = subtree(tree, head)
    governor = tree.heads[head]
    if (
        (whole[0] != head and tree.tags[whole[0]] not in ("RB", "JJ"))
        or governor == head
        or (head < governor and whole[0] == 0)
    ):
        return None
    if (
        tree.deps[head] == "conj"
        or tree.kid(head, "conj", "cc") is not None
        or tree.deps[head] not in ("prep", "advmod", "agent")
    ):
        return None
    if tree.lower[head] == "of":
        return None
    if tree.tags[governor] not in VERBS:
        return [_cut_apart(tree, whole)]
    others = [k for k in tree.kids[governor] if k not in whole and tree.deps[k] not in ("punct", "cc", "conj")]
    if tree.lower[governor] in _BE:
        if tree.kid(governor, "attr", "acomp", "expl") is not None:
            return [_cut_apart(tree, whole)]
        return _predicate(tree, governor, head)
    needs = tree.lower[governor] in closed_classes().needy or (
        tree.tags[governor] == "VBN" and tree.deps[head] == "agent"
    )
    if not needs or any(tree.deps[k] in ("dobj", "oprd") for k in others):
        return [_cut_apart(tree, whole)]
    return _verb_phrase(tree, governor, whole=True)


def _cut_apart(tree: ParseTree, whole: range) -> Edit:
    """A phrase left out with the comma before it if another, or the end, follows."""
    first, after = whole[0], whole[-1] + 1
    while after - 1 > first and tree.deps[after - 1] == "punct" and tree.words[after - 1] in ",;.!?":
        after -= 1
    if first > 1 and tree.words[first - 1] == "," and (after >= len(tree) or not tree.words[after][0].isalnum()):
        first -= 1
    return cut(tree, range(first, after))


def _action(tree: ParseTree, verb: int) -> list[Edit] | None:
    return _verb_phrase(tree, verb, whole=False) if tree.tags[verb] in VERBS else None


def _verb_phrase(tree: ParseTree, verb: int, *, whole: bool) -> list[Edit] | None:
    """A verb with its object, or with everything that depends on it (``whole``), left out."""
    deps = {tree.deps[k] for k in tree.kids[verb]}
    if deps & {"ccomp", "xcomp", "dative", "expl", "pcomp", *(() if whole else ("agent",))}:
        return None
    if any(tree.deps[k] == "advcl" and tree.words[subtree(tree, k)[0] - 1] != "," for k in tree.kids[verb]):
        return None
    if "conj" in deps or tree.deps[verb] == "conj":
        return _joined_verb(tree, verb)
    subject = tree.kid(verb, *SUBJECTS)
    if tree.deps[verb] in ("acl", "relcl", "advcl"):
        first = subtree(tree, verb)[0] if tree.deps[verb] != "acl" or whole else verb
        if tree.deps[verb] != "acl" or whole:
            span = subtree(tree, verb)
            if subject is not None and tree.deps[verb] == "advcl":
                return None
            if span[0] > tree.heads[verb] or tree.deps[verb] == "advcl":
                return [_cut_apart(tree, span)]
            return None
        return [_cut_apart(tree, range(first, object_end(tree, verb) + 1))] if first > tree.heads[verb] else None
    if tree.deps[verb] == "ROOT" and subject is not None and tree.tags[subject] in NOUNS:
        start = subtree(tree, subject)[-1] + 1
        end = subtree(tree, verb)[-1] if whole else object_end(tree, verb)
        while end > verb and tree.deps[end] == "punct":
            end -= 1
        if start > verb or any(tree.deps[i] not in ("aux", "auxpass", "advmod", "neg") for i in range(start, verb)):
            return None
        if any(k > end and tree.deps[k] not in ("prep", "punct") for k in tree.kids[verb]):
            return None
        return [cut(tree, range(start, end + 1))]
    return None


def object_end(tree: ParseTree, verb: int) -> int:
    last = verb
    for kid in tree.kids[verb]:
        if kid > verb and tree.deps[kid] in ("prt", "dobj", "oprd", "acomp", "attr", "neg", "npadvmod"):
            last = max(last, subtree(tree, kid)[-1])
    for kid in tree.kids[verb]:
        if tree.deps[kid] == "advmod" and kid == last + 1 and not tree.kids[kid]:
            last = kid
    return last


def _joined_verb(tree: ParseTree, verb: int) -> list[Edit] | None:
    """One of two verbs: "standing and eating an apple" -> "standing"."""
    first = tree.heads[verb] if tree.deps[verb] == "conj" else verb
    joined = tree.conjuncts(first)
    joint = tree.kid(first, "cc")
    if (
        len(joined) != 2
        or joint is None
        or not first < joint < joined[1]
        or tree.tags[joined[0]] != tree.tags[joined[1]]
    ):
        return None
    second = joined[1]
    if tree.kid(second, *SUBJECTS, "aux") is not None:
        return None
    if verb == second:
        last = subtree(tree, second)[-1]
        while tree.deps[last] == "punct":
            last -= 1
        start = joint - 1 if tree.words[joint - 1] == "," else joint
        return [cut(tree, range(start, last + 1))]
    return [Edit(tree.starts[first], tree.starts[second])]


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
            return [_cut_apart(tree, range(whole[0], max(whole[-1], span[-1]) + 1))]
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
