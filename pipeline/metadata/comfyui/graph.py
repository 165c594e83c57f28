"""A ComfyUI graph, and where a link leads: through every node that only passes on or chooses, to the one that makes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from surd.pipeline.metadata.comfyui.table import Entry, Rule, node_table, numbered
from surd.pipeline.untrusted_json import to_text

Scalar: TypeAlias = str | int | float | bool
_MOST_STEPS = 20_000  # the real graphs in the tests, of up to 46 nodes, take 33 at most
_SAMPLER = Entry(bundle={"positive": Rule(passes="positive"), "negative": Rule(passes="negative")},
                 samples=("latent_image", "latent", "latents", "samples", "image", "images"))  # fmt: skip
_SETTINGS = frozenset(("seed", "noise_seed", "steps", "cfg", "sampler_name", "sampler", "sigmas"))


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Node:
    """A node of a graph; ``entry`` is None for a class that the table does not list."""

    id: str
    name: str
    inputs: dict[str, Any]
    entry: Entry | None
    is_partial: bool = False  #: It has values of which neither the file nor the table tells the names.

    def lacks(self, name: str) -> bool:
        """Whether the node has a value for this input, but it cannot be told which."""
        return self.is_partial and name not in self.inputs

    def label(self) -> str:
        """The node as a message names it."""
        return f"{to_text(self.name[:100]) or 'a node without a class'} (node {to_text(self.id[:40])})"


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """A value that the file does not tell, and the node to which that is owed."""

    node: Node
    why: Literal["unlisted", "unrecorded", "unnamed", "choice", "too_much"]

    def sentence(self) -> str:
        """What a person is told."""
        return (
            self.node.label()
            + {
                "unlisted": " is a ComfyUI node of which surd does not know what text it gives",
                "unrecorded": " makes text of its own, which the file does not record",
                "unnamed": " has values of which neither the file nor surd's table says what they are",
                "choice": " chooses by a value that the file does not record",
                "too_much": " makes more text, or takes more steps, than is read",
            }[self.why]
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a link leads. ``rule`` says how the value is made; None: the table does not say."""

    node: Node
    slot: int
    part: str | None
    rule: Rule | None


class Graph:
    """Nodes by id. Malformed nodes are left out."""

    def __init__(self, graph: dict[str, Any]) -> None:
        table = node_table()
        self.nodes: dict[str, Node] = {}
        for id, node in graph.items():
            if isinstance(node, dict) and isinstance(inputs := node.get("inputs"), dict):
                name = str(node.get("class_type", ""))
                entry = table.get(name) or (_SAMPLER if _is_sampler(inputs) else None)
                self.nodes[str(id)] = Node(
                    id=str(id), name=name, inputs=inputs, entry=entry, is_partial=bool(node.get("is_partial"))
                )
        self._steps = 0
        self._valued: dict[tuple[str, int], bool] = {}

    def link(self, value: Any) -> tuple[Node, int] | None:
        """The node and output slot that a value links to; None if it is no link to a node that exists."""
        match value:
            case [str() | int() as target, int() as slot] if (node := self.nodes.get(str(target))) is not None:
                return node, slot
        return None

    def links(self, node: Node) -> Iterator[tuple[str, Node]]:
        """(input, node it comes from) of every link of a node."""
        for name, value in node.inputs.items():
            if (link := self.link(value)) is not None:
                yield name, link[0]

    def follow(self, source: Any, part: str | None = None, depth: int = 0) -> Place | Unknown | Scalar | None:
        """Where a value comes from, or the literal that it is; of a bundle, its ``part``. None: from nowhere."""
        seen: set[tuple[str, int, str | None]] = set()
        while (link := self.link(source)) is not None:
            node, slot = link
            self._steps += 1
            if (key := (node.id, slot, part)) in seen:
                return None
            if self._steps > _MOST_STEPS or depth > 60:
                return Unknown(node=node, why="too_much")
            seen.add(key)
            step = self._step(node, slot, part, depth)
            if not isinstance(step, _Onward):
                return step
            source, part = step.source, step.part
        return source if isinstance(source, Scalar) and part is None else None

    def _step(self, node: Node, slot: int, part: str | None, depth: int) -> _Onward | Place | Unknown | Scalar | None:
        entry = node.entry
        if entry is None:
            return Place(node=node, slot=slot, part=part, rule=None)
        if part is None and 0 <= slot < len(entry.slots) and entry.slots[slot] != "self":
            part = entry.slots[slot]
        if entry.samples is not None and part in (None, "latent", "image"):
            return Place(node=node, slot=slot, part=None, rule=None)
        if part is None or not (entry.bundle or entry.over):
            return self._by_rule(node, slot, part, entry.out.get(slot), depth)
        given = entry.bundle.get(part)
        if given is not None and (found := self._by_rule(node, slot, None, given, depth)) is not None:
            if not isinstance(found, _Onward):
                return found
            if entry.over is None:
                return found
            value = self.follow(found.source, None, depth + 1)
            if value is not None and value != "":
                return value
        return self._by_rule(node, slot, part, entry.over, depth) if entry.over else None

    def _by_rule(
        self, node: Node, slot: int, part: str | None, rule: Rule | None, depth: int
    ) -> _Onward | Place | Unknown | Scalar | None:
        """One step through a rule that passes on or chooses; otherwise the place where the value is made."""
        if rule is not None and rule.when is not None:
            name, values = rule.when
            if node.inputs.get(name) not in values:
                return Unknown(node=node, why="unrecorded")
        if rule is None:
            return Place(node=node, slot=slot, part=part, rule=None)
        if rule.passes:
            if node.lacks(rule.passes):
                return Unknown(node=node, why="unnamed")
            return _Onward(node.inputs.get(rule.passes), part)
        if rule.chooses:
            return self._choice(node, part, rule, depth)
        if rule.first_of:
            given = [node.inputs[name] for name in self.names(node, rule.first_of) if node.inputs.get(name) is not None]
            for source in given:
                if source is given[-1] or self._has_value(source, depth):
                    return _Onward(source, part)
            return None
        if rule.merges:
            for name in reversed(self.names(node, rule.merges)):
                if (value := self.follow(node.inputs[name], part, depth + 1)) is not None:
                    return value
            return None
        return Place(node=node, slot=slot, part=part, rule=rule)

    def _choice(self, node: Node, part: str | None, rule: Rule, depth: int) -> _Onward | Unknown:
        assert rule.by is not None, "the table says by what it chooses"
        if node.lacks(rule.by):
            return Unknown(node=node, why="choice")
        given = node.inputs.get(rule.by)
        value = rule.default if given is None else self.follow(given, None, depth + 1)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(rule.chooses, str):
            if not isinstance(value, int):
                return Unknown(node=node, why="choice")
            return _Onward(node.inputs.get(rule.chooses.replace("{}", str(int(value)))), part)
        choices = rule.chooses or {}
        if any(key is True for key in choices) and isinstance(value, int):  # a number for true or false
            value = bool(value)
        if not isinstance(value, str | int) or (value not in choices and "else" not in choices):
            return Unknown(node=node, why="choice")
        name = choices[value] if value in choices else choices["else"]
        others = [other for other in choices.values() if other != name and other in node.inputs]
        if rule.lenient and name not in node.inputs and len(others) == 1:
            name = others[0]
        return _Onward(node.inputs.get(name), part)

    def names(self, node: Node, names: Iterable[str], count: str | None = None) -> list[str]:
        """The inputs of a node that a rule names, in their order; ``count`` names the input that limits them."""
        listed = [one for name in names for one in (numbered(name, node.inputs) if "{}" in name else [name])]
        most = node.inputs.get(count) if count else None
        return listed[:most] if isinstance(most, int) and most > 0 else listed

    def _has_value(self, source: Any, depth: int) -> bool:
        """Whether a switch that takes the first value takes this one; a context counts if it is connected."""
        if (link := self.link(source)) is None:
            return isinstance(source, Scalar)
        node, slot = link
        if (key := (node.id, slot)) not in self._valued:
            self._valued[key] = True  # of a circle
            self._valued[key] = depth > 60 or self._gives_value(node, slot, depth + 1)
        return self._valued[key]

    def _gives_value(self, node: Node, slot: int, depth: int) -> bool:
        entry = node.entry
        if entry is None or entry.samples is not None:
            return True
        if entry.bundle or entry.over:
            return next(self.links(node), None) is not None or not entry.over
        rule = entry.out.get(slot)
        if rule is not None and rule.chooses:
            chosen = self._choice(node, None, rule, depth)
            return isinstance(chosen, Unknown) or self._has_value(chosen.source, depth)
        names = (
            self.names(node, rule.first_of or (rule.passes or "",)) if rule and (rule.first_of or rule.passes) else []
        )
        return not names or any(self._has_value(node.inputs.get(name), depth) for name in names)


@dataclass(frozen=True, slots=True)
class _Onward:
    """A node that hands on what comes from ``source``."""

    source: Any
    part: str | None


def _is_sampler(inputs: dict[str, Any]) -> bool:
    """Whether a node that the table does not list has all that makes a sampler, by the names that all samplers use."""
    return (
        isinstance(inputs.get("positive"), list)
        and isinstance(inputs.get("negative"), list)
        and not _SETTINGS.isdisjoint(inputs)
        and any(isinstance(inputs.get(name), list) for name in _SAMPLER.samples or ())
    )
