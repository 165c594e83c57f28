"""Lexicon of facts: which facts a sentence states, and the same sentence with another fact in place of one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, NoReturn

import yaml

from surd.pipeline.facts.inflection import plural as plural_of
from surd.pipeline.facts.inflection import tidy
from surd.schemas import SurdError
from surd.schemas.paths import absolute

DEFAULT = Path(__file__).with_name("lexicon.yaml")
Kind = Literal["number", "noun", "phrase"]
_WORD = re.compile(r"[a-z0-9]+")
_LONE = ("someone", "somebody")
#: How many words may stand between a number and its noun ("two big red balloons").
_BETWEEN = 2


@dataclass(frozen=True, kw_only=True)
class LexiconFact:
    """One fact of a sentence: characters ``start`` to ``end`` state value number ``value`` of ``group``."""

    group: str
    value: int
    start: int
    end: int
    plural: bool = False


@dataclass(frozen=True, kw_only=True)
class Group:
    """Values that exclude each other, each with its forms, the one to write first."""

    name: str
    kind: Kind
    ask: str
    values: tuple[tuple[str, ...], ...]
    add: str | None = None
    plurals: dict[str, str] = field(default_factory=dict)

    def form(self, value: int, plural: bool = False) -> str:
        """How a value is written."""
        form = self.values[value][0]
        return (self.plurals.get(form) or plural_of(form)) if plural else form


class Lexicon:
    """Groups of facts, read from a YAML file (see ``lexicon.yaml``)."""

    def __init__(self, groups: tuple[Group, ...]) -> None:
        self.groups = {group.name: group for group in groups}
        self._forms: dict[str, tuple[str, int, bool]] = {}
        for group in groups:
            for number, forms in enumerate(group.values):
                for form in forms:
                    self._forms.setdefault(form.lower(), (group.name, number, False))
                    if group.kind == "noun":
                        for plural in (group.plurals.get(form, ""), plural_of(form)):
                            self._forms.setdefault(plural.lower(), (group.name, number, True))
        self._forms.pop("", None)
        longest_first = sorted(self._forms, key=lambda form: (-len(form), form))
        self._pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b", re.IGNORECASE)
        self._number = next((group for group in groups if group.kind == "number"), None)

    def facts(self, sentence: str) -> list[LexiconFact]:
        """The facts of ``sentence`` from left to right; of overlapping forms the first one, then the longer."""
        facts = []
        for match in self._pattern.finditer(sentence):
            name, value, plural = self._forms[match.group().lower()]
            if self.groups[name].kind != "number":
                facts.append(LexiconFact(group=name, value=value, start=match.start(), end=match.end(), plural=plural))
        return sorted(facts + self._counts(sentence, facts), key=lambda fact: fact.start)

    def name(self, value: str) -> str | None:
        """The first form of the value that a phrase is a form of, or that it shares a telling word with: one that
        stands in several forms of this value of an optional group, and of no other ("neon" in "neon glow")."""
        if value.lower() in self._forms:
            group, number, _ = self._forms[value.lower()]
            return self.groups[group].values[number][0]
        names = {self._telling[word] for word in _WORD.findall(value.lower()) if word in self._telling}
        return names.pop() if len(names) == 1 else None

    @cached_property
    def _telling(self) -> dict[str, str]:
        """Word -> the first form of the one value whose forms have it several times."""
        names: dict[str, set[str]] = {}
        for group in self.groups.values():
            for forms in group.values if group.add else ():
                words = [word for form in forms for word in set(_WORD.findall(form.lower())) if len(word) > 3]
                for word in set(words):
                    if words.count(word) > 1:
                        names.setdefault(word, set()).add(forms[0])
        return {word: of_word.pop() for word, of_word in names.items() if len(of_word) == 1}

    def is_number(self, fact: LexiconFact) -> bool:
        """Whether a fact is a count."""
        return self.groups[fact.group].kind == "number"

    def swap(self, sentence: str, fact: LexiconFact, value: int | None) -> str | None:
        """``sentence`` with another ``value`` of ``fact``; value None leaves it out. Returns None if that needs a noun
        that is not in the lexicon."""
        group = self.groups[fact.group]
        if value is None:
            before = sentence[: fact.start].rstrip().removesuffix(",").rstrip()
            return tidy(f"{before}{sentence[fact.end :]}")
        if group.kind == "number":
            return self._recount(sentence, fact, value)
        return tidy(f"{sentence[: fact.start]}{group.form(value, fact.plural)}{sentence[fact.end :]}")

    def added(self, sentence: str, name: str, value: int) -> str:
        """``sentence`` with an added fact of an optional group."""
        group = self.groups[name]
        assert group.add, f"{name} is optional"
        return tidy(f"{sentence.rstrip(' .')}{group.add.format(group.values[value][0])}.")

    def _counts(self, sentence: str, facts: list[LexiconFact]) -> list[LexiconFact]:
        """Counts: numbers and articles followed by a noun of the lexicon, and "someone"."""
        if self._number is None:
            return []
        words = {form: number for number, forms in enumerate(self._number.values) for form in forms}
        one = words.get("one", 0)
        spans = [(fact.start, fact.end) for fact in facts]
        counts = [
            LexiconFact(group=self._number.name, value=one, start=match.start(), end=match.end())
            for match in re.finditer(rf"\b(?:{'|'.join(_LONE)})\b", sentence, re.IGNORECASE)
        ]
        forms = sorted((*words, "a", "an"), key=len, reverse=True)
        for match in re.finditer(rf"\b(?:{'|'.join(map(re.escape, forms))})\b", sentence, re.IGNORECASE):
            inside = any(start <= match.start() < end for start, end in spans)
            if not inside and (noun := self._noun_after(sentence, match.end(), facts)):
                value = words.get(match.group().lower(), one)
                counts.append(
                    LexiconFact(
                        group=self._number.name, value=value, start=match.start(), end=match.end(), plural=noun.plural
                    )
                )
        return counts

    def _noun_after(self, sentence: str, position: int, facts: list[LexiconFact]) -> LexiconFact | None:
        """The noun of the lexicon that a number ending at ``position`` counts."""
        for fact in facts:
            if self.groups[fact.group].kind == "noun" and fact.start >= position:
                between = sentence[position : fact.start]
                return fact if re.fullmatch(rf"(?:\s+[\w-]+){{0,{_BETWEEN}}}\s+", between) else None
        return None

    def _recount(self, sentence: str, fact: LexiconFact, value: int) -> str | None:
        assert self._number
        number = self._number.values[value][0]
        single = number in ("one", "1")
        if sentence[fact.start : fact.end].lower() in _LONE:
            middle, position, noun_form = " ", fact.end, "person" if single else "people"
        else:
            noun = self._noun_after(sentence, fact.end, self.facts(sentence))
            if noun is None:
                return None
            middle, position = sentence[fact.end : noun.start], noun.end
            noun_form = self.groups[noun.group].form(noun.value, plural=not single)
        word = f"a{middle}" if single else f"{number}{middle}"
        wrong, right = ("are", "is") if single else ("is", "are")
        before = re.sub(rf"\bthere {wrong} $", f"there {right} ", sentence[: fact.start], flags=re.IGNORECASE)
        after = re.sub(rf"^ {wrong}\b", f" {right}", sentence[position:])
        return tidy(f"{before}{word}{noun_form}{after}")


def lexicon_file(path: str | None) -> Path:
    """The file of a lexicon; None: the one that ships."""
    return absolute(path) if path else DEFAULT


@lru_cache(maxsize=4)
def read_lexicon(path: str | None) -> Lexicon:
    """The lexicon in a YAML file; None: the one that ships. Raises SurdError with line and column of an error."""
    file = lexicon_file(path)
    try:
        root: Any = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise SurdError(f"correct.lexicon {str(file)!r} cannot be read ({error}); give a YAML file") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise SurdError(f"{_place(file, mark)}: {error.problem or error}; it must be YAML") from None
    return _Reader(file).lexicon(root)


class _Reader:
    """Builds a lexicon from YAML nodes, which carry their line and column for error messages."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def lexicon(self, root: Any) -> Lexicon:
        top = self._mapping(root, "the file", {"version", "groups"})
        if top["version"].value != "1":
            self._fail(top["version"], f"version is {top['version'].value!r}; this surd reads version 1")
        groups = self._mapping(top["groups"], "groups", None)
        return Lexicon(tuple(self._group(name, node) for name, node in groups.items()))

    def _group(self, name: str, node: Any) -> Group:
        fields = self._mapping(node, name, {"kind", "ask", "values"}, {"add"})
        kind = fields["kind"].value
        if kind not in ("number", "noun", "phrase"):
            self._fail(fields["kind"], f"{name}.kind is {kind!r}; give number, noun or phrase")
        for part in ("ask", "add"):
            if part in fields and str(fields[part].value).count("{}") != 1:
                self._fail(fields[part], f"{name}.{part} is {fields[part].value!r}; it needs one {{}} for the value")
        if not isinstance(fields["values"], yaml.SequenceNode) or len(fields["values"].value) < 2:
            self._fail(fields["values"], f"{name}.values must be a list of two values or more")
        values: list[tuple[str, ...]] = []
        seen: set[str] = set()
        plurals: dict[str, str] = {}
        for item in fields["values"].value:
            forms = [form.strip() for form in str(item.value).split("|")] if isinstance(item, yaml.ScalarNode) else []
            if not forms or not all(form.strip("/ ") for form in forms):
                self._fail(item, f"a value of {name} is not text; write its forms as: first form | other form")
            plurals |= {one.strip(): many.strip() for one, slash, many in (f.partition("/") for f in forms) if slash}
            forms = [form.partition("/")[0].strip() for form in forms]
            for form in forms:
                if form.lower() in seen:
                    self._fail(item, f"{name} has {form!r} twice; each form belongs to one value")
                seen.add(form.lower())
            values.append(tuple(forms))
        add = fields["add"].value if "add" in fields else None
        return Group(name=name, kind=kind, ask=fields["ask"].value, values=tuple(values), add=add, plurals=plurals)

    def _mapping(
        self, node: Any, what: str, needed: set[str] | None, allowed: set[str] = frozenset()  # type: ignore[assignment]
    ) -> dict[str, Any]:  # fmt: skip
        if not isinstance(node, yaml.MappingNode):
            self._fail(node, f"{what} must be a mapping of names to values")
        fields = {key.value: value for key, value in node.value}
        for key, _ in node.value:
            if needed is not None and key.value not in needed | allowed:
                self._fail(key, f"{what} has no field {key.value!r}; it has {', '.join(sorted(needed | allowed))}")
        for name in sorted((needed or set()) - set(fields)):
            self._fail(node, f"{what} lacks the field {name!r}")
        return fields

    def _fail(self, node: Any, why: str) -> NoReturn:
        raise SurdError(f"{_place(self._file, node.start_mark if node else None)}: {why}")


def _place(file: Path, mark: Any) -> str:
    where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return f"correct.lexicon {str(file)!r}{where}"
