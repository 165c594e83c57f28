"""What the texts of a build state: values of facts by kind, with how often each occurs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from surd.pipeline.facts.closed_classes import closed_classes
from surd.pipeline.facts.fact import Fact
from surd.pipeline.facts.inflection import one_of, with_article
from surd.pipeline.facts.parse import Sentence
from surd.pipeline.facts.verb_forms import as_gerund, deed_and_place

#: Nouns that name the place of things in a picture, or the picture, and are no alternatives of things.
_NO_THINGS = frozenset((
    "background", "backdrop", "foreground", "front", "back", "side", "left", "right", "top", "bottom", "middle",
    "center", "view", "scene", "way", "one", "group", "couple", "pair", "bunch", "row", "number", "lot", "kind", "type",
    "sort", "style", "art", "text",
))  # fmt: skip
_ENOUGH = 100


class StatedValues:
    """Values that a build states, most frequent first. Names are in lower case, things in the singular, actions as
    present participles."""

    def __init__(self) -> None:
        self.entities: Counter[str] = Counter()
        self.parts: Counter[str] = Counter()
        self.attributes: defaultdict[str, Counter[str]] = defaultdict(Counter)
        #: Attributes of no known aspect, by the thing that they are said of.
        self.said_of: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.deeds: Counter[str] = Counter()
        self.deeds_with_object: Counter[str] = Counter()
        #: Verb and object as one phrase: "riding a horse".
        self.whole_deeds: Counter[str] = Counter()
        self.styles: Counter[str] = Counter()

    def add(self, sentences: Iterable[Sentence]) -> StatedValues:
        """Count what these texts state, facts that they deny left out."""
        for sentence in sentences:
            if sentence.text.isupper():
                continue  # the parser takes capitals for names: "IS" would be a thing
            end = style_start(sentence)
            things = {fact.to for fact in sentence.facts if said_with_object(fact)}
            for fact in sentence.facts:
                idle = (fact.kind != "style" and fact.start >= end) or (fact.kind == "entity" and fact.of in things)
                if not fact.negated and not idle:
                    self._count(sentence, fact)
        return self

    def _count(self, sentence: Sentence, fact: Fact) -> None:
        value = fact.value.lower()
        match fact.kind:
            case "entity":
                if (name := thing_name(fact)) and not _proper(sentence, fact):
                    (self.parts if fact.aspect == "part" else self.entities)[name] += 1
            case "attribute" if value.isascii() and len(value) < 40:
                self.attributes[fact.aspect][value] += 1
                self.said_of[thing_name(fact)][value] += 1
            case "action":
                self._deed(sentence, fact, value)
            case "relation":
                if value.partition(" ")[0].endswith("ing") and (placed := deed_and_place(value)):
                    self.deeds[placed[0]] += 1
            case "style" if value:
                self.styles[value] += 1
            case _:
                pass

    def _deed(self, sentence: Sentence, fact: Fact, value: str) -> None:
        verb, space, rest = value.partition(" ")
        deed = as_gerund(verb)
        if deed is None or verb.endswith("ed") or (verb in closed_classes().needy and verb != deed):
            return  # a past participle says what is done to a thing, not what it does
        if placed := deed_and_place(value):
            self.deeds[placed[0]] += 1
            return
        deed = f"{deed}{space}{rest}"
        if fact.to is None:
            self.deeds[deed] += 1
            return
        self.deeds_with_object[deed] += 1
        behind = sentence.text[fact.end : fact.end + 60].lower()
        to = fact.to.lower()
        words = behind.split()
        if len(words) > 1 and words[0] in ("a", "an") and behind.strip().split(maxsplit=1)[1].startswith(to):
            self.whole_deeds[f"{deed} {with_article(to)}"] += 1
        elif behind.strip().startswith(to):
            self.whole_deeds[f"{deed} {to}"] += 1


def style_start(sentence: Sentence) -> int:
    """The character from which on a text speaks of its style ("..., drawn as a pencil sketch"); its length if it does
    not. The nouns there name nothing in the picture."""
    text = sentence.text
    comma = text.rfind(",")
    words = text[comma + 1 :].lower().split(maxsplit=1)
    if comma > 0 and words and words[0] in closed_classes().style_leads:
        styles = [fact for fact in sentence.facts if fact.kind == "style" and fact.start > comma]
        if styles or words[0] in ("as", "drawn", "painted", "sketched", "printed", "rendered"):
            return comma
    return len(text)


def said_with_object(fact: Fact) -> bool:
    """Whether an action is a verb that says little without its object: "taking a bath", "playing golf"."""
    return fact.kind == "action" and fact.to is not None and as_gerund(fact.value.lower()) in closed_classes().light


def thing_name(fact: Fact) -> str:
    """The thing of a fact in lower case and in the singular; "" if it does not name one."""
    name = " ".join(fact.of.lower().split())
    if not name or len(name) > 40 or name.split(" ")[-1] in _NO_THINGS or not name.replace(" ", "").isalpha():
        return ""
    if name in ("people", "someone", "somebody"):
        return "person"
    return (one_of(name) or name) if fact.plural else name


def _proper(sentence: Sentence, fact: Fact) -> bool:
    said = sentence.text[fact.start : fact.end]
    return fact.start > 0 and said[:1].isupper()


def ranked(counts: Counter[str]) -> list[str]:
    """Values by how often they occur, those that occur as often by the alphabet; without those that occur once where a
    hundred occur more often, since among the many are the parser's mistakes."""
    often = [value for value in counts if counts[value] > 1]
    return sorted(often if len(often) >= _ENOUGH else counts, key=lambda value: (-counts[value], value))
