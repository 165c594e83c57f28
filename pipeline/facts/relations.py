"""Relations between things, by the prepositions of a parsed text."""

from __future__ import annotations

from surd.pipeline.facts.fact import Kind
from surd.pipeline.facts.fact_list import FactList
from surd.pipeline.facts.parse_tree import VERBS


class Relations:
    """Adds relations, and the styles that prepositions state ("in pixel art"), to the facts of one text."""

    def __init__(self, found: FactList) -> None:
        self.found = found
        self.tree, self.things, self.words = found.tree, found.things, found.words

    def is_preposition(self, i: int) -> bool:
        tree = self.tree
        return tree.deps[i] in ("prep", "agent") or (tree.deps[i] == "advmod" and tree.kid(i, "prep") is not None)

    def of(self, i: int, of: list[int], negated: bool = False) -> None:
        """Relations by the prepositions that hang on token i, for each of the things."""
        tree = self.tree
        for kid in tree.kids[i]:
            if self.is_preposition(kid) and (kid > i or tree.deps[i] == "ROOT" or tree.deps[kid] == "prep"):
                shared = [token for token in tree.conjuncts(i)[1:] if token < kid and self.things.is_noun(token)]
                self.add(kid, [*of, *(token for token in shared if token not in of)], negated)

    def add(self, prep: int, of: list[int], negated: bool = False, first: int | None = None) -> None:
        tree, words, things = self.tree, self.words, self.things
        begins = prep if first is None else first
        low = tree.lower[prep]
        pobj = tree.kid(prep, "pobj")
        if pobj is None:
            inner = tree.kid(prep, "prep")
            if inner is not None and inner > prep:
                self.add(inner, of, negated, begins)
            return
        if low == "of" and begins == prep:
            return
        object_ = tree.lower[pobj]
        complement = self.complement(pobj)
        if object_ in words.places and complement is not None and (place := things.meant(complement[1])):
            self.relate(of, begins, complement[0], place, negated)
            return
        as_a_whole = low == "as" and prep > 0 and tree.words[prep - 1] == ","  # ", as a glowing neon sign"
        if object_ in words.pictures:
            if low in ("in", "as") and any(tree.deps[kid] in ("amod", "compound") for kid in tree.kids[pobj]):
                self.style_phrase(low, pobj, certain=True)  # "in a blurred picture"
            return
        if object_ in words.kinds:
            self.found.modifiers(pobj, of)
            return
        if low in ("in", "with") and words.aspects.get(object_) == "colour":
            for token in tree.conjuncts(pobj):
                self.found.adjective(token, of, negated)
            return
        if self.style_phrase(low, pobj, certain=as_a_whole):
            return
        if object_ in ("other", "another") and tree.lower[pobj - 1 : pobj] in (["each"], ["one"]):
            for thing in of:
                self.found.add_span("relation", thing, tree.starts[begins], tree.ends[prep], tree.span(pobj - 1, pobj))
            return
        if prep - begins > 2:  # what stands between is not part of the relation
            begins = prep
        self.relate(of, begins, prep, things.meant(pobj), negated or low == "without")

    def relate(self, of: list[int], first: int, last: int, to: list[int], negated: bool) -> None:
        for target in to:
            if target in self.found.bearers and self.tree.lower[last] == "with":
                continue  # 'a sign with the words "stop"': that is text, not a relation
            for thing in of:
                kind: Kind = "action" if self.tree.tags[first] in VERBS else "relation"
                self.found.add(kind, thing, first, last, target, negated=negated or self.things.negated(target))

    def complement(self, place: int) -> tuple[int, int] | None:
        """ "of" and the noun behind it, of "top of the box"; "to" of "left to the box"."""
        tree = self.tree
        for kid in tree.kids[place]:
            if (
                tree.deps[kid] == "prep"
                and tree.lower[kid] in ("of", "to")
                and (noun := tree.kid(kid, "pobj")) is not None
            ):
                return kid, noun
        return None

    def style_phrase(self, preposition: str, pobj: int, certain: bool = False) -> bool:
        """ "in pixel art", "as a pencil sketch", "in the style of ..."."""
        tree, words, low = self.tree, self.words, self.tree.lower[pobj]
        manner = preposition in ("in", "as", "like")
        article = any(tree.deps[kid] == "det" for kid in tree.kids[pobj])
        if not certain and not (
            (low in words.mediums and manner)
            or (low in words.styles and (low in words.manners or (manner and (preposition != "in" or not article))))
        ):
            return False
        first = min(
            [
                self.things.first(pobj),
                *(k for k in tree.kids[pobj] if tree.deps[k] in ("amod", "compound") and k < pobj),
            ]
        )
        inner = self.things.inner(pobj)
        self.found.styles.append((tree.starts[first], tree.ends[pobj if inner is None else self.tree.end(inner)]))
        return True
