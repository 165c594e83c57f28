"""The facts of one text as they are found: once each, with their characters; and what modifies a thing."""

from __future__ import annotations

from bisect import bisect_left

from surd.pipeline.facts.fact import Fact, Kind
from surd.pipeline.facts.forms import Form
from surd.pipeline.facts.parse_tree import ADJECTIVES, ParseTree
from surd.pipeline.facts.things import Things


class FactList:
    """Collects the facts of one text. ``styles``: characters of styles, which are said of the first thing shown at the
    end. ``bearers``: the token that bears quoted words (-1: none), and their characters."""

    def __init__(self, tree: ParseTree, form: Form) -> None:
        self.tree = tree
        self.form = form
        self.things = Things(tree)
        self.words = self.things.words
        self.facts: list[Fact] = []
        self.styles: list[tuple[int, int]] = []
        self.bearers: dict[int, list[tuple[int, int]]] = {}
        self._keys: set[tuple[object, ...]] = set()

    def add(self, kind: Kind, of: int | None, first: int, last: int, to: int | None = None, *, aspect: str = "",
             negated: bool = False) -> None:  # fmt: skip
        tree = self.tree
        if to is None or to != of:
            name = None if to is None else self.things.full_name(to)
            self.add_span(kind, of, tree.starts[first], tree.ends[last], name, aspect, negated)

    def add_span(self, kind: Kind, of: int | None, start: int, end: int, to: str | None = None, aspect: str = "",
                  negated: bool = False) -> None:  # fmt: skip
        tree = self.tree
        things = self.things
        said_alone = kind in ("attribute", "count", "style", "text")
        name = "" if of is None else things.name(of) if said_alone else things.full_name(of)
        value = "" if kind == "entity" else tree.text[start:end]
        key = (kind, name.lower(), value.lower(), to and to.lower(), negated)
        if key in self._keys:
            return
        self._keys.add(key)
        self.facts.append(
            Fact(kind=kind, of=name, value=value, to=to, start=start, end=end,
                 of_start=-1 if of is None else tree.starts[of], of_end=-1 if of is None else tree.ends[of],
                 plural=of is not None and self.things.plural(of), aspect=aspect, negated=negated)
        )  # fmt: skip

    def modifiers(self, i: int, of: list[int]) -> None:
        tree, words, things = self.tree, self.words, self.things
        for kid in tree.kids[i]:
            dep = tree.deps[kid]
            if kid < i:
                if dep in ("compound", "nmod") and tree.kids[kid] and not things.is_noun(kid):
                    self.modifiers(kid, of)  # "a red fire hydrant", where the parser gives red to fire
                if dep == "nummod":
                    for thing in of:
                        self.add("count", thing, kid, kid)
                elif dep in ("amod", "nmod", "compound"):
                    if tree.lower[kid] in words.kinds:
                        if dep == "amod":
                            self.modifiers(kid, of)
                    elif (dep != "compound" or things.modifies(kid)) and tree.tags[kid] not in ("VB", "VBP"):
                        for token in tree.conjuncts(kid):
                            self.adjective(token, of)
            elif (dep == "acl" and tree.tags[kid] == "VBN" and not tree.kids[kid]) or (
                dep == "amod" and tree.tags[kid] in ADJECTIVES
            ):
                self.adjective(kid, of)

    def adjective(self, i: int, of: list[int], negated: bool = False) -> None:
        words, low = self.words, self.tree.lower[i]
        if low in words.empty or not any(char.isalnum() for char in low):
            return
        counts = low in words.quantities or low in words.numbers
        first = self._first_of_adjective(i)
        for thing in of:
            if counts:
                self.add("count", thing, i, i, negated=negated)
            else:
                self.add("attribute", thing, first, i, aspect=words.aspects.get(low, ""), negated=negated)

    def _first_of_adjective(self, i: int) -> int:
        """The token at which "very dark blue" or "caramel-colored" begins."""
        tree, first = self.tree, i
        for kid in reversed(tree.kids[i]):
            joined = kid == first - 1 or (kid == first - 2 and tree.words[first - 1] == "-")
            if joined and tree.deps[kid] in ("advmod", "compound", "amod", "npadvmod", "nmod"):
                first = kid
            elif kid != first - 1 or tree.words[kid] != "-":
                break
        while first >= 2 and tree.words[first - 1] == "-" and tree.ends[first - 2] == tree.starts[first - 1]:
            first -= 2
        return first

    def shown(self) -> int | None:
        """The first thing shown."""
        shown = next((fact for fact in self.facts if fact.kind == "entity" and not fact.negated), None)
        return None if shown is None else bisect_left(self.tree.starts, shown.of_start)
