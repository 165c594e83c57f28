"""Training of the judge: a classifier of every fact a picture shows, on a demo world of its own.

Nothing else is trained with it or against it, and it shares no training seed with any other model.
"""

import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn.functional import avg_pool2d, cross_entropy
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from surd.pipeline.demo.training import checkpoint
from surd.pipeline.demo.training.checkpoint import MODELS
from surd.pipeline.demo.training.train_eye import patch_labels
from surd.pipeline.demo.world.dataset import SIZE, batches, normalised, pictures, pixels
from surd.pipeline.demo.world.fact_space import GROUPS, NOTHING, STARTS, indices
from surd.pipeline.demo.world.scenes import Scene, scene
from surd.pipeline.demo.world.sprites import names

log = logging.getLogger(__name__)
FOLDER = MODELS / "judge"
JUDGE_SEED, JUDGE_HELD_OUT_SEED = 3000, 4000
SCENES, BATCH, RATE = 80_000, 128, 1e-3
RATE_FURTHER = 4e-4
MEAN = STD = (0.5, 0.5, 0.5)
LABELS = {
    STARTS[group] + place: f"{group}:{value}" for group in GROUPS for place, value in enumerate(GROUPS[group].values)
}


def build() -> Any:
    """The untrained classifier: 64x64 pixels in, one logit per fact out; facts of a group exclude each other."""
    torch.manual_seed(3)
    settings: dict[str, Any] = {
        "image_size": SIZE, "patch_size": 8, "hidden_size": 192, "num_hidden_layers": 6, "num_attention_heads": 3,
        "intermediate_size": 768, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        "num_labels": NOTHING, "id2label": LABELS, "label2id": {label: place for place, label in LABELS.items()},
        "attn_implementation": "eager", "problem_type": "multi_label_classification",
    }  # fmt: skip
    return ViTForImageClassification(ViTConfig(**settings))


class _JudgeWithPatchHead(torch.nn.Module):
    """The judge, and a head that classifies what every patch shows: a far stronger signal per picture."""

    def __init__(self) -> None:
        super().__init__()
        self.judge = build()
        self.patch_head = torch.nn.Linear(192, 1 + len(names()))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        states = self.judge.vit(images).last_hidden_state
        return self.judge.classifier(states[:, 0]), self.patch_head(states[:, 1:])


@torch.no_grad()
def augmented(images: torch.Tensor, generator: torch.Generator, vae: Any) -> torch.Tensor:
    """Half of the pictures slightly noisy, some slightly blurred, and a third decoded by the autoencoder `vae` from
    slightly wrong latents: generated pictures are never as crisp as rendered ones."""
    images = images.clone()
    third = len(images) // 3
    latents = vae.encode(images[:third]).latent_dist.mean
    off = 0.15 * torch.rand(third, 1, 1, 1, generator=generator)
    images[:third] = vae.decode(latents + off * torch.randn(latents.shape, generator=generator)).sample.clamp(-1, 1)
    noisy = torch.rand(len(images), generator=generator) < 0.5
    images[noisy] += 0.12 * torch.rand(1).item() * torch.randn(images[noisy].shape, generator=generator)
    soft = torch.rand(len(images), generator=generator) < 0.3
    images[soft] = avg_pool2d(images[soft], 3, 1, 1, count_include_pad=False)
    return images


def loss(logits: torch.Tensor, facts: list[dict[str, int]]) -> torch.Tensor:
    """Cross-entropy within every group of facts that a scene has one of, summed over groups."""
    total = logits.new_zeros(())
    for name, group in GROUPS.items():
        rows = [(row, has[name]) for row, has in enumerate(facts) if name in has]
        if rows:
            places, right = torch.tensor(rows).T
            scores = logits[places, STARTS[name] : STARTS[name] + len(group.values)]
            total = total + cross_entropy(scores, right, reduction="sum") / len(facts)
    return total


def load() -> Any:
    """The embedded judge."""
    return ViTForImageClassification.from_pretrained(FOLDER, dtype=torch.float32).eval()


@torch.inference_mode()
def shares(judge: Any, images: np.ndarray, scenes: list[Scene]) -> dict[str, float]:
    """Per group of facts, the share of `images` (uint8 [N, 64, 64, 3]) in which the judge recognises the fact of
    their scene, among scenes that have one; "all": every fact at once."""
    parts = (normalised(images[at : at + 250], MEAN, STD) for at in range(0, len(images), 250))
    logits = torch.cat([judge(part).logits for part in parts])
    hits: dict[str, list[bool]] = {"all": []}
    for row, one in enumerate(scenes):
        right = []
        for name, index in indices(one).items():
            start = STARTS[name]
            right.append(int(logits[row, start : start + len(GROUPS[name].values)].argmax()) == index)
            hits.setdefault(name, []).append(right[-1])
        hits["all"].append(all(right))
    return {name: round(sum(of) / len(of), 4) for name, of in hits.items()}


def accuracy(judge: Any, count: int, seed: int = JUDGE_HELD_OUT_SEED) -> dict[str, float]:
    """`shares` on held-out renders."""
    judge.eval()
    scenes = [scene(seed, index) for index in range(count)]
    right = shares(judge, pixels(scenes), scenes)
    judge.train()
    return right


def train(work: Path, steps: int, stop: float, further: bool = False) -> None:
    """Train to `steps` steps or `stop` seconds, whichever comes first, from the last checkpoint if there is one, or
    from the embedded judge's weights if `further`."""
    network = _JudgeWithPatchHead()
    before, rate = (checkpoint.trainings(FOLDER), RATE_FURTHER) if further else ([], RATE)
    if further:
        network.judge.load_state_dict(load().state_dict())
    vae: Any = AutoencoderKL.from_pretrained(MODELS / "diffusion" / "vae").eval()
    decayed = [p for p in network.parameters() if p.ndim >= 2]
    others = [p for p in network.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))
    path = work / "judge.safetensors"
    first, extra = checkpoint.resume(path, network, optimizer)
    table = pictures(work, JUDGE_SEED, SCENES)
    fast = torch.compile(network)
    clock = checkpoint.TrainingClock(float(extra.get("seconds", 0)))
    generator = torch.Generator().manual_seed(first)
    for step, rows in batches(JUDGE_SEED, SCENES, BATCH, first):
        done = max(step / steps, clock.seconds / stop)
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 150) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        scenes = [scene(JUDGE_SEED, index) for index in rows]
        images = augmented(normalised(np.asarray(table[rows]), MEAN, STD), generator, vae)
        with checkpoint.fast_computing():
            logits, patches = fast(images)
        facts = loss(logits.float(), [indices(one) for one in scenes])
        what = cross_entropy(patches.flatten(0, 1).float(), torch.tensor([patch_labels(s) for s in scenes]).flatten())
        optimizer.zero_grad()
        (facts + 2 * what).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            log.info("step %d, facts %.3f, patches %.3f, %.0f s", step, facts.item(), what.item(), clock.seconds)
        if step % 250 == 249:
            checkpoint.save(path, step + 1, network, optimizer, seconds=torch.tensor(clock.seconds))
        if step % 500 == 499:
            log.info("right after %d: %s", step + 1, accuracy(network.judge, 500))
    checkpoint.save(path, step, network, optimizer, seconds=torch.tensor(clock.seconds))
    run = {"steps": step, "batch": BATCH, "minutes": round(clock.seconds / 60)}
    export(network.judge, [*before, run])


def export(judge: Any, runs: list[dict[str, int]]) -> None:
    """Write the judge's folder anew, in fp16, with its accuracy on held-out renders in config and card."""
    right = accuracy(judge, 2000)
    log.info("right at the end, %s: %s", checkpoint.describe(runs), right)
    judge.config.accuracy = right
    processor = ViTImageProcessor(
        size={"height": SIZE, "width": SIZE}, image_mean=list(MEAN), image_std=list(STD), resample=3
    )

    def write(folder: Path) -> None:
        judge.half().save_pretrained(folder)
        processor.save_pretrained(folder)
        (folder / "README.md").write_text(card(right, runs))
        (folder / "trainings.json").write_text(json.dumps(runs) + "\n")

    checkpoint.export(FOLDER, write)


def card(right: dict[str, float], runs: list[dict[str, int]]) -> str:
    """The model card, from what was measured."""
    rows = "".join(f"| {name} | {share:.4f} |\n" for name, share in right.items())
    return f"""# The judge of the demo world
A ViT (64x64 pixels, patches of 8, 2.7 M weights, fp16) with one logit a fact (`group:value`); within a group the
largest counts. It reads what a generated picture shows; no use outside the demo world.

- **Train it**: `python -m surd.pipeline.demo.train judge` (`--further` goes on from what lies here). {SCENES:,} renders
  of seed {JUDGE_SEED}, half of them made noisy or soft and a third taken through the embedded autoencoder, on one CPU
  core: {checkpoint.describe(runs)}.
- **Independent**: no other model has seen its seed, and none is trained against it.
- **Licence**: Apache-2.0; the pictures come from Noto Color Emoji (OFL-1.1).

Right on 2,000 held-out renders (seed {JUDGE_HELD_OUT_SEED}), among those that have a fact of the group:

| facts | right |
|---|---|
{rows}"""
