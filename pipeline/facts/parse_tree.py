"""A dependency parse as plain lists, which rules read much faster than spaCy's objects."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from surd.pipeline.facts.forms import Form
from surd.pipeline.facts.repairs import repair

NOUNS = frozenset(("NN", "NNS", "NNP", "NNPS"))
ADJECTIVES = frozenset(("JJ", "JJR", "JJS"))
VERBS = frozenset(("VB", "VBD", "VBG", "VBN", "VBP", "VBZ"))


class ParseTree:
    """Words, tags (Penn Treebank) and arcs (ClearNLP labels) of one text; a token is its number.

    ``kids[i]``: the tokens that depend on token i, in order. ``starts``, ``ends``: characters.
    """

    __slots__ = ("deps", "ends", "heads", "kids", "lower", "starts", "tags", "text", "words")

    def __init__(self, doc: Any, form: Form) -> None:
        from spacy.attrs import DEP, HEAD, IDX, LENGTH, TAG

        strings = doc.vocab.strings
        table = doc.to_array([TAG, DEP, HEAD, IDX, LENGTH]).astype("int64").tolist()
        names: dict[int, str] = {}
        for row in table:
            for key in row[:2]:
                if key not in names:
                    names[key] = strings[key & 0xFFFFFFFFFFFFFFFF]
        self.text = form.plain
        self.tags = [names[row[0]] for row in table]
        self.deps = [names[row[1]] for row in table]
        self.heads = [i + row[2] for i, row in enumerate(table)]
        self.starts = [row[3] for row in table]
        self.ends = [row[3] + row[4] for row in table]
        self.words = [self.text[row[3] : row[3] + row[4]] for row in table]
        self.lower = [word.lower() for word in self.words]
        heads, tags, deps = list(self.heads), list(self.tags), list(self.deps)
        repair(self.lower, self.tags, self.deps, self.heads)
        if _has_circle(self.heads):  # rules walk up the arcs, and would never arrive
            self.heads, self.tags, self.deps = heads, tags, deps
        self.kids: list[list[int]] = [[] for _ in table]
        for i, head in enumerate(self.heads):
            if head != i:
                self.kids[head].append(i)
        for part in form.parts:
            if part.kind != "parse":
                for i in range(bisect_left(self.starts, part.start), bisect_left(self.starts, part.end)):
                    self.tags[i] = ""

    def __len__(self) -> int:
        return len(self.words)

    def span(self, first: int, last: int) -> str:
        """The text from the first token to the end of the last."""
        return self.text[self.starts[first] : self.ends[last]]

    def kid(self, i: int, *deps: str) -> int | None:
        """The first dependent with one of these labels."""
        for kid in self.kids[i]:
            if self.deps[kid] in deps:
                return kid
        return None

    def conjuncts(self, i: int) -> list[int]:
        """The token and those that are joined to it: "cats, dogs and birds"."""
        found = [i]
        for token in found:
            found.extend(kid for kid in self.kids[token] if self.deps[kid] == "conj")
        return found

    def end(self, i: int) -> int:
        """The last token of the phrase that hangs on token i."""
        last, left = i, [i]
        while left:
            token = left.pop()
            last = max(last, token)
            left.extend(self.kids[token])
        return last


def _has_circle(heads: list[int]) -> bool:
    """Whether arcs lead back to where they came from; each token is visited once."""
    arrives = [False] * len(heads)
    for start in range(len(heads)):
        path, i = set(), start
        while not arrives[i] and i != heads[i]:
            if i in path:
                return True
            path.add(i)
            i = heads[i]
        for token in path:
            arrives[token] = True
        arrives[i] = True
    return False
