"""Pipelines whose denoiser is a transformer, with an adapter over the states of the positive prompt.

    from sur_adapter import SURPixArtSigmaPipeline

    pipe = SURPixArtSigmaPipeline.from_pretrained("PixArt-alpha/PixArt-Sigma-XL-2-1024-MS", adapter="runs/one")
    pipe("three red apples on a blue table").images[0]

As in ``stable_diffusion``, the adapter is a component like any other, and the unconditional branch never meets it.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers
from torch import Tensor
from transformers import (
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    SiglipImageProcessor,
    SiglipVisionModel,
    T5EncoderModel,
    T5Tokenizer,
)

from sur_adapter.adapter import SURAdapter
from sur_adapter.base_model import backbone
from sur_adapter.stable_diffusion import BROUGHT, _Adapting
from surd.pretrained.text_states import joint_mask
from surd.schemas.errors import SurdError

_BINNED = (32, 64, 128, 256)  # sizes of latents for which PixArt knows aspect ratios
Prompt = str | list[str]


class _AdaptingTransformer(_Adapting):
    """What both pipelines below share: the mask of the tokens is known when the states are, and no LLM is attached."""

    @classmethod
    def _check_adapter(cls, adapter: SURAdapter) -> None:
        if adapter.reads_llm:
            raise SurdError(
                "--adapter: it reads an LLM with every prompt, as a Stable Diffusion 1.x, 2.x or XL does; name a base"
                " model of that kind, or train one with --llm-role distil"
            )

    def _adapted_with(self, prompt: Prompt | None, states_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        """The positive prompt's states, adapted unless a caller brought them."""
        if self.adapter is None:
            return states_BTD
        if prompt is None:
            warnings.warn(BROUGHT, stacklevel=4)
            return states_BTD
        return self._through(states_BTD, mask_BT)


class SURPixArtSigmaPipeline(_AdaptingTransformer, PixArtSigmaPipeline):
    """``PixArtSigmaPipeline`` with an adapter over T5's states.

    Prompts are not cleaned unless ``clean_caption=True`` is passed: columns and trainings encode them as they are.
    """

    model_cpu_offload_seq = "text_encoder->transformer->vae"
    _optional_components: ClassVar[list[str]] = [*PixArtSigmaPipeline._optional_components, "adapter"]

    def __init__(
        self,
        tokenizer: T5Tokenizer,
        text_encoder: T5EncoderModel,
        vae: AutoencoderKL,
        transformer: PixArtTransformer2DModel,
        scheduler: KarrasDiffusionSchedulers,
        adapter: SURAdapter | None = None,
    ) -> None:
        super().__init__(tokenizer, text_encoder, vae, transformer, scheduler)
        self._register_adapter(adapter)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """diffusers' own call, but for the cleaning."""
        options.setdefault("clean_caption", False)
        if backbone(self).config.sample_size not in _BINNED:
            options.setdefault("use_resolution_binning", False)
        return super().__call__(*args, **options)

    def encode_prompt(self, prompt: Prompt | None, *args: Any, **options: Any) -> tuple[Any, ...]:
        """As diffusers encodes it, then the adapter on the positive prompt alone; masks stay as they are."""
        states, mask, *rest = super().encode_prompt(prompt, *args, **options)  # type: ignore[misc]
        return (self._adapted_with(prompt, states, mask), mask, *rest)


class SURStableDiffusion3Pipeline(_AdaptingTransformer, StableDiffusion3Pipeline):
    """``StableDiffusion3Pipeline`` with an adapter over the whole sequence of CLIP's and T5's states; pooled text stays
    as it is."""

    model_cpu_offload_seq = "text_encoder->text_encoder_2->text_encoder_3->image_encoder->transformer->vae"
    _optional_components: ClassVar[list[str]] = [*StableDiffusion3Pipeline._optional_components, "adapter"]

    def __init__(
        self,
        transformer: SD3Transformer2DModel,
        scheduler: FlowMatchEulerDiscreteScheduler,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModelWithProjection,
        tokenizer: CLIPTokenizer,
        text_encoder_2: CLIPTextModelWithProjection,
        tokenizer_2: CLIPTokenizer,
        text_encoder_3: T5EncoderModel,
        tokenizer_3: T5Tokenizer,
        image_encoder: SiglipVisionModel | None = None,
        feature_extractor: SiglipImageProcessor | None = None,
        adapter: SURAdapter | None = None,
    ) -> None:
        super().__init__(
            transformer, scheduler, vae, text_encoder, tokenizer, text_encoder_2, tokenizer_2, text_encoder_3,
            tokenizer_3, image_encoder, feature_extractor,
        )  # fmt: skip
        self._register_adapter(adapter)

    def encode_prompt(
        self, prompt: Prompt | None, prompt_2: Prompt | None = None, prompt_3: Prompt | None = None,
        *args: Any, **options: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        """As diffusers encodes it, then the adapter on the positive prompt's states alone."""
        states, *rest = super().encode_prompt(prompt, prompt_2, prompt_3, *args, **options)  # type: ignore[misc]
        if self.adapter is None or prompt is None:
            return (self._adapted_with(prompt, states, states), *rest)
        texts, t5_texts = ([one] if isinstance(one, str) else list(one) for one in (prompt, prompt_3 or prompt))
        mask_BT = joint_mask(self, texts, t5_texts, states.shape[1]).to(states.device)
        return (self._adapted_with(prompt, states, mask_BT.repeat_interleave(len(states) // len(texts), dim=0)), *rest)
