"""A sentence with one fact more: where its words go."""

from __future__ import annotations

from surd.pipeline.facts.agreement import pronoun_edits, verb_edits
from surd.pipeline.facts.closed_classes import closed_classes
from surd.pipeline.facts.fact import Fact
from surd.pipeline.facts.inflection import many, one_of, with_article
from surd.pipeline.facts.omitted_phrases import object_end, outermost
from surd.pipeline.facts.parse_tree import NOUNS, VERBS, ParseTree
from surd.pipeline.facts.phrases import (
    SUBJECTS,
    Edit,
    adjectives,
    clause_end,
    determiner,
    find,
    group_of,
    is_plural,
    main_noun,
    noun_phrase,
    shown,
    starts_sentence,
    subtree,
)
from surd.pipeline.facts.recounting import ONE
from surd.pipeline.facts.style_phrases import apart, place, trailing
from surd.pipeline.facts.verb_forms import base

_GROUND = ("background", "backdrop")
_PRONOUNS = ("someone", "somebody", "something")


def addition(tree: ParseTree, fact: Fact, styles: list[int]) -> list[Edit] | None:
    """The edits that state ``fact``; ``styles``: the characters at which the sentence's styles are stated. None if
    there is no place for it."""
    if fact.kind == "style":
        return _at_end(tree, f", {trailing(fact.value)}", -1) if fact.value else None
    end = _style_start(tree, styles)
    if fact.kind == "text":
        return _at_end(tree, f' with the text "{fact.value}"', end) if '"' not in fact.value else None
    if fact.kind == "entity":
        return _with_thing(tree, fact, end)
    noun = find(tree, fact.of) if fact.of else None
    if noun is None:
        return None
    noun = shown(tree, noun)
    match fact.kind:
        case "attribute":
            return _attribute(tree, noun, fact.value)
        case "count":
            return _count(tree, noun, fact.value.lower())
        case "relation":
            return _relation(tree, noun, fact, end)
        case _:
            return _action(tree, noun, fact, end)


def _style_start(tree: ParseTree, styles: list[int]) -> int:
    """The character before which a clause ends because a phrase of style follows; -1 if none does."""
    for start in styles:
        span = range(next((i for i, s in enumerate(tree.starts) if s >= start), 0), 0)
        first = span.start
        last = first
        while last + 1 < len(tree) and tree.heads[last] == last + 1:
            last += 1
        whole = place(tree, range(first, last + 1))
        if apart(tree, whole):
            return tree.starts[whole[0] - 1]
    return -1


def _at_end(tree: ParseTree, words: str, end: int, ground: bool = False) -> list[Edit] | None:
    """Words at the end of the clause; before what it says of the background, unless they are about it (``ground``)."""
    if words.startswith(", "):
        at = len(tree.text.rstrip(" .!?;,\n\t"))
    else:
        at = clause_end(tree, end)
        at = at if ground else _before_ground(tree, at)
    return [Edit(at, at, words)] if at > 0 else None


def _before_ground(tree: ParseTree, end: int) -> int:
    """Where "on a blue background" begins if a clause ends with it; else its end."""
    last = max((i for i in range(len(tree)) if tree.ends[i] <= end), default=-1)
    if last > 0 and tree.lower[last] in _GROUND and tree.deps[last] == "pobj":
        first = outermost(tree, tree.heads[last])
        if first > 0 and noun_phrase(tree, last)[0] - first <= 3:
            return tree.ends[first - 1]
    return end


def named(tree: ParseTree, thing: str) -> str:
    """A thing with its article: "the" if the sentence has spoken of it."""
    known = find(tree, thing)
    last = thing.lower().split(" ")[-1]
    classes = closed_classes()
    if known is not None and tree.text[: tree.ends[known]].lower().endswith(thing.lower()):
        return f"the {thing}"
    if last in classes.mass or last in classes.plural_only or thing[:1].isupper():
        return thing
    single = one_of(thing)
    if single is not None and single != thing:
        return thing
    return with_article(thing)


def _attribute(tree: ParseTree, noun: int, value: str) -> list[Edit] | None:
    words = value.lower().split()
    if not words or tree.lower[noun] in _PRONOUNS:
        return None
    if value.lower() in closed_classes().postnominal or any(
        word in ("in", "of", "with", "by", "on", "from", "to") for word in words[1:]
    ):
        return (
            [Edit(tree.ends[noun], tree.ends[noun], f" {value}")]
            if noun + 1 >= len(tree) or tree.tags[noun + 1] != "POS"
            else None
        )
    others = adjectives(tree, noun)
    if any(tree.lower[other] == value.lower() for other in others):
        return None
    rank = _rank(words[-1])
    before = next((o for o in others if tree.deps[o] in ("compound", "nmod") or _rank(tree.lower[o]) > rank), noun)
    if before != noun:
        before = subtree(tree, before)[0]
    if before > 0 and tree.text[tree.starts[before] - 1] == "-":
        return None
    if before > 0 and tree.words[before - 1] == "," and before != noun:
        return None
    if any(tree.kid(o, "conj", "cc") is not None for o in others):
        before = noun_phrase(tree, noun)[0]
        lead = determiner(tree, noun)
        number = tree.kid(noun, "nummod")
        before = max([before, *(subtree(tree, i)[-1] + 1 for i in (lead, number) if i is not None and i < noun)])
    return [_inserted(tree, before, value)]


def _inserted(tree: ParseTree, before: int, words: str) -> Edit:
    """Words before a token; the capital letter of the sentence's first word goes to them."""
    start = tree.starts[before]
    if starts_sentence(tree, before) and tree.words[before][:1].isupper() and tree.words[before][1:].islower():
        proper = tree.tags[before] in ("NNP", "NNPS")
        letter = tree.text[start] if proper else tree.text[start].lower()
        return Edit(start, start + 1, f"{words[:1].upper()}{words[1:]} {letter}")
    return Edit(start, start, f"{words} ")


def _rank(word: str) -> int:
    ranks = closed_classes().ranks
    return ranks.get(word, ranks["old"])


def _count(tree: ParseTree, noun: int, value: str) -> list[Edit] | None:
    if (
        not value
        or tree.kid(noun, "nummod") is not None
        or group_of(tree, noun) is not None
        or tree.lower[noun] in closed_classes().mass
    ):
        return None
    single, plural = value in ONE, is_plural(tree, noun)
    if any(
        tree.lower[k] in ("single", "lone", "several", "many", "few", "multiple") for k in tree.kids[noun] if k < noun
    ):
        return None
    if single and tree.lower[noun] in closed_classes().plural_only and one_of(tree.lower[noun]) is None:
        return None
    if single == plural and (tree.deps[noun] == "conj" or tree.kid(noun, "conj", "appos") is not None):
        return None
    edits: list[Edit] = []
    name: str | None = None
    if tree.lower[noun] in ("someone", "somebody"):
        verbs = verb_edits(tree, noun, True)
        if single or verbs is None:
            return None
        new = f"{value} people"
        word = new.capitalize() if noun == 0 else new
        return [*verbs, Edit(tree.starts[noun], tree.ends[noun], word)]
    if single == plural:
        name = one_of(tree.words[noun]) if single else many(tree.words[noun])
        verbs = verb_edits(tree, noun, not single)
        pronouns = pronoun_edits(tree, noun, name, not single) if name else None
        if name is None or verbs is None or pronouns is None:
            return None
        if single and any(word in closed_classes().together for word in tree.lower):
            return None
        edits += [*verbs, *pronouns, Edit(tree.starts[noun], tree.ends[noun], name)]
    phrase = noun_phrase(tree, noun)
    lead = determiner(tree, noun)
    if lead is not None and lead < noun:
        if tree.lower[lead] in ("a", "an", "some", "any"):
            word = "one" if single else value
            word = word.capitalize() if tree.words[lead][0].isupper() else word
            return [*edits, Edit(tree.starts[lead], tree.ends[lead], word)]
        if tree.lower[lead] not in ("the", "these", "those", "his", "her", "their", "its") or single or not plural:
            return None
        return [*edits, Edit(tree.ends[lead], tree.ends[lead], f" {value}")]
    word = "one" if single else value
    if phrase[0] == noun and edits and name:
        edits = [edit for edit in edits if edit.start != tree.starts[noun]]
        return [*edits, Edit(tree.starts[noun], tree.ends[noun], f"{word} {name.lower() if noun == 0 else name}")]
    return [*edits, _inserted(tree, phrase[0], word)]


def _relation(tree: ParseTree, noun: int, fact: Fact, end: int) -> list[Edit] | None:
    if not fact.value or not fact.to:
        return None
    words = f" {fact.value.lower()} {named(tree, fact.to)}"
    if noun == main_noun(tree):
        return _at_end(tree, words, end, (fact.to or "").lower().split(" ")[-1] in _GROUND)
    if noun + 1 < len(tree) and tree.tags[noun + 1] == "POS":
        return None
    return [Edit(tree.ends[noun], tree.ends[noun], words)]


def _action(tree: ParseTree, noun: int, fact: Fact, end: int) -> list[Edit] | None:
    verb = fact.value.split(" ")[0]
    if base(verb) is None:
        return None
    words = f"{fact.value} {named(tree, fact.to)}" if fact.to else fact.value
    subject = group_of(tree, noun)
    subject = noun if subject is None else subject
    governor = tree.heads[subject]
    if noun + 1 < len(tree) and tree.tags[noun + 1] == "POS":
        return None
    done = [k for k in (*tree.kids[noun], *tree.kids[subject]) if tree.deps[k] in ("acl", "relcl") and k > noun]
    done = [k for k in done if tree.words[k - 1] != ","]
    done += [k for k in (noun + 1,) if k < len(tree) and tree.tags[k] == "VBG"]
    if tree.deps[subject] in SUBJECTS and tree.tags[governor] in VERBS:
        if "while" in tree.lower:
            return None
        if tree.lower[governor] in ("is", "are") and tree.kid(governor, "attr", "acomp", "expl") is None:
            return [Edit(tree.ends[governor], tree.ends[governor], f" {words}")]
        return _at_end(tree, f" while {words}", end) if governor == tree.heads[governor] else None
    if done:
        if noun != main_noun(tree) or any(tree.deps[k] == "relcl" for k in done):
            return None
        last = object_end(tree, done[-1])
        if last + 1 < len(tree) and tree.lower[last + 1] in (
            "at",
            "to",
            "for",
            "from",
            "with",
            "into",
            "through",
            "of",
        ):
            return None
        at = tree.ends[last]
        return [Edit(at, at, f" and {words}")]
    if tree.kid(noun, "conj") is not None or tree.deps[noun] == "conj":
        return None
    return [Edit(tree.ends[noun], tree.ends[noun], f" {words}")]


def _with_thing(tree: ParseTree, fact: Fact, end: int) -> list[Edit] | None:
    if not fact.of or find(tree, fact.of) is not None:
        return None
    thing = many(fact.of) if fact.plural and one_of(fact.of) in (None, fact.of) else fact.of
    words = thing if fact.plural else named(tree, thing)
    at = _before_ground(tree, clause_end(tree, end))
    last = max((i for i in range(len(tree)) if tree.ends[i] <= at), default=-1)
    if last > 0 and tree.tags[last] in NOUNS and tree.deps[last] == "pobj":
        phrase = noun_phrase(tree, last)
        if phrase[0] > 0 and tree.lower[phrase[0] - 1] == "with":
            return _at_end(tree, f" and {words}", end)
    return _at_end(tree, f" with {words}", end)
