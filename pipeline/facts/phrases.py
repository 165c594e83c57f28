"""Places of phrases in a parsed sentence, and the putting together of a sentence that is changed in some of them."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from typing import NamedTuple

from surd.pipeline.facts.closed_classes import closed_classes
from surd.pipeline.facts.inflection import article
from surd.pipeline.facts.parse_tree import ADJECTIVES, NOUNS, ParseTree
from surd.pipeline.facts.vocabulary import vocabulary

BEFORE_NOUN = ("det", "amod", "nummod", "compound", "poss", "nmod", "advmod", "quantmod", "predet")
#: What makes a noun a part of another's name: "fire" of "fire hydrant".
PARTS_OF_NAMES = ("compound", "nmod", "amod", "npadvmod")
SUBJECTS = ("nsubj", "nsubjpass")
_ARTICLE = re.compile(r"\b(an?)(\s+[\"'(]?)(\w[\w-]*)", re.IGNORECASE)
_DOUBLE_COMMA = re.compile(r"\s*,(?=\s*[,.;!?])")


class Edit(NamedTuple):
    """Characters ``start`` to ``end`` of a sentence become ``text``."""

    start: int
    end: int
    text: str = ""


def applied(text: str, edits: list[Edit]) -> str | None:
    """The sentence with all edits made: articles beside them agree, no comma is left before another, and it begins with
    a capital letter if it did. None if two edits are in each other's way or nothing is left."""
    parts: list[str] = []
    changed: list[tuple[int, int]] = []
    at = length = 0
    for edit in sorted(set(edits)):
        if edit.start < at:
            return None
        parts += (text[at : edit.start], edit.text)
        length += edit.start - at
        changed.append((length, length + len(edit.text)))
        length += len(edit.text)
        at = edit.end
    result = "".join((*parts, text[at:]))

    def fitting(match: re.Match[str]) -> str:
        if not any(start <= match.end() and end >= match.start() for start, end in changed):
            return match.group()
        word = article(match.group(3))
        word = word.capitalize() if match.group(1)[0] == "A" else word
        return f"{word}{match.group(2)}{match.group(3)}"

    result = _ARTICLE.sub(fitting, result)
    if any(not edit.text for edit in edits):
        result = _DOUBLE_COMMA.sub("", result).lstrip(" ,;")
    if not any(letter.isalnum() for letter in result):
        return None
    first = text.lstrip()[:1]
    return result[:1].upper() + result[1:] if first.isupper() else result


def tokens(tree: ParseTree, start: int, end: int) -> range:
    """The tokens that lie in characters ``start`` to ``end``, even in part."""
    return (
        range(max(bisect_right(tree.starts, start) - 1, 0), bisect_left(tree.starts, end)) if start >= 0 else range(0)
    )


def head_of(tree: ParseTree, span: range) -> int | None:
    """The token of a span on which the others depend: its last one with its head outside."""
    heads = [i for i in span if tree.heads[i] not in span or tree.heads[i] == i]
    return heads[-1] if heads else None


def subtree(tree: ParseTree, i: int) -> range:
    """The tokens from the first to the last that depend on a token, itself among them."""
    first = last = i
    queue = [i]
    for token in queue:
        first, last = min(first, token), max(last, token)
        queue.extend(tree.kids[token])
    return range(first, last + 1)


def noun_phrase(tree: ParseTree, noun: int) -> range:
    """A noun with what stands before it: article, number, adjectives, compounds."""
    first = noun
    for kid in tree.kids[noun]:
        if kid < noun and tree.deps[kid] in BEFORE_NOUN:
            first = min(first, subtree(tree, kid)[0])
    return range(first, noun + 1)


def cut(tree: ParseTree, span: range) -> Edit:
    """Tokens left out, together with the space before them (at the beginning: behind them)."""
    if span[0] > 0:
        return Edit(tree.ends[span[0] - 1], tree.ends[span[-1]])
    end = tree.starts[span[-1] + 1] if span[-1] + 1 < len(tree) else tree.ends[span[-1]]
    return Edit(tree.starts[0], end)


def starts_sentence(tree: ParseTree, i: int) -> bool:
    """Whether a token is the first of its sentence."""
    return i == 0 or root_of(tree, i - 1) != root_of(tree, i)


def root_of(tree: ParseTree, i: int) -> int:
    """The token on which a whole sentence depends."""
    while tree.heads[i] != i:
        i = tree.heads[i]
    return i


def written(tree: ParseTree, span: range, new: str) -> Edit:
    """A span with new words, with a capital letter where it had one at the beginning of the sentence."""
    was = tree.text[tree.starts[span[0]]]
    new = new[:1].upper() + new[1:] if was.isupper() and starts_sentence(tree, span[0]) else new
    return Edit(tree.starts[span[0]], tree.ends[span[-1]], new)


def determiner(tree: ParseTree, noun: int) -> int | None:
    """The article, or what stands in its place, of a noun."""
    return tree.kid(noun, "det", "poss", "predet")


def object_of(tree: ParseTree, i: int) -> int | None:
    """The noun that a preposition or a verb governs."""
    return tree.kid(i, "pobj", "dobj", "obj", "attr")


def noun_at(tree: ParseTree, start: int, end: int) -> int | None:
    """The noun that characters ``start`` to ``end`` name; None if there is none."""
    return head_of(tree, tokens(tree, start, end))


def find(tree: ParseTree, phrase: str) -> int | None:
    """The first noun of a sentence that is called ``phrase`` (by its last words); None if there is none."""
    wanted = phrase.lower().split()
    for size in range(len(wanted), 0, -1):
        tail = wanted[-size:]
        for last in range(size - 1, len(tree)):
            if tree.lower[last - size + 1 : last + 1] == tail and is_thing(tree, last):
                return last
    return None


def is_thing(tree: ParseTree, i: int) -> bool:
    """Whether a token names a thing and is not part of the name of another."""
    named = tree.tags[i] in NOUNS or tree.lower[i] in ("someone", "somebody", "something")
    return named and tree.deps[i] not in PARTS_OF_NAMES


def is_plural(tree: ParseTree, noun: int) -> bool:
    """Whether a noun is plural as it stands."""
    return tree.tags[noun] in ("NNS", "NNPS") or tree.lower[noun] in closed_classes().plural_only


def adjectives(tree: ParseTree, noun: int) -> list[int]:
    """What stands between the article of a noun and the noun: adjectives and compounds, from left to right."""
    kids = [k for k in tree.kids[noun] if k < noun and tree.deps[k] in ("amod", "compound", "nmod", "nummod")]
    return [k for k in kids if tree.tags[k] in ADJECTIVES or tree.deps[k] != "nummod"]


def group_of(tree: ParseTree, noun: int) -> int | None:
    """ "group" of "a group of people"; None if the noun stands for itself."""
    of = tree.heads[noun]
    if tree.deps[noun] == "pobj" and tree.lower[of] == "of" and tree.lower[tree.heads[of]] in vocabulary().collectives:
        return tree.heads[of]
    return None


def main_noun(tree: ParseTree) -> int | None:
    """What the sentence is about: its subject, or the noun that it consists of; behind "a picture of" what it shows."""
    root = next((i for i in range(len(tree)) if tree.heads[i] == i), None)
    if root is None:
        return None
    noun: int | None = root
    if not is_thing(tree, root):
        noun = tree.kid(root, *SUBJECTS)
        if noun is None:
            noun = tree.kid(root, "attr") if tree.kid(root, "expl") is not None else None
    noun = shown(tree, noun) if noun is not None else None
    if noun is not None and tree.lower[noun] in vocabulary().collectives and (of := tree.kid(noun, "prep")) is not None:
        return object_of(tree, of) if tree.lower[of] == "of" else noun
    return noun


def shown(tree: ParseTree, noun: int) -> int:
    """Behind "a picture of" and "an image showing": the thing that is shown."""
    if tree.lower[noun] not in closed_classes().picture_nouns:
        return noun
    for kid in tree.kids[noun]:
        governs = tree.lower[kid] in ("of", "showing", "depicting", "featuring")
        if governs and (thing := object_of(tree, kid)) is not None:
            return thing
    return noun


def clause_end(tree: ParseTree, style_start: int = -1) -> int:
    """The character at which a sentence can be continued: before its full stop, and before a phrase of style that a
    comma sets apart (``style_start``: where that phrase is known to begin)."""
    text = tree.text
    end = len(text.rstrip(" .!?;,\n\t"))
    if style_start >= 0:
        return len(text[:style_start].rstrip(" ,"))
    comma = text.rfind(",", 0, end)
    first = text[comma + 1 : end].split()[:1] if comma >= 0 else []
    if first and first[0].lower() in closed_classes().style_leads and not _joined(tree, comma):
        return len(text[:comma].rstrip())
    return end


def _joined(tree: ParseTree, comma: int) -> bool:
    """Whether a comma stands in a list rather than before a remark."""
    after = bisect_right(tree.starts, comma)
    return any(tree.deps[i] == "conj" and tree.heads[i] < after for i in range(after, len(tree)))
