"""ComfyUI graphs: the prompts of the picture that a graph saved, or the node to which it is owed that they are unknown.

What each node class does with text is a table; text that passes through a node outside the table is never guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from surd.pipeline.metadata.comfyui.graph import Graph, Node, Unknown
from surd.pipeline.metadata.comfyui.pictures import Makers, Pictures
from surd.pipeline.metadata.comfyui.texts import GraphTexts, Prompts
from surd.pipeline.metadata.comfyui.workflow import api_graph, is_workflow, kept_texts
from surd.pipeline.untrusted_json import to_text

__all__ = ["GraphPrompt", "api_graph", "is_graph", "is_workflow", "read_graph"]

#: Inputs that name the file a node loads; a LoRA's may be an object with a switch.
_LOADED = {
    "models": re.compile(r"(base_|refiner_)?(ckpt|unet)_name"),
    "loras": re.compile(r"lora(_name)?(_?\d{1,2})?"),
}


@dataclass(frozen=True, kw_only=True)
class GraphPrompt:
    """Both prompts of a graph, and the sampler's own settings with the names of models and LoRAs.

    ``reason`` is one sentence that says why there is no prompt, and names the node to which that is owed.
    """

    prompt: str | None
    negative_prompt: str | None
    params: dict[str, Any]
    reason: str | None = None


def is_graph(value: Any) -> bool:
    """Whether a JSON value looks like a ComfyUI API graph."""
    return isinstance(value, dict) and any(isinstance(node, dict) and "class_type" in node for node in value.values())


def read_graph(graph: dict[str, Any], drawn: dict[str, Any] | None = None) -> GraphPrompt | None:
    """The prompts of a graph that was executed, or None if it has no nodes. ``drawn``: the editor's workflow of it.

    Of several samplers in a chain the first one counts. Where the file does not tell which of several pictures it is,
    and they were made from different texts, there is no prompt.
    """
    nodes = Graph(graph)
    if not nodes.nodes:
        return None
    loaded, pictures = _loaded(nodes), Pictures(nodes)
    readings = pictures.saved()
    if not readings:
        return GraphPrompt(prompt=None, negative_prompt=None, params=loaded, reason=_no_sampler(pictures))
    texts = GraphTexts(nodes, lambda: kept_texts(drawn) if drawn else {})
    prompts, reason = _agreed(texts, readings, "positive")
    negative, _ = _agreed(texts, readings, "negative")
    inputs = readings[0][0].inputs
    settings: dict[str, Any] = {name: value for name, value in inputs.items() if isinstance(value, str | int | float)}
    return GraphPrompt(
        prompt=_stored(prompts), negative_prompt=_stored(negative), params=settings | loaded, reason=reason
    )


def _agreed(texts: GraphTexts, readings: list[Makers], side: str) -> tuple[Prompts, str | None]:
    """The texts of one side if all readings of the picture agree on them, else a sentence that says why not."""
    found = [texts.of(makers, side) for makers in readings]
    first = found[0]
    for makers, other in zip(readings, found, strict=True):
        if other != first:
            one, two = readings[0][0].label(), makers[0].label()
            return Prompts(), f"the file does not say whether {one} or {two} made the picture, and their prompts differ"
    if isinstance(first, Unknown):
        return Prompts(), first.sentence()
    return first, None if first else f"no text reaches the {side} side of {readings[0][0].label()}"


def _no_sampler(pictures: Pictures) -> str:
    sources = list(pictures.sources.values())
    unlisted: list[Node] = [node for node in sources if node.entry is None]
    for node in unlisted or sources:
        return f"{node.label()} gives the picture, and surd knows no sampler behind it"
    return "no node of the ComfyUI graph gives a picture"


def _loaded(graph: Graph) -> dict[str, Any]:
    """The names of models and LoRAs that nodes load."""
    params: dict[str, Any] = {}
    for kind, names in _LOADED.items():
        values = (
            value for node in graph.nodes.values() for name, value in node.inputs.items() if names.fullmatch(name)
        )
        loaded = [name for name in map(_file_name, values) if name]
        params |= {kind: list(dict.fromkeys(loaded))} if loaded else {}
    return params


def _file_name(value: Any) -> str | None:
    """The file that an input names; None if it names none or is switched off."""
    if isinstance(value, dict):
        value = value.get("lora") if value.get("on", True) else None
    return value if isinstance(value, str) and value.lower() not in ("", "none") else None


def _stored(prompts: Prompts) -> str | None:
    return (to_text(", ".join(prompts)) or "").strip() or None
