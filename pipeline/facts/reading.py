"""The facts of a parsed text: rules over its dependency arcs."""

from __future__ import annotations

from surd.pipeline.facts.fact import Fact, Kind
from surd.pipeline.facts.forms import Form, Segment
from surd.pipeline.facts.parse_tree import NOUNS, VERBS, ParseTree
from surd.pipeline.facts.vocabulary import vocabulary

_QUOTES = frozenset("\"'“‘")
_NOT_NAMED = frozenset(("compound", "nmod"))
_SUBJECTS = ("nsubj", "nsubjpass")
_BE = frozenset(("is", "are", "was", "were", "be", "been", "being", "'s", "'re", "am"))


class Reading:
    """Collects the facts of one text. ``facts()`` gives them in the order of the text."""

    def __init__(self, tree: ParseTree, form: Form) -> None:
        self.g = tree
        self.form = form
        self.words = vocabulary()
        self.facts: list[Fact] = []
        self._keys: set[tuple[object, ...]] = set()
        self._names: dict[int, str] = {}
        self._of: dict[int, int] = {}
        self._subjects: list[int] = []
        self._style_nouns: set[int] = set()

    # Noun phrases

    def is_thing(self, i: int) -> bool:
        """Whether the token is the noun of something that may be seen."""
        g = self.g
        if g.tags[i] not in NOUNS or g.words[i][0] in _QUOTES:
            return False
        if g.deps[i] in _NOT_NAMED and g.tags[g.heads[i]] in NOUNS and i < g.heads[i]:
            return False
        low = g.lower[i]
        return low not in self.words.nobody and any(char.isalnum() for char in low)

    def name(self, i: int) -> str:
        """The noun with its compounds: "fire hydrant"."""
        if i not in self._names:
            g = self.g
            first = i
            for kid in reversed(g.kids[i]):
                if kid < i and kid == first - 1 and g.deps[kid] == "compound" and not self._material(kid):
                    first = self._first_of_compound(kid)
            self._names[i] = g.span(first, i)
            self._of[i] = first
        return self._names[i]

    def _first_of_compound(self, i: int) -> int:
        first = i
        for kid in reversed(self.g.kids[i]):
            if kid == first - 1 and self.g.deps[kid] == "compound":
                first = self._first_of_compound(kid)
        return first

    def _material(self, i: int) -> bool:
        return self.words.aspects.get(self.g.lower[i], "") in ("colour", "material", "size", "state", "pattern")

    def plural(self, i: int) -> bool:
        return self.g.tags[i] in ("NNS", "NNPS") or self.g.lower[i] in ("people", "men", "women", "children")

    def _inner(self, i: int) -> int | None:
        """ "people" of "group of people"."""
        of = self.g.kid(i, "prep")
        if of is not None and self.g.lower[of] == "of":
            return self.g.kid(of, "pobj")
        return None

    def things(self, i: int) -> list[int]:
        """The things that a noun or pronoun stands for: itself, what it groups, what it refers to, and conjuncts."""
        found = []
        for token in self.g.conjuncts(i):
            inner = self._inner(token) if self._groups(token) else None
            if inner is not None:
                found.extend(self.things(inner))
            elif self.g.lower[token] in self.words.pronouns:
                if (antecedent := self._antecedent(token)) is not None:
                    found.append(antecedent)
            elif self.g.lower[token] in ("one", "some", "others", "most", "all", "each") and (
                inner := self._inner(token)
            ):
                found.extend(self.things(inner))
            elif self.is_thing(token) or self.g.tags[token] == "NN":
                found.append(token)
        return found

    def _groups(self, i: int) -> bool:
        low = self.g.lower[i]
        return (
            low in self.words.collectives
            or low in self.words.kinds
            or (low in self.words.mediums or low in self.words.pictures)
        )

    def _antecedent(self, i: int) -> int | None:
        g, low = self.g, self.g.lower[i]
        for subject in reversed(self._subjects):
            if subject >= i:
                continue
            person = g.lower[subject] in self.words.people
            if low in ("they", "them", "themselves"):
                if self.plural(subject):
                    return subject
            elif low in ("it", "itself"):
                if not person and not self.plural(subject):
                    return subject
            elif not self.plural(subject) and (person or g.tags[subject] == "NNP"):
                return subject
        return None

    # Facts

    def add(self, kind: Kind, of: int | None, first: int, last: int, to: int | None = None, *, value: str | None = None,
            aspect: str = "", negated: bool = False) -> None:  # fmt: skip
        g = self.g
        said = ("" if kind == "entity" else g.span(first, last)) if value is None else value
        name = self.name(of) if of is not None else ""
        target = self.name(to) if to is not None else None
        key = (kind, name.lower(), said.lower(), target and target.lower(), negated)
        if key in self._keys or (to is not None and to == of):
            return
        self._keys.add(key)
        self.facts.append(
            Fact(kind=kind, of=name, value=said, to=target, start=g.starts[first], end=g.ends[last],
                 of_start=g.starts[of] if of is not None else -1, of_end=g.ends[of] if of is not None else -1,
                 plural=of is not None and self.plural(of), aspect=aspect, negated=negated)
        )  # fmt: skip

    def read(self) -> list[Fact]:
        g = self.g
        for i in range(len(g)):
            if self.is_thing(i):
                self._read_noun(i)
            elif (g.tags[i] in VERBS or g.lower[i] in _BE) and g.words[i][0] not in _QUOTES:
                self._read_verb(i)
        self._quotes()
        self._segments()
        return self.facts

    def _segments(self) -> None:
        """Styles among the tags, and counts behind them."""
        for segment in self.form.segments:
            if segment.kind == "style":
                part = self.form.plain[segment.start : segment.end]
                start = segment.start + len(part) - len(part.lstrip())
                self._add_span("style", None, start, start + len(part.strip()))
            elif segment.count and (nouns := [i for i in self._inside(segment) if self.is_thing(i)]):
                self._add_span("count", nouns[-1], *segment.count)

    def _inside(self, segment: Segment) -> list[int]:
        return [i for i, start in enumerate(self.g.starts) if segment.start <= start < segment.end]

    def _quotes(self) -> None:
        for start, end in self.form.quotes:
            token = next((i for i, at in enumerate(self.g.starts) if at == start), None)
            if token is not None:
                self._add_span("text", self._bearer(token), start + 1, end - 1)

    def _bearer(self, quote: int) -> int | None:
        """What bears the quoted words: "a 'stop' sign", "a sign that says 'stop'", "the text 'stop'"."""
        g = self.g
        head = g.heads[quote]
        if head > quote and self.is_thing(head):
            return head
        before = [i for i in range(quote) if self.is_thing(i)]
        if g.tags[head] in VERBS and (subjects := self._subjects_of(head)):
            return subjects[0]
        return before[-1] if before else next((i for i in range(quote, len(g)) if self.is_thing(i)), None)

    def _add_span(self, kind: Kind, of: int | None, start: int, end: int) -> None:
        g = self.g
        name = self.name(of) if of is not None else ""
        value = self.form.plain[start:end]
        if (key := (kind, name.lower(), value.lower(), None, False)) in self._keys or not value:
            return
        self._keys.add(key)
        self.facts.append(
            Fact(kind=kind, of=name, value=value, start=start, end=end,
                 of_start=g.starts[of] if of is not None else -1, of_end=g.ends[of] if of is not None else -1,
                 plural=of is not None and self.plural(of))
        )  # fmt: skip

    def _read_noun(self, i: int) -> None:
        g, words, low = self.g, self.words, self.g.lower[i]
        inner = self._inner(i)
        if low in words.pictures and g.deps[i] not in ("dobj",):
            return
        if low in words.mediums and (inner is not None or g.deps[i] == "ROOT"):
            self.name(i)
            first = min([self._of[i], *(k for k in g.kids[i] if k < i and g.deps[k] in ("amod", "compound", "nmod"))])
            self.add("style", None, first, i)
            self._style_nouns.add(i)
            return
        if low in words.collectives and inner is not None:
            for thing in self.things(inner):
                self.add("count", thing, i, i)
            return
        if low in words.kinds and (inner is not None or g.deps[i] == "pobj"):
            return
        if low in words.places and (
            g.deps[i] == "pobj"
            and (inner is not None or low in ("background", "foreground", "distance", "left", "right"))
        ):
            return
        self.name(i)
        negated = any(g.deps[k] == "det" and g.lower[k] == "no" for k in g.kids[i])
        head = g.heads[i]
        negated = negated or (g.deps[i] == "pobj" and g.lower[head] == "without")
        self.add("entity", i, self._of[i], i, aspect="part" if low in words.parts else "whole", negated=negated)
        if g.deps[i] in ("nsubj", "nsubjpass", "ROOT", "attr", "dobj"):
            self._subjects.append(i)
        self._modifiers(i, i)
        self._prepositions(i, [i])

    def _modifiers(self, i: int, of: int) -> None:
        g, words = self.g, self.words
        for kid in g.kids[i]:
            dep, low = g.deps[kid], g.lower[kid]
            if dep == "nummod" and kid < i:
                self.add("count", of, kid, kid)
            elif (dep in ("amod", "nmod") or (dep == "compound" and self._material(kid))) and kid < i:
                for token in g.conjuncts(kid):
                    self._adjective(token, of)
            elif dep == "acl" and g.tags[kid] == "VBN" and not g.kids[kid]:
                self.add("attribute", of, kid, kid, aspect=words.aspects.get(low, "state"))

    def _adjective(self, i: int, of: int, negated: bool = False) -> None:
        g, low = self.g, self.g.lower[i]
        if low in self.words.quantities or (low in self.words.numbers and low != "half"):
            self.add("count", of, i, i)
            return
        first = i
        for kid in reversed(g.kids[i]):
            if kid == first - 1 and g.deps[kid] in ("advmod", "compound", "amod", "npadvmod"):
                first = kid
        self.add("attribute", of, first, i, aspect=self.words.aspects.get(low, ""), negated=negated)

    def _prepositions(self, i: int, things: list[int], verb: int | None = None, negated: bool = False) -> None:
        """Relations by the prepositions that hang on token i, for each of the things."""
        g = self.g
        for kid in g.kids[i]:
            if g.deps[kid] not in ("prep", "agent") and not (
                g.deps[kid] == "advmod" and g.kid(kid, "prep") is not None
            ):
                continue
            if kid < i and g.deps[i] != "ROOT":
                continue
            self._relation(kid, things, negated=negated)

    def _relation(self, prep: int, things: list[int], negated: bool = False, first: int | None = None) -> None:
        g, words = self.g, self.words
        first = prep if first is None else first
        low = g.lower[prep]
        inner = g.kid(prep, "prep", "pcomp")
        if (pobj := g.kid(prep, "pobj")) is None:
            if inner is not None and g.deps[inner] == "prep" and inner > prep:
                self._relation(inner, things, negated, first)
            return
        if low == "of" and first == prep:
            for thing in things:
                for to in self.things(pobj):
                    self.add("relation", thing, prep, prep, to, negated=negated)
            return
        if g.lower[pobj] in words.places and (of := self._of_prep(pobj)) is not None and (place := g.kid(of, "pobj")):
            for to in self.things(place):
                if g.lower[to] in words.pictures:
                    continue
                for thing in things:
                    self.add("relation", thing, first, of, to, negated=negated)
            return
        if g.lower[pobj] in words.kinds:
            for kid in g.kids[pobj]:
                if g.deps[kid] in ("amod", "compound"):
                    for token in g.conjuncts(kid):
                        for thing in things:
                            self._adjective(token, thing)
            return
        if g.lower[pobj] in words.styles or (low in ("in", "as") and g.lower[pobj] in words.mediums):
            self.name(pobj)
            self.add("style", None, min([self._of[pobj], *(k for k in g.kids[pobj] if g.deps[k] == "amod")]), pobj)
            return
        for to in self.things(pobj):
            for thing in things:
                self.add("relation", thing, first, prep, to, negated=negated or low == "without")

    def _is_preposition(self, i: int) -> bool:
        g = self.g
        return g.deps[i] in ("prep", "agent") or (g.deps[i] == "advmod" and g.kid(i, "prep") is not None)

    def _of_prep(self, i: int) -> int | None:
        of = self.g.kid(i, "prep")
        return of if of is not None and self.g.lower[of] in ("of", "to") else None

    # Verbs

    def _read_verb(self, i: int) -> None:
        g, words = self.g, self.words
        low = g.lower[i]
        if g.deps[i] in ("aux", "auxpass", "amod", "compound"):
            return
        subjects = self._subjects_of(i)
        negated = any(g.deps[k] == "neg" for k in g.kids[i])
        objects = g.kid(i, "dobj", "dative")
        if low in words.seeing and (not subjects or objects is not None) and self._impersonal(i):
            if objects is not None:
                self._prepositions(i, self.things(objects), i)
            return
        if low in _BE:
            self._copula(i, subjects, negated)
            return
        particle = g.kid(i, "prt")
        last = particle if particle is not None and particle == i + 1 else i
        done = False
        for label in ("dobj", "oprd", "acomp"):
            if (target := g.kid(i, label)) is None:
                continue
            if label == "acomp":
                for subject in subjects:
                    self._adjective(target, subject, negated)
                done = True
                continue
            for to in self.things(target):
                for subject in subjects:
                    self.add("action", subject, i, last, to, negated=negated)
                done = True
        preps = [kid for kid in g.kids[i] if self._is_preposition(kid)]
        if not done:
            if not preps or low in words.postures:
                for subject in subjects:
                    self.add("action", subject, i, last, negated=negated)
            for prep in preps:
                if low in words.postures:
                    self._relation(prep, subjects, negated)
                else:
                    self._relation(prep, subjects, negated, first=i)
        else:
            for prep in preps:
                self._relation(prep, subjects, negated)

    def _copula(self, i: int, subjects: list[int], negated: bool) -> None:
        g = self.g
        attr = g.kid(i, "attr")
        if g.kid(i, "expl") is not None and attr is not None:
            self._prepositions(i, self.things(attr), i, negated)
            return
        for subject in subjects:
            if (target := g.kid(i, "acomp")) is not None:
                for token in g.conjuncts(target):
                    self._adjective(token, subject, negated)
            elif attr is not None and self.is_thing(attr):
                self.name(attr)
                self.add("attribute", subject, self._of[attr], attr, negated=negated)
        self._prepositions(i, subjects, i, negated)

    def _impersonal(self, i: int) -> bool:
        subject = self.g.kid(i, *_SUBJECTS)
        return subject is None or self.g.lower[subject] in self.words.nobody

    def _subjects_of(self, i: int, depth: int = 0) -> list[int]:
        g = self.g
        subject = g.kid(i, *_SUBJECTS)
        if subject is not None:
            if g.lower[subject] in ("who", "that", "which") and g.deps[i] == "relcl":
                return self.things_alone(g.heads[i])
            return self.things(subject)
        head, dep = g.heads[i], g.deps[i]
        if dep in ("acl", "relcl"):
            return self.things_alone(head)
        if dep in ("conj", "advcl", "xcomp", "ccomp") and depth < 6 and head != i:
            if g.tags[head] in VERBS:
                return self._subjects_of(head, depth + 1)
            return self.things_alone(head) if self.is_thing(head) else []
        return []

    def things_alone(self, i: int) -> list[int]:
        inner = self._inner(i) if self._groups(i) else None
        if inner is not None:
            return self.things(inner)
        return [i] if self.is_thing(i) else []
