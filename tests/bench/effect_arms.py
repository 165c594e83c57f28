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


LLM = Literal["smollm2", "random", "text encoder"]
Data = Literal["corrected", "not corrected", "one wording", "people"]
#: How an arm's pipeline is made: trained on the data (the adapter, or LoRA on a part of the base model); the base model
#: given prompts that compel weighs or that the LLM has rewritten; None: the base model alone.
Kind = Literal["adapter", "lora-unet", "lora-text", "compel", "rewritten"]
TRAINED = ("adapter", "lora-unet", "lora-text")


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One row of the table.

    ``training`` overrides RECIPE, or stands alone without ``recipe``; given without ``kind``, it trains the adapter.
    ``data``: on what. The LLM column of a training is ``column``, as its name ends (``l15``, ``l15-tokens``,
    ``all-layers``; empty: of ``layer``, by tokens if they are the targets), made by the LLM, by one of ``random``
    weights; ``text encoder``: none is, the base model's own is read at every step; ``llm`` None: a training that reads
    none. ``weights``: about how many LoRA trains. ``trial``: run with
    --trials only.
    """

    name: str
    kind: Kind | None = None
    training: Mapping[str, Any] | None = None
    recipe: bool = True
    prompts: Literal["narrative", "complex"] = "narrative"
    layer: int = LAYERS["middle"]
    column: str = ""
    llm: LLM | None = "smollm2"
    weights: int = 0
    data: Data = "corrected"
    trial: bool = False
    note: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.kind is None and self.training is not None:
            object.__setattr__(self, "kind", "adapter")
        trained = self.kind in TRAINED
        if trained != (self.training is not None) or (self.weights > 0) != (self.kind in TRAINED[1:]):
            raise ValueError(
                f"arm {self.name!r}: a trained kind needs training, LoRA a number of weights, and no other kind either"
            )

    @property
    def slug(self) -> str:
        """The name, fit for a file."""
        return "-".join("".join(letter if letter.isalnum() else " " for letter in self.name.lower()).split())

    def column_suffix(self, training: Mapping[str, Any]) -> str | None:
        """How the name of the LLM column ends that a training with these settings reads; None: it reads none."""
        distils = training.get("w_llm") != 0 or training.get("llm_role", "distil") != "distil"
        if self.kind != "adapter" or self.llm in (None, "text encoder") or not distils:
            return None
        return self.column or f"l{self.layer}" + ("-tokens" if training.get("llm_targets") == "tokens" else "")


@dataclass(frozen=True)
class Comparison:
    """Two arms whose difference has a row of its own, or a goal: at least ``goal`` on tier ``tier``."""

    arm: str
    other: str
    tier: str = ""
    goal: float = 0.0


AUTHORS_WEIGHTS = {"w_denoise": 0.0, "w_llm": 1e-5, "w_prompt": 1e-5}
#: About as many weights as the adapter that distils (988,480), and more than the 665,600 that the demo's
#: cross-attention has; an adapter that attaches has up to 2.8 million. The losses are those that LoRA can have. The
#: learning rates are the best of 3e-4, 1e-3 and 3e-3 (aligned: 3e-4, 1e-3 and 2e-3) by the loss after 30 to 40
#: steps.
LORA: dict[str, Any] = {"w_llm": 0.0, "w_prompt": 0.0}
LORA_WEIGHTS = 1_000_000
CEILING, FLOOR, OURS = "base, complex prompts", "base", "ours"
ATTACH, ATTACH_NO_LLM, ATTACH_RANDOM = "attach", "attach, no LLM", "attach, random LLM"
ATTACH_MLP, ATTACH_NO_TIMESTEP, ATTACH_MIDDLE = "attach, MLP", "attach, no timestep", "attach, middle layer"
TRANSLATE, TRANSLATE_TEXT, TRANSLATE_RANDOM = "translate", "translate, no LLM", "translate, random LLM"
BOTH, DISTIL, COMPEL = "attach and distil", "distil", "prompt weighting"
LORA_UNET, LORA_TEXT = "LoRA, cross-attention", "LoRA, text encoder"
LORA_TEXT_ALIGNED = "LoRA, text encoder, aligned"
ATTACHED: dict[str, Any] = {"llm_role": "attach"}
TRANSLATED: dict[str, Any] = {"llm_role": "translate"}
ARMS = (
    Arm(name=CEILING, prompts="complex", note="the ceiling: what the base model was trained on"),
    Arm(name=FLOOR, note="the floor: narrative prompts, no adapter"),
    Arm(name=TRANSLATE, training=TRANSLATED, recipe=False, column="all-layers", data="people",
        note="the adapter reads the LLM, mean over all layers, and writes a keyword prompt, with the defaults of that"
        " role: 1,000 steps of 32 sentences, without pictures"),
    Arm(name=TRANSLATE_TEXT, training=TRANSLATED, recipe=False, column="all-layers", llm="text encoder", data="people",
        note="the same, reading the base model's own text encoder in the place of the LLM"),
    Arm(name=TRANSLATE_RANDOM, training=TRANSLATED, recipe=False, column="all-layers", llm="random", data="people",
        note="the same, reading an LLM of random weights, of the same shapes and tokenizer"),
    Arm(name=ATTACH, training=ATTACHED, column="all-layers", data="people",
        note="the adapter reads the LLM: resampler with timestep, mean over all layers"),
    Arm(name=ATTACH_NO_LLM, training={"w_llm": 0.0}, llm=None, data="people",
        note="the same adapter on the same data, without an LLM"),
    Arm(name=ATTACH_RANDOM, training=ATTACHED, column="all-layers", llm="random", data="people",
        note="the same with an LLM of random weights, of the same shapes and tokenizer"),
    Arm(name=ATTACH_MLP, training=ATTACHED | {"connector": "mlp"}, column="all-layers", data="people"),
    Arm(name=ATTACH_NO_TIMESTEP, training=ATTACHED | {"connector": "resampler"}, column="all-layers", data="people"),
    Arm(name=ATTACH_MIDDLE, training=ATTACHED, column="l15-tokens", data="people"),
    Arm(name=BOTH, training=ATTACHED | {"llm_role": "both"}, column="all-layers", data="people",
        note="the LLM is read and distilled"),
    Arm(name=DISTIL, training={}, column="l15", data="people", note="the LLM is distilled alone"),
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
    Arm(name="LLM rewrite, no adapter", kind="rewritten",
        note="the LLM turns each narrative prompt into keywords, at inference"),
    Arm(name=COMPEL, kind="compel",
        note="the base model; the prompt's nouns, numbers, adjectives and verbs weighed by 1.25, as compel's users do"),
    Arm(name=LORA_UNET, kind="lora-unet", training=LORA | {"lr": 1e-3}, weights=LORA_WEIGHTS, data="people",
        note="LoRA on the UNet's cross-attention, trained on the same data for the same steps"),
    Arm(name=LORA_TEXT, kind="lora-text", training=LORA | {"lr": 3e-4}, weights=LORA_WEIGHTS, data="people",
        note="LoRA on the text encoder, trained on the same data for the same steps"),
    Arm(name=LORA_TEXT_ALIGNED, kind="lora-text", training=LORA | {"w_prompt": 5.0}, weights=LORA_WEIGHTS,
        data="people", note="the same, with the adapter's prompt alignment beside the denoising loss"),
    Arm(name="trial: strength 0.5", training={"eta": 0.5}, trial=True),
    Arm(name="trial: strength 0.1", training={"eta": 0.1}, trial=True, note="the paper's strength"),
    Arm(name="trial: KL reversed", training={"kl_direction": "reverse"}, trial=True),
    Arm(name="trial: temperature 4", training={"kl_temperature": 4.0}, trial=True),
    Arm(name="trial: LLM tokens", training={"llm_targets": "tokens"}, trial=True,
        note="each token meets the LLM's state at its own place"),
    Arm(name="trial: more alignment", training={"w_prompt": 20.0}, trial=True),
    Arm(name="trial: min-SNR", training={"min_snr_gamma": 5.0}, trial=True),
)  # fmt: skip
#: Rows of the table of differences; those whose arms were not run are left out.
COMPARISONS = (
    Comparison(OURS, "no LLM distillation"),
    Comparison(TRANSLATE, FLOOR),
    Comparison(TRANSLATE, TRANSLATE_TEXT),
    Comparison(TRANSLATE, TRANSLATE_RANDOM),
    Comparison(TRANSLATE, ATTACH),
    Comparison(TRANSLATE, ATTACH_NO_LLM),
    Comparison(ATTACH, FLOOR),
    Comparison(ATTACH, ATTACH_NO_LLM),
    Comparison(ATTACH, ATTACH_RANDOM),
    Comparison(ATTACH, ATTACH_NO_TIMESTEP),
    Comparison(ATTACH_NO_TIMESTEP, ATTACH_MLP),
    Comparison(ATTACH, ATTACH_MIDDLE),
    Comparison(ATTACH, BOTH),
    Comparison(ATTACH, DISTIL),
    Comparison(ATTACH, OURS),
    Comparison(ATTACH, LORA_UNET),
    Comparison(ATTACH, LORA_TEXT),
    Comparison(ATTACH, LORA_TEXT_ALIGNED),
    Comparison(COMPEL, FLOOR),
)
#: In the mean of action, colour, counting and subject.
GOALS = (
    Comparison(TRANSLATE, FLOOR, "c", 0.25),
    Comparison(TRANSLATE, TRANSLATE_TEXT, "c", 0.12),
    Comparison(TRANSLATE, ATTACH_NO_LLM, "c", 0.12),
    Comparison(TRANSLATE, TRANSLATE_RANDOM, "c", 0.10),
    Comparison(TRANSLATE, FLOOR, "b", 0.20),
)
