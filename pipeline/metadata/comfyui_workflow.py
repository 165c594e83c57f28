"""ComfyUI workflows, as the editor saves them, converted to the API graphs they run, with subgraphs unfolded."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

_FROM_OUTSIDE, _TO_OUTSIDE = -10, -20  # what a subgraph's links call its own inputs and outputs
_MUTED, _BYPASSED = 2, 4
_DEEPEST, _MOST_SUBGRAPHS, _MOST_NODES = 8, 500, 5_000


def is_workflow(value: Any) -> bool:
    """Whether a JSON value looks like a workflow of the editor."""
    return isinstance(value, dict) and isinstance(value.get("nodes"), list) and isinstance(value.get("links"), list)


def api_graph(workflow: dict[str, Any]) -> dict[str, Any]:
    """Node id -> class and inputs; a node in a subgraph is called ``outer:inner``. Malformed nodes are left out."""
    definitions = workflow.get("definitions")
    subgraphs = definitions.get("subgraphs") if isinstance(definitions, dict) else None
    valid = (graph for graph in subgraphs or () if is_workflow(graph) and isinstance(graph.get("id"), str))
    result: dict[str, Any] = {}
    _Level(workflow, {graph["id"]: graph for graph in valid}, result).unfold()
    return result


class _Level:
    """The nodes and links of a workflow, or of a subgraph as one node of the level around it uses it."""

    def __init__(
        self, graph: dict[str, Any], subgraphs: dict[str, Any], result: dict[str, Any], prefix: str = "",
        around: tuple[_Level, dict[str, Any]] | None = None,
    ) -> None:  # fmt: skip
        self._subgraphs, self._prefix, self._around, self._result = subgraphs, prefix, around, result
        self._level: int = around[0]._level + 1 if around else 0
        self._unfolded: Iterator[int] = around[0]._unfolded if around else count()
        self._nodes = {str(node["id"]): node for node in graph["nodes"] if isinstance(node, dict) and "id" in node}
        self._links: dict[Any, tuple[Any, Any]] = {}  # id -> the node and slot it comes from
        self._outputs: dict[Any, Any] = {}  # slot -> id of the link that leads out
        for link in graph["links"]:
            match link:
                case [int() as id, int() | str() as origin, int() as slot, *_]:
                    self._links[id] = origin, slot
                case {"id": int() as id, "origin_id": int() | str() as origin, "origin_slot": int() as slot}:
                    self._links[id] = origin, slot
                    if link.get("target_id") == _TO_OUTSIDE:
                        self._outputs[link.get("target_slot")] = id
        self._inner: dict[str, _Level] = {}

    def unfold(self) -> None:
        for name, node in self._nodes.items():
            subgraph = self._subgraphs.get(str(node.get("type")))
            if subgraph is not None and self._level < _DEEPEST and next(self._unfolded) < _MOST_SUBGRAPHS:
                self._inner[name] = _Level(
                    subgraph, self._subgraphs, self._result, f"{self._prefix}{name}:", (self, node)
                )
        for inner in self._inner.values():
            inner.unfold()
        for name, node in self._nodes.items():
            if (
                name not in self._inner
                and node.get("mode") not in (_MUTED, _BYPASSED)
                and len(self._result) < _MOST_NODES
            ):
                sources = {str(socket["name"]): self._source(socket.get("link")) for socket in _sockets(node)}
                linked = {key: value for key, value in sources.items() if value is not None}
                inputs = _widgets(node) | linked
                self._result[self._prefix + name] = {"class_type": str(node.get("type", "")), "inputs": inputs}

    def _source(self, link: Any, depth: int = 0) -> Any:
        """The source of a link: [node, slot] of the unfolded graph, a widget's value from outside, or None."""
        if not isinstance(link, int) or link not in self._links or depth > 50:
            return None
        origin, slot = self._links[link]
        if origin == _FROM_OUTSIDE:
            return self._from_outside(slot, depth + 1)
        name, node = str(origin), self._nodes.get(str(origin), {})
        if name in self._inner:
            inner = self._inner[name]
            return inner._source(inner._outputs.get(slot), depth + 1)
        if node.get("mode") == _BYPASSED:
            through = next((socket for socket in _sockets(node) if socket.get("link") is not None), {})
            return self._source(through.get("link"), depth + 1)
        return [self._prefix + name, slot]

    def _from_outside(self, slot: int, depth: int) -> Any:
        """The input of the node that represents this subgraph, at one of its sockets."""
        if self._around is None:
            return None
        level, node = self._around
        socket = next(iter(_sockets(node)[slot : slot + 1]), {}) if slot >= 0 else {}
        linked = level._source(socket.get("link"), depth)
        return _widgets(node).get(str(socket.get("name"))) if linked is None else linked


def _sockets(node: dict[str, Any]) -> list[dict[str, Any]]:
    sockets = node.get("inputs")
    return [one for one in sockets if isinstance(one, dict) and "name" in one] if isinstance(sockets, list) else []


def _widgets(node: dict[str, Any]) -> dict[str, Any]:
    """The widget values of a node, by name if they are named; else its texts, unless it is a sampler."""
    values, sockets = node.get("widgets_values"), _sockets(node)
    if isinstance(values, dict):
        return values
    if not isinstance(values, list):
        return {}
    named = [str(socket["name"]) for socket in sockets if socket.get("widget")]
    if len(named) == len(values):
        return dict(zip(named, values, strict=True))
    if any(socket["name"] == "positive" for socket in sockets):
        return {}
    texts = [value for value in values if isinstance(value, str)]
    return {f"text_{number}" if number else "text": text for number, text in enumerate(texts[:9])}
