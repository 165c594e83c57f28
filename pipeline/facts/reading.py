"""The facts of a parsed text: rules over its dependency arcs."""

from __future__ import annotations

from surd.pipeline.facts.fact import Fact, Kind
from surd.pipeline.facts.fact_list import FactList
from surd.pipeline.facts.forms import Form, TextPart
from surd.pipeline.facts.parse_tree import ADJECTIVES, NOUNS, VERBS, ParseTree
from surd.pipeline.facts.relations import Relations
from surd.pipeline.facts.repairs import GERUND_NOUNS
from surd.pipeline.facts.verbs import BE, Verbs
from surd.pipeline.prompts.words import prompt_words

_QUOTES = frozenset("\"'“‘")
_AGENTS = ("er", "or", "ist", "board", "ball", "man")


class Reading:
    """Reads one text: its nouns, verbs and tags."""

    def __init__(self, tree: ParseTree, form: Form) -> None:
        self.tree = tree
        self.found = FactList(tree, form)
        self.relations = Relations(self.found)
        self.things, self.words = self.found.things, self.found.words
        self._backgrounds: list[int] = []

    def read(self) -> list[Fact]:
        """The facts: of each noun and verb in the order of the text, then quoted words and styles."""
        tree = self.tree
        verbs = Verbs(self.found, self.relations)
        lone = self._take_lone_tags() if self.found.form.tags else []
        if self.found.form.quotes:
            self._find_quotes()
        for i, tag in enumerate(tree.tags):
            if i in lone:
                continue
            if tag in NOUNS:
                if self.things.is_noun(i):
                    self._noun(i)
            elif tag in ADJECTIVES and self.found.form.tags and tree.heads[i] == i and tree.kids[i]:
                self._adjective_alone(i)
            elif (tag in VERBS or tree.lower[i] in BE) and tree.words[i][0] not in _QUOTES:
                verbs.read(i)
        for bearer, quotes in self.found.bearers.items():
            for start, end in quotes:
                self.found.add_span("text", bearer if bearer >= 0 else None, start, end)
        self._read_parts()
        self._add_styles()
        shown = self.found.shown()
        for i in lone:
            kind: Kind = "action" if tree.tags[i] == "VBG" else "attribute"
            self.found.add(kind, shown, i, i, aspect=self.words.aspects.get(tree.lower[i], ""))
        for i in self._backgrounds:
            self.found.facts.append(
                Fact(
                    kind="attribute",
                    of="background",
                    value=tree.words[i],
                    start=tree.starts[i],
                    end=tree.ends[i],
                    aspect="colour",
                )
            )
        return self.found.facts

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
            if low in words.grounds:
                self.found.modifiers(i, [i])
            return
        negated = things.negated(i)
        aspect = "part" if low in words.parts else "whole"
        self.found.add("entity", i, things.first(i), things.last(i), aspect=aspect, negated=negated)
        if dep in ("nsubj", "nsubjpass", "ROOT", "attr", "dobj"):
            things.mention(i)
        self.found.modifiers(i, [i])
        self.relations.of(i, [i])

    def _depiction(self, i: int, inner: int | None) -> bool:
        """A noun for the picture itself says its style: "an oil painting of". False where it is a thing in the picture:
        "a stamp with a painting"."""
        tree, things, low = self.tree, self.things, self.tree.lower[i]
        if any(tree.deps[k] == "nummod" for k in tree.kids[i]) and inner is None and low in self.words.mediums:
            return False
        if tree.deps[i] not in ("ROOT", "attr", "appos", "conj", "npadvmod", "nsubj", "dobj"):
            article = any(tree.lower[k] in ("a", "an") for k in tree.kids[i])
            return low in self.words.pictures and not article
        if tree.deps[i] in ("nsubj", "dobj", "conj") and inner is None:
            return low in self.words.pictures
        before = [k for k in tree.kids[i] if k < i and tree.deps[k] in ("amod", "compound", "nmod", "nummod")]
        first = min([i, *before, *(t for k in before for t in tree.conjuncts(k))])
        named = inner is None and prompt_words().classify(tree.span(first, i)) == "subject"
        if named and (thing := self._depicted(min(things.first(i), first), i)) is not None:
            if low in ("scene", "view"):
                thing = i  # "city scene"
            self.found.add("entity", thing, things.first(thing), thing, aspect="whole")
            for kid in before:
                if tree.deps[kid] == "nummod":
                    self.found.add("count", thing, kid, kid)
            first = thing + 1
        if tree.deps[i] in ("dobj", "nsubj", "conj") or (inner is None and tree.kid(i, "prep") and not named):
            return low in self.words.pictures
        if low in self.words.mediums or first < i:
            self.found.styles.append((tree.starts[first], tree.ends[i]))
        if inner is not None:
            self.relations.of(i, things.meant(inner))
        return True

    def _depicted(self, first: int, medium: int) -> int | None:
        """ "graveyard" of "Disney graveyard photo"."""
        for i in range(medium - 1, first - 1, -1):
            noun = self.tree.tags[i] in NOUNS and not self.things.modifies(i)
            if noun and prompt_words().classify(self.tree.words[i]) == "subject":
                return i
        return None

    def _group(self, i: int, inner: int) -> None:
        """ "A spotted group of zebras on a hill": what is said of the group is said of the zebras."""
        tree, words = self.tree, self.words
        meant = self.things.meant(inner)
        counted = any(tree.deps[k] == "nummod" for k in tree.kids[inner])
        if tree.lower[i] in words.amounts and not counted:
            for thing in meant:
                self.found.add("count", thing, i, i)
        self.found.modifiers(i, meant)
        self.relations.of(i, meant)

    def _adjective_alone(self, i: int) -> None:
        """A tag such as "asleep in bed"."""
        if (shown := self.found.shown()) is not None:
            self.found.adjective(i, [shown])
            self.relations.of(i, [shown])

    def _find_quotes(self) -> None:
        for start, end in self.found.form.quotes:
            token = next((i for i, at in enumerate(self.tree.starts) if at == start), None)
            if token is not None:
                self.found.bearers.setdefault(self._bearer(token), []).append((start + 1, end - 1))

    def _bearer(self, quote: int) -> int:
        """What bears the quoted words: "a 'stop' sign", "a sign that says 'stop'", "the text 'stop'"; -1: nothing."""
        tree, things = self.tree, self.things
        head = tree.heads[quote]
        if head > quote and things.is_noun(head):
            return head
        if tree.tags[head] in VERBS and (subjects := things.subjects(head)):
            return subjects[0]
        before = [i for i in range(quote) if things.is_noun(i)]
        return before[-1] if before else next((i for i in range(quote, len(tree)) if things.is_noun(i)), -1)

    def _take_lone_tags(self) -> list[int]:
        """The tokens of tags such as "holding" or "happy", which say something of the thing that is shown."""
        lone = []
        for part in self.found.form.parts:
            if part.kind != "parse":
                continue
            inside = [i for i in self._inside(part) if any(char.isalnum() for char in self.tree.words[i])]
            if len(inside) == 1:
                i, low = inside[0], self.tree.lower[inside[0]]
                if self.tree.tags[i] in ("VB", "VBP", "VBZ", "UH", "FW") or (
                    self.tree.tags[i] == "JJ" and low.endswith(_AGENTS)
                ):
                    self.tree.tags[i] = "NNS" if low.endswith("s") else "NN"
                deed = low.endswith("ing") and len(low) > 5 and low not in GERUND_NOUNS
                if deed or self.tree.tags[i] in ("JJ", "VBN", "VBD"):
                    self.tree.tags[i] = "VBG" if deed else "JJ"
                    lone.append(i)
            elif len(inside) == 2 and self.tree.lower[inside[0]] in ("on", "in"):
                colour = inside[1]
                if self.words.aspects.get(self.tree.lower[colour]) == "colour":  # "on blue": so is the background
                    self._backgrounds.append(colour)
                    self.tree.tags[colour] = ""
        return lone

    def _read_parts(self) -> None:
        """Styles among the tags, and counts behind them."""
        for part in self.found.form.parts:
            if part.kind == "style":
                words = self.found.form.plain[part.start : part.end]
                start = part.start + len(words) - len(words.lstrip())
                self.found.styles.append((start, start + len(words.strip())))
            elif part.count and (nouns := [i for i in self._inside(part) if self.things.is_noun(i)]):
                self.found.add_span("count", nouns[-1], *part.count)

    def _add_styles(self) -> None:
        """A style is said of the first thing shown."""
        of = self.found.shown()
        for start, end in sorted(self.found.styles):
            self.found.add_span("style", of, start, end)

    def _inside(self, part: TextPart) -> list[int]:
        return [i for i, start in enumerate(self.tree.starts) if part.start <= start < part.end]
