"""Training of the vision tower that the embedded CLIP and captioner share."""

import logging
import math
import random
from functools import lru_cache
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch.nn.functional import cross_entropy

from surd.pipeline.demo.training import checkpoint
from surd.pipeline.demo.training.train_clip import MEAN, MODEL_CFG, STD
from surd.pipeline.demo.world import fact_space
from surd.pipeline.demo.world.dataset import HELD_OUT_SEED, TRAIN_SEED, batches, normalised, pictures, pixels
from surd.pipeline.demo.world.prompts import CLAUSES
from surd.pipeline.demo.world.render import CANVAS, places
from surd.pipeline.demo.world.scenes import Scene, scene
from surd.pipeline.demo.world.sprites import names

log = logging.getLogger(__name__)
SCENES, BATCH, RATE = 150_000, 128, 1e-3
PATCH = MODEL_CFG["vision_cfg"]["patch_size"] * CANVAS // MODEL_CFG["vision_cfg"]["image_size"]
GRID = CANVAS // PATCH


def build() -> Any:
    """The untrained tower; its output is (embedding [B, 192], patches [B, 64, 192])."""
    torch.manual_seed(0)
    eye: Any = open_clip.model.CLIP(**MODEL_CFG).visual
    eye.output_tokens = True
    return eye


@lru_cache(maxsize=1)
def _classes() -> dict[str, int]:
    return {name: number for number, name in enumerate(names(), 1)}


def patch_labels(one: Scene) -> list[int]:
    """What each patch shows, row by row: 1 + the sprite's number, 0 the background."""
    labels = [0] * (GRID * GRID)
    for name, side, x, y in places(one, random.Random(one.layout)):
        reach = side / 2 - PATCH / 4
        for row in range(GRID):
            for column in range(GRID):
                if abs((column + 0.5) * PATCH - x) < reach and abs((row + 0.5) * PATCH - y) < reach:
                    labels[row * GRID + column] = _classes()[name]
    return labels


@torch.inference_mode()
def facts_right(eye: Any, count: int) -> dict[str, float]:
    """Per group of facts, the share of held-out pictures that have one whose embedding ranks it first; "all": every
    fact at once."""
    eye.eval()
    scenes = [scene(HELD_OUT_SEED, index) for index in range(count)]
    images = torch.cat([eye(normalised(pixels(scenes[at : at + 250]), MEAN, STD))[0] for at in range(0, count, 250)])
    scores = images @ fact_space.directions().T
    hits: dict[str, list[bool]] = {"all": []}
    for row, one in enumerate(scenes):
        right = []
        for name, index in fact_space.indices(one).items():
            start = fact_space.STARTS[name]
            best = int(scores[row, start : start + len(fact_space.GROUPS[name].values)].argmax())
            right.append(best == index)
            hits.setdefault(name, []).append(best == index)
        hits["all"].append(all(right))
    eye.train()
    return {name: round(sum(of) / len(of), 3) for name, of in hits.items()}


def train(work: Path, steps: int, stop: float) -> None:
    """Train to `steps` steps or `stop` seconds, whichever comes first, from the last checkpoint if there is one."""
    eye, patch_head = build(), torch.nn.Linear(MODEL_CFG["vision_cfg"]["width"], 1 + len(names()))
    both = torch.nn.ModuleDict({"eye": eye, "patch_head": patch_head})
    decayed = [p for p in both.parameters() if p.ndim >= 2]
    others = [p for p in both.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98))
    path = work / "eye.safetensors"
    first, extra = checkpoint.resume(path, both, optimizer)
    table = pictures(work, TRAIN_SEED, SCENES)
    fast = torch.compile(eye)
    clock = checkpoint.TrainingClock(float(extra.get("seconds", 0)))
    for step, indices in batches(TRAIN_SEED, SCENES, BATCH, first):
        # The schedule follows the budget of which more is used up.
        done = max(step / steps, clock.seconds / stop)
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 150) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        scenes = [scene(TRAIN_SEED, index) for index in indices]
        with checkpoint.fast_computing():
            embeddings, patches = fast(normalised(table[indices], MEAN, STD))
            patch_logits = patch_head(patches)
        facts = fact_space.loss(embeddings, list(scenes), [CLAUSES] * len(scenes))
        labels = torch.tensor([patch_labels(one) for one in scenes])
        what = cross_entropy(patch_logits.flatten(0, 1).float(), labels.flatten())
        optimizer.zero_grad()
        (facts + what).backward()
        torch.nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            log.info("step %d, facts %.3f, patches %.3f, %.0f s", step, facts.item(), what.item(), clock.seconds)
        if step % 250 == 249:
            checkpoint.save(path, step + 1, both, optimizer, seconds=torch.tensor(clock.seconds))
        if step % 500 == 499:
            log.info("facts right after %d: %s", step + 1, facts_right(eye, 500))
    checkpoint.save(path, step, both, optimizer, seconds=torch.tensor(clock.seconds))
    log.info("facts right at the end, %d steps: %s", step, facts_right(eye, 2000))
