"""The things of a parsed text: which nouns they are, how they are called, what groups and pronouns stand for."""

from __future__ import annotations

from surd.pipeline.facts.parse_tree import NOUNS, VERBS, ParseTree
from surd.pipeline.facts.vocabulary import vocabulary

SUBJECTS = ("nsubj", "nsubjpass")
_QUOTES = frozenset("\"'“‘")
_MODIFYING = frozenset(("colour", "material", "size", "state", "pattern", "texture", "shape"))
_PLURALS = frozenset(("people", "men", "women", "children", "sheep", "feet", "teeth", "geese", "mice"))
_PEOPLE = {"men": "man", "women": "woman", "people": "person", "children": "child"}
_PLURAL_PRONOUNS = frozenset(("they", "them", "themselves"))
_NEUTER_PRONOUNS = frozenset(("it", "itself"))


class Things:
    """Answers about the nouns of one text. A thing is the token of its noun."""

    def __init__(self, tree: ParseTree) -> None:
        self.tree = tree
        self.words = vocabulary()
        self._first: dict[int, int] = {}
        self._nouns: dict[int, bool] = {}
        self._names: dict[int, str] = {}
        self._mentioned: list[int] = []
        self._twins: dict[int, int] | None = None

    def is_noun(self, i: int) -> bool:
        """Whether the token is the noun of a phrase, not a part of a compound and not quoted."""
        known = self._nouns.get(i)
        if known is None:
            known = self._nouns[i] = self.tree.tags[i] in NOUNS and self._heads_a_phrase(i)
        return known

    def _heads_a_phrase(self, i: int) -> bool:
        tree = self.tree
        if tree.words[i][0] in _QUOTES:
            return False
        head = tree.heads[i]
        if (
            i < head
            and tree.deps[i] in ("compound", "nmod", "npadvmod", "amod")
            and (tree.tags[head] in NOUNS or tree.deps[i] == "npadvmod")
        ):
            return False
        low = tree.lower[i]
        if i + 1 < len(tree) and tree.words[i + 1] == "-" and tree.ends[i] == tree.starts[i + 1]:
            return False
        return low not in self.words.nobody and (low.isalpha() or any(char.isalpha() for char in low))

    def is_thing(self, i: int) -> bool:
        """Whether the token is the noun of something that may be seen."""
        if not self.is_noun(i):
            return False
        low = self.tree.lower[i]
        if self.words.aspects.get(low) == "colour":
            return self.tree.deps[i] == "conj" or any(kid < i for kid in self.tree.kids[i])
        return low not in self.words.unseen or self.first(i) < i

    def first(self, i: int) -> int:
        """The token at which the name of a thing begins: "fire" of "fire hydrant"."""
        found = self._first.get(i)
        if found is None:
            found = self._first[i] = self._first_of(i)
        return found

    def _first_of(self, i: int, depth: int = 0) -> int:
        tree, first = self.tree, i
        for kid in reversed(tree.kids[i]):
            if kid == first - 1 and self._is_named(kid) and depth < 8:
                first = self._first_of(kid, depth + 1)
        return first

    def _is_named(self, i: int) -> bool:
        tree = self.tree
        if tree.words[i][0] in _QUOTES or self.modifies(i):
            return False
        return tree.deps[i] == "compound" or (tree.deps[i] in ("amod", "nmod") and tree.tags[i] in ("VB", "VBP", "NNP"))

    def modifies(self, i: int) -> bool:
        """Whether a word before a noun is of a closed class that describes: a colour, a material; or "color" itself."""
        low = self.tree.lower[i]
        if self.tree.tags[i] == "NNP" and not self.tree.words[i].islower():
            return False
        return self.words.aspects.get(low) in _MODIFYING or low in self.words.kinds

    def negated(self, i: int) -> bool:
        """Whether the text says that the thing is not there: "no hat", "without a hat"."""
        tree = self.tree
        while True:
            if tree.deps[i] == "pobj" and tree.lower[tree.heads[i]] == "without":
                return True
            if any(tree.deps[kid] == "det" and tree.lower[kid] in ("no", "neither") for kid in tree.kids[i]):
                return True
            if tree.deps[i] != "conj" or tree.heads[i] >= i:
                return False
            i = tree.heads[i]

    def name(self, i: int) -> str:
        """The noun with its compounds: "fire hydrant"; of names also what follows "of": "Statue of Liberty"."""
        found = self._names.get(i)
        if found is None:
            found = self._names[i] = self.tree.span(self.first(i), self.last(i))
        return found

    def full_name(self, i: int) -> str:
        """The name, with adjectives and numbers where the text speaks of two things of one name: "white goat" beside
        "black goats"."""
        if self._twins is None:
            self._twins = self._find_twins()
        return self.tree.span(self._twins[i], self.last(i)) if i in self._twins else self.name(i)

    def _find_twins(self) -> dict[int, int]:
        """Nouns that only their modifiers tell apart, and where those begin."""
        tree = self.tree
        nouns: dict[str, list[int]] = {}
        for i, tag in enumerate(tree.tags):
            if tag in NOUNS:
                low = tree.lower[i]
                nouns.setdefault(_PEOPLE.get(low, low.removesuffix("s")), []).append(i)
        twins: dict[int, int] = {}
        for several in nouns.values():
            if len(several) < 2:
                continue
            same = [i for i in several if self.is_noun(i)]
            begins = {i: self._modifiers_from(i) for i in same if not self._is_definite(i)}
            if len({tree.span(first, i).lower() for i, first in begins.items()}) == len(same):
                twins.update({i: first for i, first in begins.items() if first < self.first(i)})
        return twins

    def _modifiers_from(self, i: int) -> int:
        tree, first = self.tree, self.first(i)
        for kid in reversed(tree.kids[i]):
            if kid == first - 1 and tree.deps[kid] in ("amod", "nummod", "compound", "nmod"):
                first = kid
        return first

    def _is_definite(self, i: int) -> bool:
        tree = self.tree
        return any(tree.deps[kid] == "poss" or tree.lower[kid] in ("the", "this", "that") for kid in tree.kids[i])

    def last(self, i: int) -> int:
        tree = self.tree
        if tree.tags[i] == "NNP" and (inner := self.inner(i)) is not None and tree.tags[inner] == "NNP":
            return inner
        return i

    def plural(self, i: int) -> bool:
        return self.tree.tags[i] in ("NNS", "NNPS") or self.tree.lower[i] in _PLURALS

    def inner(self, i: int) -> int | None:
        """The noun behind "of": "people" of "group of people"."""
        tree = self.tree
        for kid in tree.kids[i]:
            if tree.deps[kid] == "prep" and tree.lower[kid] == "of":
                return tree.kid(kid, "pobj")
        return None

    def stands_for_inner(self, i: int) -> bool:
        """Whether the noun only groups or depicts what stands behind its "of"."""
        low, words = self.tree.lower[i], self.words
        return low in words.collectives or low in words.kinds or low in words.mediums or low in words.pictures

    def meant(self, i: int, depth: int = 0) -> list[int]:
        """The things that a noun or pronoun stands for: itself, what it groups, what it refers to, and conjuncts."""
        found: list[int] = []
        if depth > 8:
            return found
        for token in self.tree.conjuncts(i):
            found.extend(self.meant_alone(token, depth))
        return found

    def meant_alone(self, i: int, depth: int = 0) -> list[int]:
        """The same without conjuncts."""
        tree, words, low = self.tree, self.words, self.tree.lower[i]
        if (self.stands_for_inner(i) or low in words.nobody) and (inner := self.inner(i)) is not None:
            return self.meant(inner, depth + 1)
        if low in words.pronouns:
            antecedent = self._antecedent(i)
            return [] if antecedent is None else [antecedent]
        return [i] if self.is_noun(i) and tree.lower[i] not in words.pictures else []

    def mention(self, i: int) -> None:
        """Remember a thing that later pronouns may stand for."""
        self._mentioned.append(i)

    def _antecedent(self, i: int) -> int | None:
        tree, low = self.tree, self.tree.lower[i]
        for thing in reversed(self._mentioned):
            if thing >= i:
                continue
            person = tree.lower[thing] in self.words.people
            if low in _PLURAL_PRONOUNS:
                fits = self.plural(thing)
            elif low in _NEUTER_PRONOUNS:
                fits = not person and not self.plural(thing)
            else:
                fits = not self.plural(thing) and (person or tree.tags[thing] == "NNP")
            if fits:
                return thing
        return None

    def subjects(self, verb: int, depth: int = 0) -> list[int]:
        """Who does what the verb says, or to whom it is done in the passive; through relative clauses, participles and
        joined verbs."""
        tree = self.tree
        subject = tree.kid(verb, *SUBJECTS)
        if subject is not None:
            if tree.deps[verb] == "relcl" and tree.lower[subject] in ("who", "that", "which"):
                return self.meant_alone(tree.heads[verb])
            return self.meant(subject)
        head, dep = tree.heads[verb], tree.deps[verb]
        if head == verb or depth > 6:
            return []
        if dep in ("acl", "relcl"):
            return self._carrier(verb, head, depth)
        if dep in ("conj", "advcl", "xcomp", "ccomp", "pcomp", "dep", "prep"):
            if tree.tags[head] in VERBS or tree.lower[head] in ("is", "are"):
                return self.subjects(head, depth + 1) or self._there_is(head)
            if tree.tags[head] in NOUNS:
                return self.meant_alone(head)
            return self.subjects(head, depth + 1) if dep in ("pcomp", "prep") or tree.deps[head] == "prep" else []
        return []

    def _there_is(self, be: int) -> list[int]:
        tree = self.tree
        attr = tree.kid(be, "attr")
        return self.meant(attr) if attr is not None and tree.kid(be, "expl") is not None else []

    def _carrier(self, verb: int, noun: int, depth: int) -> list[int]:
        """Who does what a participle behind a noun says: the noun, or the one that has it on: "a squirrel in a jacket
        shouting" (the parser takes the nearest noun)."""
        tree, words = self.tree, self.words
        if tree.tags[verb] == "VBG" and tree.deps[verb] == "acl" and tree.lower[noun] not in words.people:
            top = noun
            while tree.deps[top] == "conj" and tree.heads[top] != top:
                top = tree.heads[top]
            low = tree.lower[noun]
            prep = tree.heads[top]
            if tree.deps[top] == "pobj" and (
                low in words.worn or low in words.parts or tree.lower[verb] in words.deeds
            ):
                upper = tree.heads[prep]
                while tree.deps[upper] == "prep" and tree.heads[upper] != upper:
                    upper = tree.heads[upper]
                above = self.subjects(upper, depth + 1) if tree.tags[upper] in VERBS else self.meant_alone(upper)
                if above:
                    return above
            elif tree.deps[top] == "dobj" and low in words.worn and tree.tags[prep] in VERBS:
                return self.subjects(prep, depth + 1)
        return self.meant_alone(noun)
