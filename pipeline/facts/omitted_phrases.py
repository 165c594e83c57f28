"""Phrases left out of a sentence with what would not stand without them: prepositional phrases, verbs, predicates."""

from __future__ import annotations

from surd.pipeline.facts.closed_classes import closed_classes
from surd.pipeline.facts.parse_tree import NOUNS, VERBS, ParseTree
from surd.pipeline.facts.phrases import SUBJECTS, Edit, cut, subtree
from surd.pipeline.facts.vocabulary import vocabulary

BE = ("is", "are", "was", "were", "'s", "'re", "be", "being", "been")


def predicate(tree: ParseTree, verb: int, said: int) -> list[Edit] | None:
    """ "The dress is white" -> "The dress": a verb of being goes with what it says, if it says nothing else."""
    if tree.lower[verb] not in BE and tree.lower[verb] not in ("looks", "look", "appears", "appear", "seems", "seem"):
        return None
    subject = tree.kid(verb, *SUBJECTS)
    if subject is None or tree.kid(verb, "expl") is not None or tree.lower[subject] in ("that", "which", "who"):
        return None
    rest = [
        k for k in tree.kids[verb] if k not in (subject, said) and tree.deps[k] not in ("punct", "aux", "neg", "advmod")
    ]
    whole = range(min((verb, *(k for k in tree.kids[verb] if k > subject))), subtree(tree, said)[-1] + 1)
    if (
        not whole
        or subtree(tree, subject)[-1] >= whole[0]
        or any(k in whole for k in rest)
        or tree.deps[verb] not in ("ROOT", "relcl")
    ):
        return None
    if any(tree.deps[k] != "prep" for k in rest) or tree.tags[subject] not in NOUNS:
        return None
    return [cut(tree, whole)]


def depth(tree: ParseTree, i: int) -> int:
    """How many words stand between a token and the root of its sentence."""
    steps = 0
    while tree.heads[i] != i:
        i, steps = tree.heads[i], steps + 1
    return steps


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
            tree.lower[outer] in ("of", "to") and tree.deps[head] == "pobj" and tree.lower[head] in vocabulary().places
        )
        adverb = tree.tags[head] in ("RB", "IN") or tree.lower[head] in ("next", "close", "adjacent")
        if nested and (adverb or tree.deps[head] == "prep"):
            outer = head
        elif place and tree.heads[head] < head:
            outer = tree.heads[head]
        else:
            return outer


def phrase(tree: ParseTree, head: int) -> list[Edit] | None:
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
    if tree.lower[head] == "of" or tree.deps[whole[-1]] == "cc":
        return None
    if tree.tags[governor] not in VERBS:
        return [cut_apart(tree, whole)]
    others = [k for k in tree.kids[governor] if k not in whole and tree.deps[k] not in ("punct", "cc", "conj")]
    if tree.lower[governor] in BE:
        if tree.kid(governor, "attr", "acomp", "expl") is not None:
            return [cut_apart(tree, whole)]
        return predicate(tree, governor, head)
    needs = tree.lower[governor] in closed_classes().needy or (
        tree.tags[governor] == "VBN" and tree.deps[head] == "agent"
    )
    if not needs or any(tree.deps[k] in ("dobj", "oprd") for k in others):
        return [cut_apart(tree, whole)]
    return verb_phrase(tree, governor, whole=True)


def cut_apart(tree: ParseTree, whole: range) -> Edit:
    """A phrase left out with the comma before it if another, or the end, follows."""
    first, after = whole[0], whole[-1] + 1
    while after - 1 > first and tree.deps[after - 1] == "punct" and tree.words[after - 1] in ",;.!?":
        after -= 1
    if first > 1 and tree.words[first - 1] == "," and (after >= len(tree) or not tree.words[after][0].isalnum()):
        first -= 1
    return cut(tree, range(first, after))


def verb_phrase(tree: ParseTree, verb: int, *, whole: bool) -> list[Edit] | None:
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
                return [cut_apart(tree, span)]
            return None
        return [cut_apart(tree, range(first, object_end(tree, verb) + 1))] if first > tree.heads[verb] else None
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
