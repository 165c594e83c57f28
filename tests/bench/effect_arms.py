"""What make bench-effect compares: every arm as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from sur_adapter.sampling.draw import computes_bfloat16

PRECISION = "bf16" if computes_bfloat16(torch.device("cpu")) else "no"
#: The adapter's settings that all trained arms share; an arm's own lie over them. Chosen on other prompts than those
#: reported (world 5100); the feed-forward layers are to the demo's text width what 2,048 is to Stable Diffusion's.
RECIPE: dict[str, Any] = {
    "batch_size": 16, "lr": 2e-3, "eta": 1.0, "w_prompt": 5.0, "feed_forward": 512, "lr_schedule": "cosine",
    "mixed_precision": PRECISION,
}  # fmt: skip
LAYERS = {"early": 5, "middle": 15, "last": 30}


Data = Literal["corrected", "not corrected", "one wording"]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """``training`` (None: the base model alone) lies over RECIPE, or alone; ``layer``: of the LLM; ``data``: which
    simple prompts; ``trial``: another way to train, run only when asked for."""

    name: str
    training: Mapping[str, Any] | None = None
    recipe: bool = True
    prompts: Literal["narrative", "complex", "rewritten"] = "narrative"
    layer: int = LAYERS["middle"]
    data: Data = "corrected"
    trial: bool = False
    says: str = field(default="", compare=False)

    @property
    def slug(self) -> str:
        """The name as a file may bear it."""
        return "-".join("".join(letter if letter.isalnum() else " " for letter in self.name.lower()).split())


AS_THEY_WEIGH = {"w_denoise": 0.0, "w_llm": 1e-5, "w_prompt": 1e-5}
CEILING, FLOOR, OURS = "base, complex prompts", "base", "ours"
ARMS = (
    Arm(name=CEILING, prompts="complex", says="the ceiling: what the base model was trained on"),
    Arm(name=FLOOR, says="the floor: narrative prompts, no adapter"),
    Arm(name=OURS, training={}, says="all three losses, corrected data in varied wording, the LLM's middle layer"),
    Arm(name="no LLM distillation", training={"w_llm": 0.0}),
    Arm(name="no prompt alignment", training={"w_prompt": 0.0}),
    Arm(name="no denoising", training={"w_denoise": 0.0}),
    # At one prompt a batch, as they trained, their attention across the batch is attention to oneself. Their denoising
    # loss teaches the adapter nothing, so it is not computed.
    Arm(name="authors' objective", training={"objective": "authors", "attention_axis": "self", **AS_THEY_WEIGH},
        says="their losses and network, with our learning rate, strength, steps and batch"),
    Arm(name="authors' settings", training={"objective": "authors", "w_denoise": 0.0}, recipe=False,
        says="all as they did it: 5,000 steps of 4 prompts, learning rate 1e-5, strength 0.1"),
    Arm(name="LLM layer, early", training={}, layer=LAYERS["early"]),
    Arm(name="LLM layer, last", training={}, layer=LAYERS["last"]),
    Arm(name="data not corrected", training={}, data="not corrected"),
    Arm(name="data of one wording", training={}, data="one wording",
        says="simple prompts as the captioner words them, all alike"),
    Arm(name="LLM rewrite, no adapter", prompts="rewritten",
        says="the LLM turns each narrative prompt into keywords, at inference"),
    Arm(name="trial: strength 0.5", training={"eta": 0.5}, trial=True),
    Arm(name="trial: strength 0.1", training={"eta": 0.1}, trial=True, says="the paper's strength"),
    Arm(name="trial: KL reversed", training={"kl_direction": "reverse"}, trial=True),
    Arm(name="trial: temperature 4", training={"kl_temperature": 4.0}, trial=True),
    Arm(name="trial: LLM tokens", training={"llm_targets": "tokens"}, trial=True,
        says="each token meets the LLM's state at its own place"),
    Arm(name="trial: more alignment", training={"w_prompt": 20.0}, trial=True),
    Arm(name="trial: min-SNR", training={"min_snr_gamma": 5.0}, trial=True),
)  # fmt: skip
