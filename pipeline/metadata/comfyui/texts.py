"""Texts of a ComfyUI graph: what reaches an input, made as the nodes on the way make it, or why that is unknown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from surd.pipeline.metadata.comfyui import computed
from surd.pipeline.metadata.comfyui.graph import Graph, Node, Place, Scalar, Unknown
from surd.pipeline.metadata.comfyui.table import Rule

_MOST_LETTERS = 2_000_000  # of all texts that one graph makes on its way


class Prompts(tuple[str, ...]):
    """Conditioning: the distinct texts in it, none if they were wiped."""

    __slots__ = ()


Value: TypeAlias = Scalar | Prompts | Unknown | None


class GraphTexts:
    """The values of a graph's links. ``kept``: node id -> the text that a node shows, as the editor saved it."""

    def __init__(self, graph: Graph, kept: Callable[[], dict[str, str]] = dict) -> None:
        self._graph, self._kept = graph, kept
        self._made: dict[tuple[str, int, str | None], Value] = {}
        self._letters = 0

    def value(self, source: Any, part: str | None = None, depth: int = 0) -> Value:
        """What a link, or a literal, gives; None if it gives nothing."""
        return self._at(self._graph.follow(source, part, depth), depth)

    def of(self, samplers: Iterable[Node], side: str) -> Prompts | Unknown:
        """The texts that reach one side, ``positive`` or ``negative``, of samplers that made one picture together."""
        return self._prompts([self._side(sampler, side) for sampler in samplers])

    def _side(self, sampler: Node, side: str) -> Value:
        if sampler.entry is None:
            return Unknown(node=sampler, why="unlisted")
        return self.value([sampler.id, 0], side)

    def _at(self, place: Place | Unknown | Scalar | None, depth: int) -> Value:
        if not isinstance(place, Place):
            return place
        if place.rule is None:
            return Unknown(node=place.node, why="unlisted")
        key = (place.node.id, place.slot, place.part or str(id(place.rule)))
        if key not in self._made:
            self._made[key] = None  # a circle leads to nothing
            self._made[key] = self._bounded(place.node, self._make(place.node, place.rule, depth + 1))
        return self._made[key]

    def _bounded(self, node: Node, value: Value) -> Value:
        letters = sum(map(len, value)) if isinstance(value, Prompts) else len(value) if isinstance(value, str) else 0
        self._letters += letters
        too_much = letters > computed.MAX_LETTERS or self._letters > _MOST_LETTERS
        return Unknown(node=node, why="too_much") if too_much else value

    def _make(self, node: Node, rule: Rule, depth: int) -> Value:
        match rule.kind:
            case "encodes":
                return self._prompts(self._inputs(node, rule.encodes, rule, depth))
            case "combines":
                return self._prompts(self._inputs(node, rule.combines, rule, depth))
            case "joins":
                return self._joined(node, rule, depth)
            case "replaces":
                return self._replaced(node, rule, depth)
            case "computes":
                return self._computed(node, rule, depth)
            case "keeps":
                return self._shown(node, rule, depth)
            case "wipes":
                return Prompts()
            case "unrecorded":
                return Unknown(node=node, why="unrecorded")
        return Unknown(node=node, why="unlisted")  # a picture

    def _inputs(self, node: Node, names: Iterable[str] | None, rule: Rule, depth: int) -> list[Value]:
        return [
            Unknown(node=node, why="unnamed") if node.lacks(name) else self.value(node.inputs.get(name), None, depth)
            for name in self._graph.names(node, names or (), rule.count)
        ]

    def _prompts(self, values: list[Value]) -> Prompts | Unknown:
        """All texts of some conditionings or texts, each once; unknown if one of them is."""
        texts: list[str] = []
        for value in values:
            if isinstance(value, Unknown):
                return value
            texts += value if isinstance(value, Prompts) else [_text(value)]
        return Prompts(dict.fromkeys(text.strip() for text in texts if text.strip()))

    def _joined(self, node: Node, rule: Rule, depth: int) -> Value:
        values = self._inputs(node, rule.joins, rule, depth)
        separator = self.value(node.inputs.get(rule.by), None, depth) if rule.by else None
        separator = rule.separator if separator is None else separator
        for value in (*values, separator):
            if isinstance(value, Unknown):
                return value
        between = _text(separator).replace("\\n", "\n") if rule.unescape else _text(separator)
        strips = rule.strip and node.inputs.get("clean_whitespace", "true") in ("true", True)
        texts = [_text(value).strip() if strips else _text(value) for value in values]
        texts = [text for text in texts if text] if rule.drop_empty else texts
        if sum(map(len, texts)) + len(between) * len(texts) > computed.MAX_LETTERS:
            return Unknown(node=node, why="too_much")
        return between.join(texts)

    def _replaced(self, node: Node, rule: Rule, depth: int) -> Value:
        text = self.value(node.inputs.get(rule.replaces or ""), None, depth)
        for pair in rule.pairs:
            if isinstance(text, Unknown):
                return text
            find, by = (self.value(node.inputs.get(name), None, depth) for name in pair)
            for value in (find, by):
                if isinstance(value, Unknown):
                    return value
            if find is not None:
                result = computed.replaced(_text(text), _text(find), _text(by))
                text = Unknown(node=node, why="too_much") if result is None else result
        return text

    def _computed(self, node: Node, rule: Rule, depth: int) -> Value:
        values = self._inputs(node, rule.of, rule, depth)
        if rule.computes in ("average", "mix"):
            return self._mixed(node, rule.computes, values)
        for value in values:
            if isinstance(value, Unknown):
                return value
        given = [None if isinstance(value, Prompts) else value for value in values]
        while given and given[-1] is None:
            given.pop()
        if not given or given[0] is None:
            return None
        function = getattr(computed, rule.computes or "")
        result: str | None = function(_text(given[0]), *given[1:])
        return Unknown(node=node, why="unrecorded") if result is None else result

    def _mixed(self, node: Node, how: str, values: list[Value]) -> Value:
        """Core's average and Comfyroll's mixer: of two conditionings both take effect, unless one has no weight."""
        if how == "mix":
            second, first, method, strength = values
            averages = method == "Average"
        else:
            first, second, strength = values
            averages = True
        if averages and isinstance(strength, int | float) and strength >= 1:
            return self._prompts([first])
        if averages and isinstance(strength, int | float) and strength <= 0:
            return self._prompts([second])
        return self._prompts([second, first] if how == "mix" else [first, second])

    def _shown(self, node: Node, rule: Rule, depth: int) -> Value:
        """What a node that shows text passes on. What it kept may be of the run before, so it counts only where the
        text itself is unknown; what the editor saved with the file is of this run."""
        sources = [node.inputs[name] for name in rule.of if name in node.inputs]
        value = self.value(sources[0], None, depth) if sources else None
        if not (isinstance(value, Unknown) or (value is None and not sources)):
            return value
        names = self._graph.names(node, rule.keeps or ())
        kept = [text for name in names if isinstance(text := node.inputs.get(name), str) and text.strip()]
        return self._kept().get(node.id) or (kept[0] if len(set(kept)) == 1 else value)


def _text(value: Value) -> str:
    """A value as text: numbers are written as Python writes them."""
    return ", ".join(value) if isinstance(value, Prompts) else "" if value is None else str(value)
