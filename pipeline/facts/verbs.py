"""What things do and are, by the verbs of a parsed text."""

from __future__ import annotations

from surd.pipeline.facts.fact_list import FactList
from surd.pipeline.facts.parse_tree import NOUNS
from surd.pipeline.facts.relations import Relations
from surd.pipeline.facts.things import SUBJECTS

BE = frozenset(("is", "are", "was", "were", "be", "been", "being", "'s", "'re"))
_SPEAKING = frozenset(("say", "says", "saying", "said", "read", "reads", "reading"))
_SKIPPED = frozenset(("aux", "auxpass", "amod", "compound"))


class Verbs:
    """Adds what verbs state to the facts of one text."""

    def __init__(self, found: FactList, relations: Relations) -> None:
        self.found, self.relations = found, relations
        self.tree, self.things, self.words = found.tree, found.things, found.words

    def read(self, i: int) -> None:
        tree, words, things = self.tree, self.words, self.things
        if tree.deps[i] in _SKIPPED:
            return
        low = tree.lower[i]
        objects = tree.kid(i, "dobj")
        if low in words.seeing and self._impersonal(i):
            self.relations.of(i, [] if objects is None else things.meant(objects))
            return
        if low in words.showing and objects is not None and self._of_picture(i):
            self.relations.of(i, things.meant(objects))
            return
        subjects = things.subjects(i)
        if not subjects and self.found.form.tags and tree.heads[i] == i and (shown := self.found.shown()) is not None:
            subjects = [shown]  # a tag such as "riding a horse"
        negated = any(tree.deps[k] == "neg" for k in tree.kids[i])
        if low in BE:
            self._copula(i, subjects, negated)
        elif low in _SPEAKING and self._says(i, subjects):
            return
        else:
            self._deed(i, subjects, objects, negated)

    def _deed(self, i: int, subjects: list[int], objects: int | None, negated: bool) -> None:
        tree, words, things = self.tree, self.words, self.things
        particle = tree.kid(i, "prt")
        last = particle if particle is not None and particle == i + 1 else i
        if last + 1 < len(tree) and tree.heads[last + 1] == i and tree.deps[last + 1] == "advmod":
            adverb = last + 1
            if not tree.kids[adverb] and objects is None:  # "leaning forward"
                last = adverb
        done = False
        if (adjective := tree.kid(i, "acomp", "oprd")) is not None and tree.tags[adjective] not in NOUNS:
            for token in tree.conjuncts(adjective):
                self.found.adjective(token, subjects, negated)
            done = True
        if objects is not None:
            for target in things.meant(objects):
                for subject in subjects:
                    if subject == target:  # "takes a picture of himself"
                        self.found.add("action", subject, i, last, negated=negated)
                    self.found.add("action", subject, i, last, target, negated=negated or things.negated(target))
                done = True
        prepositions = [kid for kid in tree.kids[i] if self.relations.is_preposition(kid)]
        if not done and tree.lower[i] in words.making and self._made_in(prepositions):
            return
        joined = None if done or tree.lower[i] in words.postures else self._joined(last, prepositions)
        if not done and joined is None:
            for subject in subjects:
                self.found.add("action", subject, i, last, negated=negated)
        for preposition in prepositions:
            self.relations.add(preposition, subjects, negated, i if preposition == joined else None)

    def _made_in(self, prepositions: list[int]) -> bool:
        """ "drawn as a sketch", "printed in dots": how the picture is made."""
        made = False
        for preposition in prepositions:
            pobj = self.tree.kid(preposition, "pobj")
            if pobj is None or self.words.aspects.get(self.tree.lower[pobj]) == "colour":
                continue
            if self.tree.lower[preposition] in ("in", "as", "like", "with"):
                made = self.relations.style_phrase(self.tree.lower[preposition], pobj, certain=True) or made
        return made

    def _joined(self, verb: int, prepositions: list[int]) -> int | None:
        """The preposition that belongs to the verb: "walking down", "looking up at"."""
        for preposition in prepositions:
            if verb < preposition <= verb + 2 and not self._is_beside(preposition):
                return preposition
        return None

    def _is_beside(self, i: int) -> bool:
        """Whether a preposition leads to the picture itself or a place in it: "dancing on a blue background"."""
        pobj = self.tree.kid(i, "pobj")
        return pobj is not None and (
            self.tree.lower[pobj] in self.words.pictures
            or (self.tree.lower[pobj] in self.words.places and self.relations.complement(pobj) is None)
        )

    def _copula(self, i: int, subjects: list[int], negated: bool) -> None:
        tree, words, things = self.tree, self.words, self.things
        attr = tree.kid(i, "attr")
        if attr is not None and tree.kid(i, "expl") is not None:
            self.relations.of(i, things.meant(attr), negated)
            return
        if (adjective := tree.kid(i, "acomp")) is not None:
            if tree.lower[adjective] in words.places and (preposition := tree.kid(adjective, "prep")) is not None:
                self.relations.add(preposition, subjects, negated, adjective)  # "is right to the bird"
            else:
                for token in tree.conjuncts(adjective):
                    self.found.adjective(token, subjects, negated)
                self.relations.of(adjective, subjects, negated)
        elif attr is not None and things.is_noun(attr) and tree.lower[attr] not in words.mediums:
            if tree.lower[attr] in words.kinds:  # "is a dark brown colour"
                self.found.modifiers(attr, subjects)
                subjects = []
            for subject in subjects:
                if subject != attr:
                    self.found.add("attribute", subject, things.first(attr), attr, negated=negated)
        for kid in tree.kids[i]:
            if kid > i and tree.deps[kid] == "advmod" and tree.lower[kid] in words.where and not tree.kids[kid]:
                for subject in subjects:
                    self.found.add("attribute", subject, kid, kid, aspect="place", negated=negated)
        self.relations.of(i, subjects, negated)

    def _of_picture(self, verb: int) -> bool:
        """Whether it is the picture that does what the verb says: "an image showing a cat"."""
        tree = self.tree
        subject = tree.kid(verb, *SUBJECTS)
        noun = tree.heads[verb] if subject is None else subject
        low = tree.lower[noun]
        return low in self.words.pictures or (low in self.words.mediums and tree.deps[noun] in ("ROOT", "nsubj"))

    def _impersonal(self, i: int) -> bool:
        subject = self.tree.kid(i, *SUBJECTS)
        return subject is None or self.tree.lower[subject] in self.words.nobody

    def _says(self, i: int, subjects: list[int]) -> bool:
        """ "A sign that says stop": what a thing says is text, quoted or not."""
        tree = self.tree
        if not subjects or tree.lower[subjects[0]] in self.words.people:
            return False
        if any(start >= tree.ends[i] for start, _ in self.found.form.quotes):
            return True
        last = i
        while last + 1 < len(tree) and tree.tags[last + 1] not in (".", ",", ":", "-LRB-"):
            if last > i and tree.tags[last + 1] == "IN" and tree.tags[last + 2 : last + 3] == ["DT"]:
                break  # "reading go home on a wall"
            last += 1
        reads = tree.lower[i].startswith("read")
        if last == i or (reads and tree.tags[i + 1] in ("DT", "PRP$", "IN")):
            return False
        self.found.add("text", subjects[0], i + 1, last)
        tree.tags[i + 1 : last + 1] = [""] * (last - i)
        return True
