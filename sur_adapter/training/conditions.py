"""Inputs of the objective for a batch: latents and text states, read from columns or computed here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sur_adapter.base_model import (
    Pipeline,
    added_conditions,
    backbone,
    check_attachable,
    encode_images,
    encode_prompts,
    encoded_width,
    image_size,
    load_base,
    pooled_width,
    text_width,
)
from sur_adapter.data.batch import Batch
from sur_adapter.data.shard_dataset import ShardDataset
from sur_adapter.training.config import TrainConfig
from sur_adapter.training.llm_source import llm_source
from sur_adapter.translator import PromptTokens
from surd.pretrained.text_states import TextStates
from surd.schemas.errors import SurdError
from surd.schemas.manifest import ColumnManifest

Columns = Mapping[str, ColumnManifest]  # by the part of a batch they fill
LATENTS, SIMPLE, COMPLEX = "latents", "clip_simple", "clip_complex"
DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """One batch on the device: ``simple_BTD`` are the states the adapter gets, those of the empty prompt where
    ``kept_B`` is false; ``mask_BT`` is 1 where a token is real; ``llm`` is [B, W], or [B, L, W] with a mask. What no
    loss needs is None. ``distilled_B`` is false where ``llm`` are states of another text than the sample's; None: they
    are of all."""

    simple_BTD: Tensor
    mask_BT: Tensor
    kept_B: Tensor
    complex_BTD: Tensor | None = None
    latents: Tensor | None = None
    llm: Tensor | None = None
    llm_mask_BL: Tensor | None = None
    distilled_B: Tensor | None = None
    added: dict[str, Tensor] | None = None


@dataclass(frozen=True, kw_only=True)
class Sentences:
    """What a translation is learned from: an LLM's states of sentences [B, L, W] and their mask, and the tokens of the
    prompts that say the same [B, T] and theirs; masks are true where a token is real."""

    llm_BLW: Tensor
    llm_mask_BL: Tensor
    prompt_BT: Tensor
    prompt_mask_BT: Tensor


def needed_columns(config: TrainConfig) -> set[str]:
    """The parts of a batch, beside the LLM's, that the weighted losses need."""
    needed = {SIMPLE: not config.translates, COMPLEX: config.w_prompt > 0, LATENTS: config.w_denoise > 0}
    return {name for name, is_needed in needed.items() if is_needed}


class Conditioner:
    """The frozen base model, of which only the parts that no column replaces are loaded; turns batches into conditions.

    ``computed`` names what no column holds and is therefore computed at every step.
    """

    def __init__(
        self, config: TrainConfig, data: ShardDataset, base: str, device: torch.device, warn: Callable[[str], None]
    ) -> None:
        self.config, columns = config, data.reads
        self.llm, self.llm_reader = llm_source(config, data)
        if self.llm_reader is not None:
            self.llm_reader.model.to(device)
        self.computed = sorted(needed_columns(config) - columns.keys())
        self.latents_column = columns.get(LATENTS)
        self.distils_simple = "llm" in columns and columns["llm"].text != "complex"
        encodes_text = bool({SIMPLE, COMPLEX} & set(self.computed))
        is_stored = SIMPLE in columns and columns[SIMPLE].empty is not None
        self.empty: TextStates | None = None
        if config.caption_dropout and not is_stored and not encodes_text:
            self.empty = _empty_prompt(
                base, device, warn
            )  # before the rest is loaded, so that both are never in memory
        self.pipe: Pipeline = load_base(
            base,
            device,
            unet=not config.translates,
            vae=LATENTS in self.computed,
            text=encodes_text or config.translates,
            dtype=DTYPES[config.mixed_precision],
        )
        if not config.translates:
            _check_fit(self.pipe, columns, base)
        if config.attaches:
            check_attachable(self.pipe, "--llm-role")
        if config.caption_dropout and is_stored:
            self.empty = self._simple(data.empty_prompt().to(device))
        elif config.caption_dropout and encodes_text:
            self.empty = encode_prompts(self.pipe, [""])

    @property
    def image_size(self) -> int | None:
        """Side in pixels of the images to read; None if none are needed."""
        return image_size(self.pipe) if LATENTS in self.computed else None

    @property
    def width(self) -> int:
        """Of the text states."""
        return (encoded_width(self.pipe) or 0) if self.config.translates else text_width(self.pipe)

    @property
    def tokens(self) -> PromptTokens:
        """Prompts as the tokens of the base model."""
        return PromptTokens(self.pipe.tokenizer)

    def inputs(self, batch: Batch, *, training: bool = True) -> Conditions | Sentences:
        """What the objective takes of a batch: the sentences of a translation, or conditions."""
        return self._sentences(batch) if self.config.translates else self(batch, training=training)

    def _sentences(self, batch: Batch) -> Sentences:
        llm_BLW, llm_mask_BL = self._attached(batch.to(self.pipe.device))
        prompt_BT, prompt_mask_BT = (part.to(self.pipe.device) for part in self.tokens.encode(batch.complex))
        return Sentences(llm_BLW=llm_BLW, llm_mask_BL=llm_mask_BL, prompt_BT=prompt_BT, prompt_mask_BT=prompt_mask_BT)

    def __call__(self, batch: Batch, *, training: bool = True) -> Conditions:
        """``batch`` on the device. Latents are sampled, and in training captions dropped, by torch's generator."""
        device, config = self.pipe.device, self.config
        batch = batch.to(device)
        kept_B = torch.rand(len(batch.keys), device=device) >= (
            config.caption_dropout if training and self.empty else 0
        )
        simple = self._simple(batch)
        if self.empty:
            simple = _where(kept_B, simple, self.empty)
        llm, llm_mask_BL = self._llm_states(batch, kept_B)
        complex_states = batch.clip_complex_BTD
        if config.w_prompt and complex_states is None:
            complex_states = encode_prompts(self.pipe, batch.complex).states
        return Conditions(
            simple_BTD=simple.states.float(),
            mask_BT=simple.mask,
            kept_B=kept_B,
            complex_BTD=complex_states,
            latents=self._latents(batch) if config.w_denoise else None,
            llm=llm,
            llm_mask_BL=llm_mask_BL,
            distilled_B=self._distilled(batch),
            added=added_conditions(
                self.pipe,
                simple.pooled,
                self.latents_column.image_size if self.latents_column else None,
                batch.latents_size_B6,
            ),
        )

    def _simple(self, batch: Batch) -> TextStates:
        if batch.clip_simple_BTD is None:
            return encode_prompts(self.pipe, batch.captions or batch.simple)
        assert batch.clip_simple_mask_BT is not None, "text states come with their mask"
        return TextStates(
            states=batch.clip_simple_BTD, mask=batch.clip_simple_mask_BT, pooled=batch.clip_simple_pooled_BP
        )

    def _llm_states(self, batch: Batch, kept_B: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Of an attached LLM its states of tokens, none of which is there where the prompt was emptied."""
        if not self.config.attaches:
            return _llm(batch, self.config.llm_targets), batch.llm_mask_BL
        states_BLW, mask_BL = self._attached(batch)
        return states_BLW, mask_BL & kept_B[:, None]

    def _attached(self, batch: Batch) -> tuple[Tensor, Tensor]:
        states_BLW, mask_BL = batch.llm_BLW, batch.llm_mask_BL
        if self.llm_reader is not None:
            states_BLW, mask_BL = self.llm_reader.states(batch.captions or batch.simple, self.pipe.device)
        assert states_BLW is not None and mask_BL is not None, "an LLM that is read has a column of tokens or a reader"
        return states_BLW, mask_BL.bool()

    def llm_statistics(self, data: ShardDataset, most: int = 256) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [llm_width] of the LLM's states over the first samples."""
        assert self.llm_reader is not None, "of a column the dataset knows the statistics"
        texts = [data.read(place).simple for place in data.order(seed=0).locations(0, min(most, len(data)))]
        states_BLW, mask_BL = self.llm_reader.states(texts, self.pipe.device)
        std, mean = torch.std_mean(states_BLW[mask_BL].cpu(), dim=0)
        return mean, std.clamp(min=1e-6)

    def _distilled(self, batch: Batch) -> Tensor | None:
        """Where the text drawn is the one that the LLM read."""
        if batch.captions is None or not self.distils_simple or self.llm_reader is not None:
            return None
        same = [drawn == simple for drawn, simple in zip(batch.captions, batch.simple, strict=True)]
        return torch.tensor(same, device=self.pipe.device)

    def _latents(self, batch: Batch) -> Tensor:
        """Sampled from the VAE's posterior, and scaled as the UNet expects."""
        if batch.latents_mean_BCHW is None or batch.latents_std_BCHW is None:
            assert batch.images_BCHW is not None
            return encode_images(self.pipe, batch.images_BCHW)
        assert self.latents_column is not None and self.latents_column.scaling_factor is not None
        noise = torch.randn_like(batch.latents_mean_BCHW)
        sampled = batch.latents_mean_BCHW + batch.latents_std_BCHW * noise
        return (sampled - (self.latents_column.shift_factor or 0)) * self.latents_column.scaling_factor


def _llm(batch: Batch, targets: str) -> Tensor | None:
    """Pooled [B, W], or of tokens [B, L, W]; a column of tokens is pooled here if the target is pooled states."""
    if batch.llm_BLW is None or batch.llm_mask_BL is None:
        return batch.llm_BW
    if targets == "tokens":
        return batch.llm_BLW
    mask_BL1 = batch.llm_mask_BL[..., None]
    return (batch.llm_BLW * mask_BL1).sum(1) / mask_BL1.sum(1).clamp(min=1)


def _where(kept_B: Tensor, texts: TextStates, empty: TextStates) -> TextStates:
    pooled = None
    if texts.pooled is not None and empty.pooled is not None:
        pooled = torch.where(kept_B[:, None], texts.pooled, empty.pooled.to(texts.pooled.dtype))
    return TextStates(
        states=torch.where(kept_B[:, None, None], texts.states, empty.states.to(texts.states.dtype)),
        mask=torch.where(kept_B[:, None], texts.mask.bool(), empty.mask.bool()),
        pooled=pooled,
    )


def _empty_prompt(base: str, device: torch.device, warn: Callable[[str], None]) -> TextStates | None:
    """States of the empty prompt; its text encoder is released afterwards."""
    try:
        return encode_prompts(load_base(base, device, unet=False, vae=False), [""])
    except SurdError as error:
        warn(f"no caption is dropped: the empty prompt cannot be encoded ({error})")
        return None


def _check_fit(pipe: Pipeline, columns: Columns, base: str) -> None:
    """SurdError if a column does not have the UNet's widths, so was made by another model."""
    width, channels = text_width(pipe), backbone(pipe).config.in_channels
    encoded = encoded_width(pipe)
    if encoded not in (None, width):
        raise SurdError(
            f"--base: {base!r} encodes text {encoded} wide, but its denoiser takes {width}; name a whole model"
        )
    for name, column in columns.items():
        checks: list[tuple[int | None, int | None, str]] = []  # size, expected size, unit
        if name == LATENTS and column.shape:
            checks = [(column.shape[0], 2 * channels, "channels")]
        if name in (SIMPLE, COMPLEX):
            checks = [(column.width, width, "wide")]
        if name == SIMPLE:
            checks += [(column.pooled or 0, pooled_width(pipe), "wide in its pooled text")]
        for size, expected, unit in checks:
            if size != expected:
                raise SurdError(
                    f"--base: column {column.column} of {column.model} is {size} {unit} where {base!r} takes"
                    f" {expected}; name the model it was made with, or pass --no-columns"
                )
