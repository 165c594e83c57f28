"""Which samplers made the picture that a ComfyUI graph saved, found by following pictures backwards."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice, product
from typing import Any, TypeAlias

from surd.pipeline.metadata.comfyui.graph import Graph, Node, Place, Unknown

#: Samplers that together made one picture, each a part of it. Of one picture there may be several such readings.
Makers: TypeAlias = tuple[Node, ...]

# Inputs with a picture or a latent, by the names that nodes use.
_PICTURE = re.compile(
    r"(.*_)?(images?|samples?|latents?|pixels|frames?|video|any.*|input.*|value.*|destination|source)(_?\w{1,6})?",
    re.IGNORECASE,
)
# Inputs that bring no picture, whatever the node.
_NO_PICTURE = re.compile(
    r"(.*_)?(model|clip|vae|positive|negative|conditioning|control_?net|mask|text|prompt|string|guider|noise|sigmas)"
    r"(_?\d{1,3})?",
    re.IGNORECASE,
)
_TEXT = frozenset(("prompt", "positive", "text", "positive_prompt", "prompt_text"))
_MOST_READINGS, _DEEPEST = 8, 150


class Pictures:
    """The samplers behind the pictures of a graph; of a chain, the first one, which starts from noise.

    It decides what the picture shows; later ones refine it.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._readings: dict[tuple[str, bool], frozenset[Makers]] = {}
        #: Nodes that gave a picture of which no sampler is known.
        self.sources: dict[str, Node] = {}

    def saved(self) -> list[Makers]:
        """The readings of the picture that the file is; more than one if the file does not tell which it is."""
        read = {origin.id for node in self._graph.nodes.values() for _, origin in self._graph.links(node)}
        ends: tuple[list[Node], ...] = ([], [], [])
        for node in self._graph.nodes.values():
            if _saves(node):
                ends[0].append(node)
            elif node.id not in read and not (node.entry and node.entry.saves is False):
                ends[2 if _is_sampler(node) else 1].append(node)
        for candidates in ends:  # those that save, then those that only show, then samplers that nothing reads
            if readings := self._union(self._of(node, 0) for node in candidates):
                return sorted(readings, key=_order)
        return []

    def _behind(self, source: Any, part: str | None, depth: int) -> frozenset[Makers]:
        place = self._graph.follow(source, part)
        if isinstance(place, Unknown) and place.why == "choice":  # whichever it was: they may agree
            return self._union(self._of(origin, depth) for _, origin in self._graph.links(place.node))
        if not isinstance(place, Place):
            return frozenset()
        return self._of(place.node, depth, place.rule.composes if place.rule is not None else None)

    def _of(self, node: Node, depth: int, parts: tuple[str, ...] | None = None) -> frozenset[Makers]:
        """The readings of a node's picture; ``parts``: the inputs of which it is composed."""
        key = node.id, bool(parts)
        if key not in self._readings:
            self._readings[key] = frozenset()  # a circle adds nothing
            if depth < _DEEPEST:
                made = self._composed(node, parts, depth + 1) if parts else self._made_by(node, depth + 1)
                self._readings[key] = made
        return self._readings[key]

    def _made_by(self, node: Node, depth: int) -> frozenset[Makers]:
        if _is_sampler(node):
            before = self._before(node, depth)
            denoise = node.inputs.get("denoise")
            starts_from_noise = isinstance(denoise, int | float) and denoise >= 1
            return before | {(node,)} if starts_from_noise or not before else before
        behind = self._union(self._behind(node.inputs[name], None, depth) for name in self._picture_inputs(node))
        if not behind and node.entry is None and not _TEXT.isdisjoint(node.inputs):
            return frozenset({(node,)})  # it takes a text and gives a picture: it may be a generator
        if not behind:
            self.sources[node.id] = node
        return behind

    def _before(self, sampler: Node, depth: int) -> frozenset[Makers]:
        """The samplers of the picture that a sampler goes on with."""
        assert sampler.entry is not None, "a sampler is in the table, or looks like one that is"
        names = sampler.entry.samples or ()
        before = [self._behind(sampler.inputs.get(name), None, depth) for name in names]
        if sampler.entry.over is not None or sampler.entry.bundle:
            for part in ("latent", "image"):
                given = sampler.entry.bundle.get(part)
                if given is not None and given.passes and sampler.inputs.get(given.passes) is not None:
                    before.append(self._behind(sampler.inputs[given.passes], None, depth))
                elif sampler.entry.over is not None and sampler.entry.over.passes:
                    before.append(self._behind(sampler.inputs.get(sampler.entry.over.passes), part, depth))
        return self._union(before)

    def _composed(self, node: Node, names: Iterable[str], depth: int) -> frozenset[Makers]:
        """Pictures that are all parts of a new one: the makers of all, in any of their readings."""
        parts = [self._behind(node.inputs.get(name), None, depth) for name in self._graph.names(node, names)]
        joined = product(*(sorted(part, key=_order) for part in parts if part))
        made = (tuple(dict.fromkeys(one for makers in combination for one in makers)) for combination in joined)
        return frozenset(makers for makers in islice(made, _MOST_READINGS) if makers)

    def _picture_inputs(self, node: Node) -> list[str]:
        linked = [name for name, _ in self._graph.links(node)]
        if node.entry is not None and node.entry.pictures is not None:
            return [name for name in node.entry.pictures if name in linked]
        pictures = [name for name in linked if _PICTURE.fullmatch(name) and not _NO_PICTURE.fullmatch(name)]
        return pictures or [name for name in linked if not _NO_PICTURE.fullmatch(name)]

    def _union(self, readings: Iterable[frozenset[Makers]]) -> frozenset[Makers]:
        together: set[Makers] = set()
        for one in readings:
            together |= one
            if len(together) > _MOST_READINGS:
                break
        return frozenset(together)


def _order(makers: Makers) -> list[str]:
    return [node.id for node in makers]


def _is_sampler(node: Node) -> bool:
    return node.entry is not None and node.entry.samples is not None


def _saves(node: Node) -> bool:
    if node.entry is not None and node.entry.saves is not None:
        return node.entry.saves
    if _is_sampler(node):  # some save what they sample
        return "Save" in str(node.inputs.get("image_output", ""))
    return "save" in node.name.lower()
