"""The arms that make bench-effect compares, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from surd.pretrained.precision import computes_bfloat16

PRECISION = "bf16" if computes_bfloat16(torch.device("cpu")) else "no"
#: The adapter's settings that all trained arms share; an arm's own override them. Chosen on other prompts than those
#: reported (world 5100); the feed-forward layers are to the demo's text width what 2,048 is to Stable Diffusion's.
RECIPE: dict[str, Any] = {
    "batch_size": 16, "lr": 2e-3, "eta": 1.0, "w_prompt": 5.0, "feed_forward": 512, "lr_schedule": "cosine",
    "mixed_precision": PRECISION,
}  # fmt: skip
LAYERS = {"early": 5, "middle": 15, "last": 30}


Data = Literal["corrected", "not corrected", "one wording"]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """``training`` (None: the base model alone) overrides RECIPE, or stands alone without ``recipe``; ``layer``: of the
    LLM; ``data``: which simple prompts; ``trial``: another way to train, run with --trials only."""

    name: str
    training: Mapping[str, Any] | None = None
    recipe: bool = True
    prompts: Literal["narrative", "complex", "rewritten"] = "narrative"
    layer: int = LAYERS["middle"]
    data: Data = "corrected"
    trial: bool = False
    note: str = field(default="", compare=False)

    @property
    def slug(self) -> str:
        """The name, fit for a file."""
        return "-".join("".join(letter if letter.isalnum() else " " for letter in self.name.lower()).split())


AUTHORS_WEIGHTS = {"w_denoise": 0.0, "w_llm": 1e-5, "w_prompt": 1e-5}
CEILING, FLOOR, OURS = "base, complex prompts", "base", "ours"
ARMS = (
    Arm(name=CEILING, prompts="complex", note="the ceiling: what the base model was trained on"),
    Arm(name=FLOOR, note="the floor: narrative prompts, no adapter"),
    Arm(name=OURS, training={}, note="all three losses, corrected data in varied wording, the LLM's middle layer"),
    Arm(name="no LLM distillation", training={"w_llm": 0.0}),
    Arm(name="no prompt alignment", training={"w_prompt": 0.0}),
    Arm(name="no denoising", training={"w_denoise": 0.0}),
    # With batches of one prompt, as they trained, their attention across the batch is self-attention. Their denoising
    # loss does not reach the adapter, so it is not computed.
    Arm(name="authors' objective", training={"objective": "authors", "attention_axis": "self", **AUTHORS_WEIGHTS},
        note="their losses and network, with our learning rate, strength, steps and batch"),
    Arm(name="authors' settings", training={"objective": "authors", "w_denoise": 0.0}, recipe=False,
        note="all as they did it: 5,000 steps of 4 prompts, learning rate 1e-5, strength 0.1"),
    Arm(name="LLM layer, early", training={}, layer=LAYERS["early"]),
    Arm(name="LLM layer, last", training={}, layer=LAYERS["last"]),
    Arm(name="data not corrected", training={}, data="not corrected"),
    Arm(name="data of one wording", training={}, data="one wording",
        note="simple prompts as the captioner words them, all alike"),
    Arm(name="LLM rewrite, no adapter", prompts="rewritten",
        note="the LLM turns each narrative prompt into keywords, at inference"),
    Arm(name="trial: strength 0.5", training={"eta": 0.5}, trial=True),
    Arm(name="trial: strength 0.1", training={"eta": 0.1}, trial=True, note="the paper's strength"),
    Arm(name="trial: KL reversed", training={"kl_direction": "reverse"}, trial=True),
    Arm(name="trial: temperature 4", training={"kl_temperature": 4.0}, trial=True),
    Arm(name="trial: LLM tokens", training={"llm_targets": "tokens"}, trial=True,
        note="each token meets the LLM's state at its own place"),
    Arm(name="trial: more alignment", training={"w_prompt": 20.0}, trial=True),
    Arm(name="trial: min-SNR", training={"min_snr_gamma": 5.0}, trial=True),
)  # fmt: skip
