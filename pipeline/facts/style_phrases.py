"""Phrases of style in a sentence: "in pixel art", "drawn as a pencil sketch", "a pencil sketch of"."""

from __future__ import annotations

from surd.pipeline.facts.closed_classes import closed_classes
from surd.pipeline.facts.inflection import with_article
from surd.pipeline.facts.parse_tree import ParseTree
from surd.pipeline.facts.phrases import Edit, subtree

_ARTICLES = ("a", "an", "the")
_LITTLE = ("of", "like", "by", "with", "hand", "style", "old", "faded", "the")


def trailing(style: str) -> str:
    """A style as it is said at the end of a sentence: "pixel art" -> "in pixel art", "oil painting" -> "as an oil
    painting"; one that begins with its preposition or participle stays as it is."""
    words = style.lower().split()
    if words[0] in closed_classes().style_leads or words[0].endswith(("ed", "ing", "wn")):
        return style
    if words[0] in _ARTICLES:
        return f"as {style}"
    if words[-1] in closed_classes().picture_nouns:
        return f"as {with_article(style)}"
    return f"in {style}"


def bare(style: str) -> str | None:
    """A style as a noun phrase without article: "drawn as a pencil sketch" -> "pencil sketch"; None if it is none."""
    words = style.split()
    while len(words) > 1 and (words[0].lower() in closed_classes().style_leads or words[0].lower() in _ARTICLES):
        words = words[1:]
    return None if words[0].lower() in closed_classes().style_leads or words[0].lower() in _LITTLE else " ".join(words)


def place(tree: ParseTree, span: range) -> range:
    """The whole phrase of a style: back to its preposition or participle ("drawn as a pencil sketch"), and on to the
    end of its clause."""
    first, last = span[0], span[-1]
    while first > 0 and (
        tree.lower[first - 1] in closed_classes().style_leads
        or tree.lower[first - 1] in _ARTICLES
        or (tree.deps[first - 1] in ("amod", "compound") and tree.heads[first - 1] in span)
    ):
        first -= 1
    for comma in range(first - 1, max(first - 9, -1), -1):
        if tree.words[comma] == ",":
            if tree.lower[comma + 1] in closed_classes().style_leads and last in subtree(tree, comma + 1):
                first = comma + 1
            break
    return range(first, last + 1)


def leading(tree: ParseTree, span: range) -> bool:
    """Whether a style stands before what it shows: "a pencil sketch of two dogs"."""
    after = span[-1] + 1
    return after < len(tree) and tree.lower[after] in ("of", "showing", "depicting", "with")


def apart(tree: ParseTree, whole: range) -> bool:
    """Whether a phrase of style stands behind a comma and ends the sentence, or the clause."""
    after = whole[-1] + 1
    ends = after >= len(tree) or not tree.words[after][0].isalnum()
    return whole[0] > 0 and tree.words[whole[0] - 1] == "," and ends


def restyled(tree: ParseTree, span: range, value: str) -> list[Edit] | None:
    """The edits that put another style in place of one."""
    if not value.strip():
        return None
    if leading(tree, span) or span[0] == 0:
        noun = bare(value)
        if noun is None:
            return None
        if leading(tree, span) and noun.split()[-1].lower() not in closed_classes().picture_nouns:
            noun = f"{noun} picture"
        return [Edit(tree.starts[span[0]], tree.ends[span[-1]], noun)]
    whole = place(tree, span)
    behind = " ".join(tree.lower[whole[0] : span[0]])
    if behind or apart(tree, whole) or tree.lower[whole[0]] in closed_classes().style_leads:
        if not (whole[-1] + 1 >= len(tree) or not tree.words[whole[-1] + 1][0].isalpha()) and not behind:
            return None
        return [Edit(tree.starts[whole[0]], tree.ends[whole[-1]], trailing(value))]
    noun = bare(value)
    return [Edit(tree.starts[span[0]], tree.ends[span[-1]], noun)] if noun else None
