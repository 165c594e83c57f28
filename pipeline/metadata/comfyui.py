"""ComfyUI API graphs: the prompts that reach the sampler, found by following the links backwards."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from surd.pipeline.untrusted_json import to_text

Side = Literal["positive", "negative"]

# Inputs that carry text, whatever the node: text, text_g, clip_l, t5xxl, string_1, prompt, value, on_true ...
_TEXT = re.compile(
    r"(text|string|prompt|value|clip_[lgh]|t5xxl|llama|positive|negative)([ _]?(prompt|[a-z0-9]{1,2}))?", re.IGNORECASE
)
# Inputs that lead to a picture or a latent: what a walk from the saved image to its sampler follows.
_PICTURE = re.compile(r"(images?|samples?|latents?|pixels|latent_image|video|any.*|input.*)(_?\w{1,6})?", re.IGNORECASE)
# Links that never lead from a sampler's conditioning to its text.
_NOT_TEXT = re.compile(
    r"(clip|clip_vision.*|.*model|vae|.*image|images|.*latent|samples|stage_c|control_?net|mask|pixels)"
)
#: Inputs that name the file a node loads; a LoRA's may be an object with a switch.
_LOADED = {
    "models": re.compile(r"(base_|refiner_)?(ckpt|unet)_name"),
    "loras": re.compile(r"lora(_name)?(_?\d{1,2})?"),
}


@dataclass(frozen=True, kw_only=True)
class GraphPrompt:
    """Both prompts of a graph, and the sampler's own settings with the names of models and LoRAs."""

    prompt: str | None
    negative_prompt: str | None
    params: dict[str, Any]


def is_graph(value: Any) -> bool:
    """Whether a JSON value looks like a ComfyUI API graph."""
    return isinstance(value, dict) and any(isinstance(node, dict) and "class_type" in node for node in value.values())


def read_graph(graph: dict[str, Any]) -> GraphPrompt | None:
    """The prompts of a graph, or None if it has no sampler.

    Of several samplers in a chain the first one counts, which starts from noise: it decides what the picture shows, and
    later ones refine it.
    """
    walk = _Walk(graph)
    sampler = walk.first_sampler()
    if sampler is None:
        return None
    inputs = walk.nodes[sampler]
    params: dict[str, Any] = {name: value for name, value in inputs.items() if isinstance(value, str | int | float)}
    for kind, names in _LOADED.items():
        values = (value for node in walk.nodes.values() for name, value in node.items() if names.fullmatch(name))
        loaded = [name for name in map(_file_name, values) if name]
        params |= {kind: list(dict.fromkeys(loaded))} if loaded else {}
    return GraphPrompt(
        prompt=walk.words(sampler, "positive"), negative_prompt=walk.words(sampler, "negative"), params=params
    )


def _file_name(value: Any) -> str | None:
    """The file that an input names; None if it names none or is switched off."""
    if isinstance(value, dict):
        value = value.get("lora") if value.get("on", True) else None
    return value if isinstance(value, str) and value.lower() not in ("", "none") else None


class _Walk:
    """A graph as node id -> inputs. Malformed nodes are left out."""

    def __init__(self, graph: dict[str, Any]) -> None:
        well_formed = {
            str(name): node
            for name, node in graph.items()
            if isinstance(node, dict) and isinstance(node.get("inputs"), dict)
        }
        self.nodes: dict[str, dict[str, Any]] = {name: node["inputs"] for name, node in well_formed.items()}
        self._types = {name: str(node.get("class_type", "")) for name, node in well_formed.items()}

    def first_sampler(self) -> str | None:
        """The sampler farthest upstream of the saved picture; if none leads to a picture, any sampler."""
        seen: set[str] = set()  # shared: no sampler lies upstream of what an earlier output has passed
        for output in self._outputs():
            reached = [node for node in self._upstream(output, seen) if self._is_sampler(node)]
            if reached:
                return reached[-1]
        return next((node for node in self.nodes if self._is_sampler(node)), None)

    def words(self, sampler: str, side: Side) -> str | None:
        """The distinct texts that feed one side of a sampler, joined as their nodes join them."""
        inputs = self.nodes[sampler]
        self._seen: set[str] = set()
        for name in (side, "text_embeds"):
            if (text := self._text(inputs.get(name), side, depth=0)) is not None:
                return _stored(text)
        for _, guider, _ in self._links({"": inputs.get("guider")}):
            one_sided = self.nodes[guider].get("conditioning") if side == "positive" else None
            return _stored(self._text(self.nodes[guider].get(side, one_sided), side, depth=0) or "")
        return None

    def _outputs(self) -> list[str]:
        """Nodes whose output no node reads; those that save before those that only show."""
        read = {target for inputs in self.nodes.values() for _, target, _ in self._links(inputs)}
        ends = [node for node in self.nodes if node not in read]
        return sorted(ends, key=lambda node: "save" not in self._types[node].lower())

    def _upstream(self, start: str, seen: set[str]) -> Iterator[str]:
        """Nodes upstream of a picture, nearest first; adds them to ``seen`` and skips those already there."""
        queue = deque([start])
        while queue:
            node = queue.popleft()
            yield node
            for name, target, _ in self._links(self.nodes[node]):
                if target not in seen and _PICTURE.fullmatch(name):
                    seen.add(target)
                    queue.append(target)

    def _is_sampler(self, node: str) -> bool:
        inputs = self.nodes[node]
        conditioned = any(name in inputs for name in ("positive", "guider", "text_embeds"))
        return conditioned and any(
            name in inputs for name in ("latent_image", "samples", "sampler_name", "noise_seed", "seed")
        )

    def _links(self, inputs: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
        """(input name, node it comes from, output slot there) of every link to a node that exists."""
        for name, value in inputs.items():
            match value:
                case [str() | int() as target, int() as slot] if str(target) in self.nodes:
                    yield name, str(target), slot

    def _text(self, value: Any, side: Side, depth: int) -> str | None:
        """The text of a literal, or of the node that a link leads to; None if it leads to no text."""
        if isinstance(value, str):
            return value
        link = next(self._links({"": value}), None)
        if link is None or link[1] in self._seen or depth > 200:
            return None
        _, node, slot = link
        self._seen.add(node)
        inputs = self.nodes[node]
        if all(isinstance(inputs.get(name), list) for name in ("positive", "negative")):
            side = "negative" if slot == 1 else "positive" if slot == 0 else side  # a node that passes both sides on
            return self._text(inputs[side], side, depth + 1)
        names = self._text_inputs(inputs, side)
        texts = [self._text(inputs[name], side, depth + 1) for name in names]
        distinct = list(dict.fromkeys(text for text in texts if text))
        delimiter = next(
            (inputs[name] for name in ("delimiter", "separator") if isinstance(inputs.get(name), str)), ", "
        )
        return delimiter.join(distinct) if any(text is not None for text in texts) else None

    def _text_inputs(self, inputs: dict[str, Any], side: Side) -> list[str]:
        """Which inputs to read: a switch's chosen branch, else the node's texts, else links that may lead to some."""
        if {"on_true", "on_false"} <= inputs.keys():
            chosen = next((value for value in inputs.values() if isinstance(value, bool)), True)
            return ["on_true" if chosen else "on_false"]
        if "populated_text" in inputs:
            return ["populated_text"]
        other = "positive" if side == "negative" else "negative"
        words = [name for name in inputs if _TEXT.fullmatch(name) and not name.startswith(other)]
        return words or [name for name, _, _ in self._links(inputs) if not _NOT_TEXT.fullmatch(name) and name != other]


def _stored(text: str) -> str | None:
    return to_text(text.strip()) or None
