"""Embedding space of the demo CLIP: one direction for each fact a scene can have, all orthogonal.

Picture and text of a scene have the same target, the sum of the directions of their facts; the target of a text that
leaves a fact out is the sum of the others. So two sentences that differ in one fact always differ in their score.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from surd.pipeline.demo.world.prompts import CLAUSES
from surd.pipeline.demo.world.scenes import ACTIONS, BACKGROUNDS, STYLES, SUBJECTS, TINTABLE, TINTS, Scene

WIDTH = 192


@dataclass(frozen=True)
class FactGroup:
    """Facts that exclude each other, the weight of one in the sum, and the clause that states it (see prompts)."""

    values: tuple[object, ...]
    weight: float
    clause: str


GROUPS: dict[str, FactGroup] = {
    "subject": FactGroup((*SUBJECTS, *TINTABLE), 1.0, "what"),
    "count": FactGroup((1, 2, 3, 4, 5), 0.8, "count"),
    "tint": FactGroup(TINTS, 0.8, "tint"),
    "action": FactGroup(tuple(ACTIONS), 1.0, "what"),
    "first": FactGroup(tuple(SUBJECTS), 0.7, "what"),
    "second": FactGroup(tuple(SUBJECTS), 0.7, "what"),
    "axis": FactGroup(("across", "down"), 0.7, "what"),
    "background": FactGroup(tuple(BACKGROUNDS), 0.7, "background"),
    "style": FactGroup(tuple(style for style in STYLES if style != "none"), 0.7, "style"),
}
#: Index of each group's first direction; the very last direction is "says nothing about any scene".
STARTS: dict[str, int] = {}
for _name, _group in GROUPS.items():
    STARTS[_name] = sum(len(GROUPS[earlier].values) for earlier in STARTS)
NOTHING = sum(len(group.values) for group in GROUPS.values())


def labels(scene: Scene) -> dict[str, object]:
    """Group -> the scene's value in it, where it has one. `first` is the thing on the left or on top."""
    facts: dict[str, object] = {"background": scene.background}
    if scene.style != "none":
        facts["style"] = scene.style
    if scene.relation:
        ahead = scene.relation in ("left of", "above")
        facts["first"], facts["second"] = (scene.subject, scene.other) if ahead else (scene.other, scene.subject)
        facts["axis"] = "across" if scene.relation in ("left of", "right of") else "down"
        return facts
    facts["count"] = scene.count
    if scene.action:
        return facts | {"action": scene.action}
    return facts | {"subject": scene.subject} | ({"tint": scene.tint} if scene.tint else {})


def indices(scene: Scene) -> dict[str, int]:
    """Group -> index of the scene's value within it, where it has one."""
    return {name: GROUPS[name].values.index(value) for name, value in labels(scene).items()}


@lru_cache(maxsize=1)
def directions() -> torch.Tensor:
    """Orthonormal rows, [facts + 1, 192]; the last is NOTHING."""
    basis, _ = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(0)))
    return basis[: NOTHING + 1].contiguous()


def target(scene: Scene | None, clauses: tuple[str, ...] = CLAUSES) -> torch.Tensor:
    """The unit vector [192] for a picture of `scene`, or a text stating these clauses of it; None: NOTHING."""
    basis = directions()
    if scene is None:
        return basis[NOTHING]
    total = torch.zeros(WIDTH)
    for name, index in indices(scene).items():
        group = GROUPS[name]
        if group.clause in clauses:
            total += group.weight * basis[STARTS[name] + index]
            if name in ("first", "second"):  # both things are in the picture, wherever they are placed
                total += 0.4 * basis[STARTS["subject"] + index]
    return torch.nn.functional.normalize(total, dim=0) if total.any() else basis[NOTHING]


def loss(embeddings_BD: torch.Tensor, scenes: list[Scene | None], clauses: list[tuple[str, ...]]) -> torch.Tensor:
    """How far embeddings are from their targets: the angle, plus cross-entropy within each group of facts stated."""
    targets = torch.stack([target(one, stated) for one, stated in zip(scenes, clauses, strict=True)])
    unit = torch.nn.functional.normalize(embeddings_BD.float(), dim=-1)
    total = 2 * (1 - (unit * targets).sum(-1)).mean()
    scores = 20 * unit @ directions().T
    for name, group in GROUPS.items():
        rows = [
            (row, indices(one)[name])
            for row, (one, stated) in enumerate(zip(scenes, clauses, strict=True))
            if one is not None and group.clause in stated and name in labels(one)
        ]
        if rows:
            places, right = torch.tensor(rows).T
            start = STARTS[name]
            total = total + torch.nn.functional.cross_entropy(
                scores[places, start : start + len(group.values)], right, reduction="sum"
            ) / len(scenes)
    return total
