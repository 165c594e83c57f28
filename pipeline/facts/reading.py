"""The facts of a parsed text: rules over its dependency arcs."""

from __future__ import annotations

from surd.pipeline.facts.fact import Fact, Kind
from surd.pipeline.facts.forms import Form, Segment
from surd.pipeline.facts.parse_tree import ADJECTIVES, NOUNS, VERBS, ParseTree
from surd.pipeline.facts.things import SUBJECTS, Things
from surd.pipeline.prompts.words import prompt_words

_QUOTES = frozenset("\"'“‘")
_BE = frozenset(("is", "are", "was", "were", "be", "been", "being", "'s", "'re"))
_SPEAKING = frozenset(("say", "says", "saying", "said", "read", "reads", "reading"))
_SKIPPED_VERBS = frozenset(("aux", "auxpass", "amod", "compound"))


class Reading:
    """Collects the facts of one text."""

    def __init__(self, tree: ParseTree, form: Form) -> None:
        self.tree = tree
        self.form = form
        self.things = Things(tree)
        self.words = self.things.words
        self.facts: list[Fact] = []
        self._keys: set[tuple[object, ...]] = set()

    def read(self) -> list[Fact]:
        """The facts: of each noun and verb in the order of the text, then quoted words and styles."""
        tree = self.tree
        for i, tag in enumerate(tree.tags):
            if tag in NOUNS:
                if self.things.is_noun(i):
                    self._noun(i)
            elif (tag in VERBS or tree.lower[i] in _BE) and tree.words[i][0] not in _QUOTES:
                self._verb(i)
        if self.form.quotes:
            self._quotes()
        self._segments()
        return self.facts

    # What is found

    def _add(self, kind: Kind, of: int | None, first: int, last: int, to: int | None = None, *, aspect: str = "",
             negated: bool = False) -> None:  # fmt: skip
        tree = self.tree
        if to is None or to != of:
            name = None if to is None else self.things.name(to)
            self._add_span(kind, of, tree.starts[first], tree.ends[last], name, aspect, negated)

    def _add_span(self, kind: Kind, of: int | None, start: int, end: int, to: str | None = None, aspect: str = "",
                  negated: bool = False) -> None:  # fmt: skip
        tree = self.tree
        name = "" if of is None else self.things.name(of)
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

    # Nouns

    def _noun(self, i: int) -> None:
        tree, words, things, low = self.tree, self.words, self.things, self.tree.lower[i]
        dep = tree.deps[i]
        inner = things.inner(i)
        if low in words.pictures or low in words.mediums:
            if self._depiction(i, inner):
                return
        elif inner is not None and (low in words.collectives or low in words.kinds):
            self._group(i, inner)
            return
        if low in words.kinds or low in words.unseen or not things.is_thing(i):
            return
        if low in words.places and (dep == "pobj" or inner is not None):
            return
        negated = any(tree.deps[k] == "det" and tree.lower[k] == "no" for k in tree.kids[i])
        negated = negated or (dep == "pobj" and tree.lower[tree.heads[i]] == "without")
        aspect = "part" if low in words.parts else "whole"
        self._add("entity", i, things.first(i), things.last(i), aspect=aspect, negated=negated)
        if dep in ("nsubj", "nsubjpass", "ROOT", "attr", "dobj"):
            things.mention(i)
        self._modifiers(i, [i])
        self._prepositions(i, [i])

    def _depiction(self, i: int, inner: int | None) -> bool:
        """A noun for the picture itself says its style: "an oil painting of". False where it is a thing in the picture:
        "a stamp with a painting"."""
        tree, things, low = self.tree, self.things, self.tree.lower[i]
        if tree.deps[i] not in ("ROOT", "attr", "appos", "conj", "npadvmod", "nsubj", "dobj") or self.form.tags is None:
            return low in self.words.pictures
        if tree.deps[i] in ("nsubj", "dobj", "conj") and inner is None:
            return low in self.words.pictures
        before = [k for k in tree.kids[i] if k < i and tree.deps[k] in ("amod", "compound", "nmod", "nummod")]
        first = min([i, *before, *(t for k in before for t in tree.conjuncts(k))])
        named = [k for k in before if tree.tags[k] in NOUNS and not things.modifies(k)]
        if inner is None and named and prompt_words().classify(tree.span(first, i)) == "subject":
            thing = named[-1]
            if prompt_words().classify(tree.words[thing]) == "subject":
                self._add("entity", thing, things.first(thing), thing, aspect="whole")
                first = i
        if tree.deps[i] in ("dobj", "nsubj", "conj") or (inner is None and tree.kid(i, "prep") and not named):
            return low in self.words.pictures
        if low in self.words.mediums or first < i:
            self._add("style", None, first, i)
        if inner is not None:
            self._prepositions(i, things.meant(inner))
        return True

    def _group(self, i: int, inner: int) -> None:
        """ "A spotted group of zebras on a hill": what is said of the group is said of the zebras."""
        tree, words = self.tree, self.words
        meant = self.things.meant(inner)
        counted = any(tree.deps[k] == "nummod" for k in tree.kids[inner])
        if tree.lower[i] in words.amounts and not counted:
            for thing in meant:
                self._add("count", thing, i, i)
        self._modifiers(i, meant)
        self._prepositions(i, meant)

    def _modifiers(self, i: int, of: list[int]) -> None:
        tree, words, things = self.tree, self.words, self.things
        for kid in tree.kids[i]:
            dep = tree.deps[kid]
            if kid < i:
                if dep == "nummod":
                    for thing in of:
                        self._add("count", thing, kid, kid)
                elif dep in ("amod", "nmod", "compound"):
                    if tree.lower[kid] in words.kinds:
                        self._modifiers(kid, of)
                    elif dep != "compound" or things.modifies(kid):
                        if not (dep == "amod" and tree.tags[kid] in ("VB", "VBP")):
                            for token in tree.conjuncts(kid):
                                self._adjective(token, of)
            elif (dep == "acl" and tree.tags[kid] == "VBN" and not tree.kids[kid]) or (
                dep == "amod" and tree.tags[kid] in ADJECTIVES
            ):
                self._adjective(kid, of)

    def _adjective(self, i: int, of: list[int], negated: bool = False) -> None:
        tree, words, low = self.tree, self.words, self.tree.lower[i]
        if low in words.empty or not any(char.isalnum() for char in low):
            return
        counts = low in words.quantities or low in words.numbers
        first = self._first_of_adjective(i)
        for thing in of:
            if counts:
                self._add("count", thing, i, i, negated=negated)
            else:
                self._add("attribute", thing, first, i, aspect=words.aspects.get(low, ""), negated=negated)

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

    # Prepositions

    def _is_preposition(self, i: int) -> bool:
        tree = self.tree
        return tree.deps[i] in ("prep", "agent") or (tree.deps[i] == "advmod" and tree.kid(i, "prep") is not None)

    def _prepositions(self, i: int, of: list[int], negated: bool = False) -> None:
        """Relations by the prepositions that hang on token i, for each of the things."""
        tree = self.tree
        for kid in tree.kids[i]:
            if self._is_preposition(kid) and (kid > i or tree.deps[i] == "ROOT" or tree.deps[kid] == "prep"):
                self._relation(kid, of, negated)

    def _relation(self, prep: int, of: list[int], negated: bool = False, first: int | None = None) -> None:
        tree, words, things = self.tree, self.words, self.things
        begins = prep if first is None else first
        low = tree.lower[prep]
        pobj = tree.kid(prep, "pobj")
        if pobj is None:
            inner = tree.kid(prep, "prep")
            if inner is not None and inner > prep:
                self._relation(inner, of, negated, begins)
            return
        if low == "of" and begins == prep:
            return
        object_ = tree.lower[pobj]
        complement = self._complement(pobj)
        if object_ in words.places and complement is not None:
            place = [t for t in things.meant(complement[1])]
            if place:
                self._relate(of, begins, complement[0], place, negated)
                return
        if object_ in words.pictures:
            return
        if object_ in words.kinds:
            self._modifiers(pobj, of)
            return
        if low in ("in", "with") and words.aspects.get(object_) == "colour":
            for token in tree.conjuncts(pobj):
                self._adjective(token, of, negated)
            return
        if self._style_phrase(low, pobj):
            return
        self._relate(of, begins, prep, things.meant(pobj), negated or low == "without")

    def _relate(self, of: list[int], first: int, last: int, to: list[int], negated: bool) -> None:
        for target in to:
            for thing in of:
                self._add("relation", thing, first, last, target, negated=negated)

    def _complement(self, place: int) -> tuple[int, int] | None:
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

    def _style_phrase(self, preposition: str, pobj: int) -> bool:
        """ "in pixel art", "as a pencil sketch", "in the style of ..."."""
        tree, words, low = self.tree, self.words, self.tree.lower[pobj]
        if not (low in words.styles or (preposition in ("in", "as", "like") and low in words.mediums)):
            return False
        first = min(
            [
                self.things.first(pobj),
                *(k for k in tree.kids[pobj] if tree.deps[k] in ("amod", "compound") and k < pobj),
            ]
        )
        inner = self.things.inner(pobj)
        self._add("style", None, first, pobj if inner is None else self._end(inner))
        return True

    def _end(self, i: int) -> int:
        last = i
        for kid in self.tree.kids[i]:
            if kid > last:
                last = self._end(kid)
        return last

    # Verbs

    def _verb(self, i: int) -> None:
        tree, words, things = self.tree, self.words, self.things
        if tree.deps[i] in _SKIPPED_VERBS:
            return
        low = tree.lower[i]
        objects = tree.kid(i, "dobj")
        if low in words.seeing and self._impersonal(i):
            if objects is not None:
                self._prepositions(i, things.meant(objects))
            return
        subjects = things.subjects(i)
        negated = any(tree.deps[k] == "neg" for k in tree.kids[i])
        if low in _BE:
            self._copula(i, subjects, negated)
        elif low in _SPEAKING and self._says(i, subjects):
            return
        else:
            self._deed(i, subjects, objects, negated)

    def _deed(self, i: int, subjects: list[int], objects: int | None, negated: bool) -> None:
        tree, words, things = self.tree, self.words, self.things
        particle = tree.kid(i, "prt")
        last = particle if particle is not None and particle == i + 1 else i
        done = False
        if (adjective := tree.kid(i, "acomp", "oprd")) is not None and tree.tags[adjective] not in NOUNS:
            for token in tree.conjuncts(adjective):
                self._adjective(token, subjects, negated)
            done = True
        if objects is not None:
            for target in things.meant(objects):
                for subject in subjects:
                    self._add("action", subject, i, last, target, negated=negated)
                done = True
        prepositions = [kid for kid in tree.kids[i] if self._is_preposition(kid)]
        posture = tree.lower[i] in words.postures
        if not done and (posture or not prepositions):
            for subject in subjects:
                self._add("action", subject, i, last, negated=negated)
        for preposition in prepositions:
            joined = not done and not posture and preposition > i
            self._relation(preposition, subjects, negated, i if joined else None)

    def _copula(self, i: int, subjects: list[int], negated: bool) -> None:
        tree, things = self.tree, self.things
        attr = tree.kid(i, "attr")
        if attr is not None and tree.kid(i, "expl") is not None:
            self._prepositions(i, things.meant(attr), negated)
            return
        if (adjective := tree.kid(i, "acomp")) is not None:
            for token in tree.conjuncts(adjective):
                self._adjective(token, subjects, negated)
            self._prepositions(adjective, subjects, negated)
        elif attr is not None and things.is_noun(attr) and tree.lower[attr] not in self.words.mediums:
            for subject in subjects:
                if subject != attr:
                    self._add("attribute", subject, things.first(attr), attr, negated=negated)
        self._prepositions(i, subjects, negated)

    def _impersonal(self, i: int) -> bool:
        subject = self.tree.kid(i, *SUBJECTS)
        return subject is None or self.tree.lower[subject] in self.words.nobody

    def _says(self, i: int, subjects: list[int]) -> bool:
        """ "A sign that says stop": what a thing says is text, quoted or not."""
        tree = self.tree
        if not subjects or tree.lower[subjects[0]] in self.words.people:
            return False
        if any(start >= tree.ends[i] for start, _ in self.form.quotes):
            return True
        rest = [k for k in range(i + 1, self._end(i) + 1)]
        if not rest:
            return False
        self._add("text", subjects[0], rest[0], rest[-1])
        return True

    # Quotes and tags

    def _quotes(self) -> None:
        for start, end in self.form.quotes:
            token = next((i for i, at in enumerate(self.tree.starts) if at == start), None)
            if token is not None:
                self._add_span("text", self._bearer(token), start + 1, end - 1)

    def _bearer(self, quote: int) -> int | None:
        """What bears the quoted words: "a 'stop' sign", "a sign that says 'stop'", "the text 'stop'"."""
        tree, things = self.tree, self.things
        head = tree.heads[quote]
        if head > quote and things.is_noun(head):
            return head
        if tree.tags[head] in VERBS and (subjects := things.subjects(head)):
            return subjects[0]
        before = [i for i in range(quote) if things.is_noun(i)]
        return before[-1] if before else next((i for i in range(quote, len(tree)) if things.is_noun(i)), None)

    def _segments(self) -> None:
        """Styles among the tags, and counts behind them."""
        for segment in self.form.segments:
            if segment.kind == "style":
                part = self.form.plain[segment.start : segment.end]
                start = segment.start + len(part) - len(part.lstrip())
                self._add_span("style", None, start, start + len(part.strip()))
            elif segment.count and (nouns := [i for i in self._inside(segment) if self.things.is_noun(i)]):
                self._add_span("count", nouns[-1], *segment.count)

    def _inside(self, segment: Segment) -> list[int]:
        return [i for i, start in enumerate(self.tree.starts) if segment.start <= start < segment.end]
