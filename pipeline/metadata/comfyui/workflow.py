"""ComfyUI workflows, as the editor saves them, converted to the API graphs they run, with subgraphs unfolded."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from surd.pipeline.metadata.comfyui.editor_node import api_inputs, has_unnamed, kept_text, sockets_of, widgets_of

_FROM_OUTSIDE, _TO_OUTSIDE = -10, -20  # what a subgraph's links call its own inputs and outputs
_MUTED, _BYPASSED = 2, 4
# Nodes of the editor alone: what one of them sets under a name, another one gets anywhere else.
_SETTERS, _GETTERS = ("SetNode", "easy setNode"), ("GetNode", "easy getNode")
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


def kept_texts(workflow: dict[str, Any]) -> dict[str, str]:
    """Node id -> the text that a node which shows text kept when the workflow ran."""
    nodes = api_graph(workflow)
    texts = {id: kept_text(node["class_type"], node["inputs"]) for id, node in nodes.items()}
    return {id: text for id, text in texts.items() if text}


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
        self._links: dict[Any, tuple[Any, Any, Any]] = {}  # id -> the node and slot it comes from, its type
        self._outputs: dict[Any, Any] = {}  # slot -> id of the link that leads out
        for link in graph["links"]:
            match link:
                case [int() as id, int() | str() as origin, int() as slot, *rest]:
                    self._links[id] = origin, slot, rest[2] if len(rest) > 2 else None
                case {"id": int() as id, "origin_id": int() | str() as origin, "origin_slot": int() as slot}:
                    self._links[id] = origin, slot, link.get("type")
                    if link.get("target_id") == _TO_OUTSIDE:
                        self._outputs[link.get("target_slot")] = id
        self._broadcast = _broadcast_links(graph)
        self._inner: dict[str, _Level] = {}

    def unfold(self) -> None:
        for name, node in self._nodes.items():
            subgraph = self._subgraphs.get(str(node.get("type")))
            if subgraph is not None and self._level < _DEEPEST and next(self._unfolded) < _MOST_SUBGRAPHS:
                self._inner[name] = _Level(
                    subgraph, self._subgraphs, self._result, f"{self._prefix}{name}:", (self, node)
                )
        for name, inner in self._inner.items():
            if self._nodes[name].get("mode") not in (_MUTED, _BYPASSED):
                inner.unfold()
        for name, node in self._nodes.items():
            runs = name not in self._inner and node.get("mode") not in (_MUTED, _BYPASSED)
            if runs and len(self._result) < _MOST_NODES:
                sources = {
                    str(socket["name"]): self._source(socket.get("link"))
                    if socket.get("link") is not None
                    else self._broadcast.get((name, index))
                    for index, socket in enumerate(sockets_of(node))
                }
                is_partial = has_unnamed(node)  # then a socket without a link is told from a widget without a name
                linked = {key: value for key, value in sources.items() if value is not None or is_partial}
                kind = str(node.get("type", ""))
                self._result[self._prefix + name] = {
                    "class_type": kind,
                    "inputs": api_inputs(node) | linked,
                    **({"is_partial": True} if is_partial else {}),
                }

    def _source(self, link: Any, depth: int = 0) -> Any:
        """The source of a link: [node, slot] of the unfolded graph, a widget's value from outside, or None."""
        if not isinstance(link, int) or link not in self._links or depth > 50:
            return None
        origin, slot, type = self._links[link]
        if origin == _FROM_OUTSIDE:
            return self._from_outside(slot, depth + 1)
        name, node = str(origin), self._nodes.get(str(origin), {})
        if node.get("mode") == _MUTED:
            return None
        if node.get("mode") == _BYPASSED:
            return self._source(_through(node, slot, type), depth + 1)
        if name in self._inner:
            inner = self._inner[name]
            return inner._source(inner._outputs.get(slot), depth + 1)
        if node.get("type") in _GETTERS and (found := self._setter(node)) is not None:
            level, setter = found
            return level._source(next((socket.get("link") for socket in sockets_of(setter)), None), depth + 1)
        return [self._prefix + name, slot]

    def _setter(self, getter: dict[str, Any]) -> tuple[_Level, dict[str, Any]] | None:
        """The one node that sets the name which this node gets, here or around; None if there is none, or several."""
        level: _Level | None = self
        while level is not None:
            setters = [
                node
                for node in level._nodes.values()
                if node.get("type") in _SETTERS and _first_widget(node) == _first_widget(getter) is not None
            ]
            if setters:
                return (level, setters[0]) if len(setters) == 1 else None
            level = level._around[0] if level._around else None
        return None

    def _from_outside(self, slot: int, depth: int) -> Any:
        """The input of the node that represents this subgraph, at one of its sockets."""
        if self._around is None:
            return None
        level, node = self._around
        socket = next(iter(sockets_of(node)[slot : slot + 1]), {}) if slot >= 0 else {}
        linked = level._source(socket.get("link"), depth)
        return widgets_of(node).get(str(socket.get("name"))) if linked is None else linked


def _first_widget(node: dict[str, Any]) -> str | None:
    values = node.get("widgets_values")
    return values[0] if isinstance(values, list) and values and isinstance(values[0], str) else None


def _through(node: dict[str, Any], slot: Any, type: Any) -> Any:
    """The link that a bypassed node passes on at an output: as the editor does it, the first of the same type, the
    input of the same number before all others. Where a file does not name types, the first one that is connected."""
    sockets = sockets_of(node)
    if type is None or all(socket.get("type") is None for socket in sockets):
        return next((socket["link"] for socket in sockets if socket.get("link") is not None), None)
    ordered = (sockets[slot : slot + 1] if isinstance(slot, int) and slot >= 0 else []) + sockets
    return next((socket.get("link") for socket in ordered if socket.get("type") in (type, "*")), None)


def _broadcast_links(graph: dict[str, Any]) -> dict[tuple[str, int], Any]:
    """(node, socket) -> source of the links that Anything Everywhere adds when a workflow is run."""
    extra = graph.get("extra")
    links = extra.get("ue_links") if isinstance(extra, dict) else None
    found: dict[tuple[str, int], Any] = {}
    for link in links if isinstance(links, list) else ():
        match link:
            case {"downstream": int() | str() as target, "downstream_slot": int() as socket,
                  "upstream": int() | str() as origin, "upstream_slot": int() as slot}:  # fmt: skip
                found[str(target), socket] = [str(origin), slot]
    return found
