"""The facts of a parsed text: rules over its dependency arcs."""

from __future__ import annotations

from bisect import bisect_left

from surd.pipeline.facts.fact import Fact, Kind
from surd.pipeline.facts.forms import Form, TextPart
from surd.pipeline.facts.parse_tree import ADJECTIVES, NOUNS, VERBS, ParseTree
from surd.pipeline.facts.repairs import GERUND_NOUNS
from surd.pipeline.facts.things import SUBJECTS, Things
from surd.pipeline.prompts.words import prompt_words

_QUOTES = frozenset("\"'“‘")
_AGENTS = ("er", "or", "ist", "board", "ball", "man")
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
        self._styles: list[tuple[int, int]] = []
        self._backgrounds: list[int] = []
        self._bearers: dict[int, list[tuple[int, int]]] = {}

    def read(self) -> list[Fact]:
        """The facts: of each noun and verb in the order of the text, then quoted words and styles."""
        tree = self.tree
        lone = self._take_lone_tags() if self.form.tags else []
        if self.form.quotes:
            self._find_quotes()
        for i, tag in enumerate(tree.tags):
            if i in lone:
                continue
            if tag in NOUNS:
                if self.things.is_noun(i):
                    self._noun(i)
            elif tag in ADJECTIVES and self.form.tags and tree.heads[i] == i and tree.kids[i]:
                self._adjective_alone(i)
            elif (tag in VERBS or tree.lower[i] in _BE) and tree.words[i][0] not in _QUOTES:
                self._verb(i)
        for bearer, quotes in self._bearers.items():
            for start, end in quotes:
                self._add_span("text", bearer if bearer >= 0 else None, start, end)
        self._read_parts()
        self._add_styles()
        shown = self._shown()
        for i in lone:
            kind: Kind = "action" if tree.tags[i] == "VBG" else "attribute"
            self._add(kind, shown, i, i, aspect=self.words.aspects.get(tree.lower[i], ""))
        for i in self._backgrounds:
            self.facts.append(
                Fact(
                    kind="attribute",
                    of="background",
                    value=tree.words[i],
                    start=tree.starts[i],
                    end=tree.ends[i],
                    aspect="colour",
                )
            )
        return self.facts

    # What is found

    def _add(self, kind: Kind, of: int | None, first: int, last: int, to: int | None = None, *, aspect: str = "",
             negated: bool = False) -> None:  # fmt: skip
        tree = self.tree
        if to is None or to != of:
            name = None if to is None else self.things.full_name(to)
            self._add_span(kind, of, tree.starts[first], tree.ends[last], name, aspect, negated)

    def _add_span(self, kind: Kind, of: int | None, start: int, end: int, to: str | None = None, aspect: str = "",
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
            if low in words.grounds:
                self._modifiers(i, [i])
            return
        negated = things.negated(i)
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
            self._add("entity", thing, things.first(thing), thing, aspect="whole")
            for kid in before:
                if tree.deps[kid] == "nummod":
                    self._add("count", thing, kid, kid)
            first = thing + 1
        if tree.deps[i] in ("dobj", "nsubj", "conj") or (inner is None and tree.kid(i, "prep") and not named):
            return low in self.words.pictures
        if low in self.words.mediums or first < i:
            self._styles.append((tree.starts[first], tree.ends[i]))
        if inner is not None:
            self._prepositions(i, things.meant(inner))
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
                self._add("count", thing, i, i)
        self._modifiers(i, meant)
        self._prepositions(i, meant)

    def _modifiers(self, i: int, of: list[int]) -> None:
        tree, words, things = self.tree, self.words, self.things
        for kid in tree.kids[i]:
            dep = tree.deps[kid]
            if kid < i:
                if dep in ("compound", "nmod") and tree.kids[kid] and not things.is_noun(kid):
                    self._modifiers(kid, of)  # "a red fire hydrant", where the parser gives red to fire
                if dep == "nummod":
                    for thing in of:
                        self._add("count", thing, kid, kid)
                elif dep in ("amod", "nmod", "compound"):
                    if tree.lower[kid] in words.kinds:
                        if dep == "amod":
                            self._modifiers(kid, of)
                    elif (dep != "compound" or things.modifies(kid)) and tree.tags[kid] not in ("VB", "VBP"):
                        for token in tree.conjuncts(kid):
                            self._adjective(token, of)
            elif (dep == "acl" and tree.tags[kid] == "VBN" and not tree.kids[kid]) or (
                dep == "amod" and tree.tags[kid] in ADJECTIVES
            ):
                self._adjective(kid, of)

    def _adjective(self, i: int, of: list[int], negated: bool = False) -> None:
        words, low = self.words, self.tree.lower[i]
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
                shared = [token for token in tree.conjuncts(i)[1:] if token < kid and self.things.is_noun(token)]
                self._relation(kid, [*of, *(token for token in shared if token not in of)], negated)

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
        if object_ in words.places and complement is not None and (place := things.meant(complement[1])):
            self._relate(of, begins, complement[0], place, negated)
            return
        as_a_whole = low == "as" and prep > 0 and tree.words[prep - 1] == ","  # ", as a glowing neon sign"
        if object_ in words.pictures:
            if low in ("in", "as") and any(tree.deps[kid] in ("amod", "compound") for kid in tree.kids[pobj]):
                self._style_phrase(low, pobj, certain=True)  # "in a blurred picture"
            return
        if object_ in words.kinds:
            self._modifiers(pobj, of)
            return
        if low in ("in", "with") and words.aspects.get(object_) == "colour":
            for token in tree.conjuncts(pobj):
                self._adjective(token, of, negated)
            return
        if self._style_phrase(low, pobj, certain=as_a_whole):
            return
        if object_ in ("other", "another") and tree.lower[pobj - 1 : pobj] in (["each"], ["one"]):
            for thing in of:
                self._add_span("relation", thing, tree.starts[begins], tree.ends[prep], tree.span(pobj - 1, pobj))
            return
        if prep - begins > 2:  # what stands between is not part of the relation
            begins = prep
        self._relate(of, begins, prep, things.meant(pobj), negated or low == "without")

    def _relate(self, of: list[int], first: int, last: int, to: list[int], negated: bool) -> None:
        for target in to:
            if target in self._bearers and self.tree.lower[last] == "with":
                continue  # 'a sign with the words "stop"': that is text, not a relation
            for thing in of:
                kind: Kind = "action" if self.tree.tags[first] in VERBS else "relation"
                self._add(kind, thing, first, last, target, negated=negated or self.things.negated(target))

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

    def _style_phrase(self, preposition: str, pobj: int, certain: bool = False) -> bool:
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
        self._styles.append((tree.starts[first], tree.ends[pobj if inner is None else self._end(inner)]))
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
            self._prepositions(i, [] if objects is None else things.meant(objects))
            return
        if low in words.showing and objects is not None and self._of_picture(i):
            self._prepositions(i, things.meant(objects))
            return
        subjects = things.subjects(i)
        if not subjects and self.form.tags and tree.heads[i] == i and (shown := self._shown()) is not None:
            subjects = [shown]  # a tag such as "riding a horse"
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
        if last + 1 < len(tree) and tree.heads[last + 1] == i and tree.deps[last + 1] == "advmod":
            adverb = last + 1
            if not tree.kids[adverb] and objects is None:  # "leaning forward"
                last = adverb
        done = False
        if (adjective := tree.kid(i, "acomp", "oprd")) is not None and tree.tags[adjective] not in NOUNS:
            for token in tree.conjuncts(adjective):
                self._adjective(token, subjects, negated)
            done = True
        if objects is not None:
            for target in things.meant(objects):
                for subject in subjects:
                    if subject == target:  # "takes a picture of himself"
                        self._add("action", subject, i, last, negated=negated)
                    self._add("action", subject, i, last, target, negated=negated or things.negated(target))
                done = True
        prepositions = [kid for kid in tree.kids[i] if self._is_preposition(kid)]
        if not done and tree.lower[i] in words.making and self._made_in(prepositions):
            return
        joined = None if done or tree.lower[i] in words.postures else self._joined(last, prepositions)
        if not done and joined is None:
            for subject in subjects:
                self._add("action", subject, i, last, negated=negated)
        for preposition in prepositions:
            self._relation(preposition, subjects, negated, i if preposition == joined else None)

    def _made_in(self, prepositions: list[int]) -> bool:
        """ "drawn as a sketch", "printed in dots": how the picture is made."""
        made = False
        for preposition in prepositions:
            pobj = self.tree.kid(preposition, "pobj")
            if pobj is None or self.words.aspects.get(self.tree.lower[pobj]) == "colour":
                continue
            if self.tree.lower[preposition] in ("in", "as", "like", "with"):
                made = self._style_phrase(self.tree.lower[preposition], pobj, certain=True) or made
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
            or (self.tree.lower[pobj] in self.words.places and self._complement(pobj) is None)
        )

    def _copula(self, i: int, subjects: list[int], negated: bool) -> None:
        tree, words, things = self.tree, self.words, self.things
        attr = tree.kid(i, "attr")
        if attr is not None and tree.kid(i, "expl") is not None:
            self._prepositions(i, things.meant(attr), negated)
            return
        if (adjective := tree.kid(i, "acomp")) is not None:
            if tree.lower[adjective] in words.places and (preposition := tree.kid(adjective, "prep")) is not None:
                self._relation(preposition, subjects, negated, adjective)  # "is right to the bird"
            else:
                for token in tree.conjuncts(adjective):
                    self._adjective(token, subjects, negated)
                self._prepositions(adjective, subjects, negated)
        elif attr is not None and things.is_noun(attr) and tree.lower[attr] not in words.mediums:
            if tree.lower[attr] in words.kinds:  # "is a dark brown colour"
                self._modifiers(attr, subjects)
                subjects = []
            for subject in subjects:
                if subject != attr:
                    self._add("attribute", subject, things.first(attr), attr, negated=negated)
        for kid in tree.kids[i]:
            if kid > i and tree.deps[kid] == "advmod" and tree.lower[kid] in words.where and not tree.kids[kid]:
                for subject in subjects:
                    self._add("attribute", subject, kid, kid, aspect="place", negated=negated)
        self._prepositions(i, subjects, negated)

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
        if any(start >= tree.ends[i] for start, _ in self.form.quotes):
            return True
        last = i
        while last + 1 < len(tree) and tree.tags[last + 1] not in (".", ",", ":", "-LRB-"):
            if last > i and tree.tags[last + 1] == "IN" and tree.tags[last + 2 : last + 3] == ["DT"]:
                break  # "reading go home on a wall"
            last += 1
        reads = tree.lower[i].startswith("read")
        if last == i or (reads and tree.tags[i + 1] in ("DT", "PRP$", "IN")):
            return False
        self._add("text", subjects[0], i + 1, last)
        tree.tags[i + 1 : last + 1] = [""] * (last - i)
        return True

    # Quotes and tags

    def _find_quotes(self) -> None:
        for start, end in self.form.quotes:
            token = next((i for i, at in enumerate(self.tree.starts) if at == start), None)
            if token is not None:
                self._bearers.setdefault(self._bearer(token), []).append((start + 1, end - 1))

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

    def _read_parts(self) -> None:
        """Styles among the tags, and counts behind them."""
        for part in self.form.parts:
            if part.kind == "style":
                words = self.form.plain[part.start : part.end]
                start = part.start + len(words) - len(words.lstrip())
                self._styles.append((start, start + len(words.strip())))
            elif part.count and (nouns := [i for i in self._inside(part) if self.things.is_noun(i)]):
                self._add_span("count", nouns[-1], *part.count)

    def _take_lone_tags(self) -> list[int]:
        """The tokens of tags such as "holding" or "happy", which say something of the thing that is shown."""
        lone = []
        for part in self.form.parts:
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

    def _adjective_alone(self, i: int) -> None:
        """A tag such as "asleep in bed"."""
        if (shown := self._shown()) is not None:
            self._adjective(i, [shown])
            self._prepositions(i, [shown])

    def _shown(self) -> int | None:
        """The first thing shown."""
        shown = next((fact for fact in self.facts if fact.kind == "entity" and not fact.negated), None)
        return None if shown is None else bisect_left(self.tree.starts, shown.of_start)

    def _add_styles(self) -> None:
        """A style is said of the first thing shown."""
        of = self._shown()
        for start, end in sorted(self._styles):
            self._add_span("style", of, start, end)

    def _inside(self, part: TextPart) -> list[int]:
        return [i for i, start in enumerate(self.tree.starts) if part.start <= start < part.end]
