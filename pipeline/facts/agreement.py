"""Verbs and pronouns that agree with a noun whose number or gender changes."""

from __future__ import annotations

from surd.pipeline.facts.closed_classes import closed_classes
from surd.pipeline.facts.inflection import one_of
from surd.pipeline.facts.parse_tree import NOUNS, VERBS, ParseTree
from surd.pipeline.facts.phrases import SUBJECTS, Edit, main_noun
from surd.pipeline.facts.verb_forms import plural_person, third_person

_TO_PLURAL = {"is": "are", "was": "were", "has": "have", "does": "do", "'s": " are", "’s": " are"}
_TO_SINGULAR = {"are": "is", "were": "was", "have": "has", "do": "does", "'re": " is", "’re": " is"}
_GENDER = {"he": "he", "him": "he", "his": "he", "himself": "he", "she": "she", "her": "she", "hers": "she",
           "herself": "she", "it": "it", "its": "it", "itself": "it", "they": "they", "them": "they", "their": "they",
           "theirs": "they", "themselves": "they"}  # fmt: skip
#: Subject, object, possessive, reflexive.
_FORMS = {
    "he": ("he", "him", "his", "himself"),
    "she": ("she", "her", "her", "herself"),
    "it": ("it", "it", "its", "itself"),
    "they": ("they", "them", "their", "themselves"),
}


def verb_edits(tree: ParseTree, noun: int, plural: bool) -> list[Edit] | None:
    """The changes of verbs that a change of a noun's number needs; None if the sentence would not stand it."""
    if tree.kid(noun, "conj") is not None or tree.deps[noun] == "conj":
        return [] if _verbs_of_relatives(tree, noun) == [] else None
    verbs = _verbs_of_relatives(tree, noun)
    head = tree.heads[noun]
    if head != noun and (
        tree.deps[noun] in SUBJECTS or (tree.deps[noun] == "attr" and tree.kid(head, "expl") is not None)
    ):
        if tree.tags[head] not in VERBS or (tree.deps[noun] in SUBJECTS and _equated(tree, head)):
            return None
        verbs += [head, *(v for v in tree.conjuncts(head)[1:] if tree.kid(v, *SUBJECTS) is None)]
    edits = []
    for verb in verbs:
        finite = _finite(tree, verb)
        if finite is None:
            continue
        word = tree.lower[finite]
        if plural:
            form = _TO_PLURAL.get(word) or (plural_person(word) if tree.tags[finite] == "VBZ" else word)
        else:
            form = _TO_SINGULAR.get(word) or (third_person(word) if tree.tags[finite] == "VBP" else word)
        if form is None:
            return None
        if form != word:
            edits.append(Edit(tree.starts[finite], tree.ends[finite], form))
    return edits


def _verbs_of_relatives(tree: ParseTree, noun: int) -> list[int]:
    found = []
    for kid in tree.kids[noun]:
        if tree.deps[kid] == "relcl":
            subject = tree.kid(kid, *SUBJECTS)
            if subject is not None and tree.lower[subject] in ("that", "which", "who"):
                found.append(kid)
    return found


def _equated(tree: ParseTree, verb: int) -> bool:
    """Whether the subject is said to be a noun ("two dogs are friends")."""
    attribute = tree.kid(verb, "attr")
    return attribute is not None and tree.tags[attribute] in NOUNS


def _finite(tree: ParseTree, verb: int) -> int | None:
    helpers = [kid for kid in tree.kids[verb] if tree.deps[kid] in ("aux", "auxpass")]
    for word in (*helpers, verb):
        if tree.tags[word] == "MD":
            return None
        if tree.tags[word] in ("VBZ", "VBP") or tree.lower[word] in ("was", "were", "is", "are"):
            return word
    return None


def gender(noun: str, plural: bool) -> str:
    """The pronoun for a noun phrase."""
    last = noun.lower().split(" ")[-1]
    if plural:
        return "they"
    return closed_classes().genders.get(last, "it")


def pronoun_edits(tree: ParseTree, noun: int, new: str, plural: bool) -> list[Edit] | None:
    """The changes of pronouns that mean a noun which becomes ``new``; None if it is not clear whom they mean.

    A pronoun means the first noun before it that it can stand for, as in nearly all captions; another such noun that is
    not the noun in question leaves the pronoun alone.
    """
    edits = []
    wanted = gender(new, plural)
    for i in range(noun + 1, len(tree)):
        if tree.tags[i] not in ("PRP", "PRP$"):
            continue
        means = _GENDER.get(tree.lower[i])
        if means is None:
            continue
        known = [n for n in range(i) if tree.tags[n] in NOUNS or tree.lower[n] in ("someone", "somebody")]
        known = [n for n in known if tree.deps[n] != "compound" and _can_mean(tree, n, means)]
        if not known or known[0] != noun:
            if noun in known and noun != main_noun(tree) and len(known) > 1:
                continue
            if noun in known:
                return None
            continue
        if len(known) > 1 and noun != main_noun(tree):
            return None
        if wanted == means:
            continue
        edit = _pronoun_edit(tree, i, means, wanted)
        if edit is None:
            return None
        edits.append(edit)
    return edits


def _can_mean(tree: ParseTree, noun: int, means: str) -> bool:
    plural = tree.tags[noun] in ("NNS", "NNPS") or tree.lower[noun] == "people"
    single = tree.lower[noun] if not plural else (one_of(tree.lower[noun]) or tree.lower[noun])
    kind = closed_classes().genders.get(single, "it")
    if means == "they":
        return plural or kind == "they"
    return not plural and (
        kind == means
        or (kind == "they" and means in ("he", "she"))
        or (kind == "it" and means != "it" and _animate(single))
    )


def _animate(noun: str) -> bool:
    return noun in closed_classes().broader and "animal" in closed_classes().broader[noun]


def _pronoun_edit(tree: ParseTree, i: int, means: str, wanted: str) -> Edit | None:
    """A pronoun in another gender or number; None if a verb would have to agree with it as well."""
    word = tree.lower[i]
    if tree.deps[i] in SUBJECTS and "they" in (means, wanted):
        return None
    if tree.tags[i] == "PRP$":
        place = 2
    elif word.endswith(("self", "selves")):
        place = 3
    else:
        place = 0 if tree.deps[i] in SUBJECTS else 1
    form = _FORMS[wanted][place]
    return Edit(tree.starts[i], tree.ends[i], form.capitalize() if tree.words[i][0].isupper() else form)
