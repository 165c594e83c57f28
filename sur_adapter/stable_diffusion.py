"""Stable Diffusion pipelines whose positive prompt passes through the adapter; the rest is diffusers' own.

The adapter is a component like any other: ``.to``, offloading and ``save_pretrained`` cover it. So is the LLM that it
reads, if it reads one: a prompt goes through it once, and while a picture is drawn it may lie on the CPU again.

    from sur_adapter import SURStableDiffusionPipeline

    pipe = SURStableDiffusionPipeline.from_pretrained("stable-diffusion-v1-5/stable-diffusion-v1-5", adapter="runs/one")
    pipe("three red apples on a blue table").images[0]

``pipe.save_pretrained(folder)`` saves it whole. Load that folder with the same class: diffusers' own
``DiffusionPipeline.from_pretrained`` looks for the class among its own, and does not find it.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import (
    AutoencoderKL,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers
from torch import Tensor
from transformers import (
    CLIPImageProcessor,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
)

from sur_adapter.adapter import SURAdapter
from sur_adapter.attached_llm import ReadsLLM, llm_components
from sur_adapter.base_model import check_text_width, check_vocabulary
from sur_adapter.single_file import from_checkpoint
from surd.pretrained.checkpoint_file import is_checkpoint
from surd.pretrained.diffusion import ARCHITECTURES, NAMES, kind_of
from surd.schemas.errors import SurdError, one_line
from surd.schemas.model_ref import resolve_model

BROUGHT = (
    "prompt_embeds are used as they are, without the adapter; that is right if they come from this pipeline's own"
    " encode_prompt, which adapts them; otherwise pass prompt instead"
)
_OPTIONAL = ("adapter", "llm", "llm_tokenizer")
#: Options of diffusers that say where and how to find a model.
_HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "token")


class _Adapting(ReadsLLM):
    """The adapter handling that both pipelines below share."""

    #: As small as it is, and needed at every step.
    _exclude_from_cpu_offload: ClassVar[list[str]] = ["safety_checker", "adapter"]

    @classmethod
    def from_pretrained(
        cls,
        base: str | Path,
        adapter: SURAdapter | str | Path | None = None,
        llm: str | None = None,
        **options: Any,
    ) -> Any:
        """Load ``base`` (hub id, folder, checkpoint file or ``package:`` string) and put ``adapter`` into it.

        ``adapter`` is the module or its folder; None: the one that ``base`` was saved with, if any. ``llm``: where the
        LLM lies that the adapter reads, a hub id, folder or GGUF file; None: where it lay in training. ``options`` are
        those of diffusers.
        """
        if isinstance(adapter, (str, Path)):
            adapter = load_adapter(Path(adapter))
        if adapter is not None:
            cls._check_adapter(adapter)
            asked = options.get("torch_dtype", options.get("dtype"))
            dtype = asked if isinstance(asked, torch.dtype) else torch.float32
            options |= {"adapter": adapter} | llm_components(adapter, llm, dtype)
        path = resolve_model(str(base))
        if is_checkpoint(path):
            return from_checkpoint(cls, path, options)
        cls._check_kind(path, {name: options[name] for name in _HUB_OPTIONS if name in options})
        return super().from_pretrained(path, **options)  # type: ignore[misc]

    @classmethod
    def _check_kind(cls: Any, path: str, hub_options: dict[str, Any]) -> None:
        """SurdError if the model is of another kind than this pipeline: diffusers would fail in the first call."""
        index = cls.load_config(path, **hub_options)
        kind, name = kind_of(cls), str(index.get("_class_name"))
        has_two = bool(index.get("text_encoder_2"))
        fits = name.removeprefix("SUR") == kind.pipeline
        if kind.denoiser == "unet":  # of which diffusers has more classes with these parts
            fits = "unet" in index and has_two == (len(kind.encoders) == 2)
        if not fits:
            fitting = name.removeprefix("SUR")
            if "unet" in index:
                fitting = "StableDiffusionXLPipeline" if has_two else "StableDiffusionPipeline"
            remedy = f"load it with SUR{fitting}" if fitting in ARCHITECTURES else f"name a {NAMES}"
            raise SurdError(f"base is {path!r}: it is a {name}, which {cls.__name__} cannot run; {remedy}")

    @classmethod
    def _check_adapter(cls, adapter: SURAdapter) -> None:
        """SurdError if this kind of pipeline cannot run the adapter, whatever the base model."""

    def _register_adapter(self: Any, adapter: SURAdapter | None) -> None:
        """Make the adapter a component. SurdError if it is of another width than the UNet's text states."""
        if adapter is not None:
            self._check_adapter(adapter)
            check_text_width(self, adapter.config["width"], adapter.config["base_model"])
            if adapter.translator is not None:
                check_vocabulary(self, adapter.config["vocabulary"], adapter.config["base_model"])
        self.register_modules(adapter=adapter)

    def _adapted(self: Any, prompt: str | list[str] | None, states_BTD: Tensor) -> Tensor:
        """The states of a prompt as the pipeline uses them: adapted, unless a caller brought them or there is no
        adapter."""
        if self.adapter is None or (self.adapter.translator is not None and prompt is not None):
            return states_BTD
        if prompt is None:
            if not self._carries(states_BTD):
                warnings.warn(BROUGHT, stacklevel=4)
            return states_BTD
        adapted_BTD = self._adapt(prompt, states_BTD)
        return torch.cat([adapted_BTD, self._carried(prompt, adapted_BTD)], dim=1) if self._reads_llm else adapted_BTD

    def _adapt(self: Any, prompt: str | list[str], states_BTD: Tensor) -> Tensor:
        """Adapted states of the positive prompts; a prompt may have several consecutive rows."""
        prompts = [prompt] if isinstance(prompt, str) else prompt
        tokens = self.tokenizer(
            self.maybe_convert_prompt(prompts, self.tokenizer),
            padding="max_length", max_length=self.tokenizer.model_max_length, truncation=True, return_tensors="pt",
        )  # fmt: skip
        mask_BT = tokens.attention_mask.to(states_BTD.device).repeat_interleave(len(states_BTD) // len(prompts), dim=0)
        return self._through(states_BTD, mask_BT)

    def _through(self, states_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        """The states [B, T, width] that the adapter gives for those of prompts whose real tokens ``mask_BT`` tells."""
        adapter = self.adapter
        assert adapter is not None, "without an adapter states stay as they are"
        # Across a batch, attention would make a picture depend on its neighbours: then one prompt at a time.
        size = 1 if adapter.config["attention_axis"] == "batch" else len(states_BTD)
        parts = zip(states_BTD.to(adapter.dtype).split(size), mask_BT.split(size), strict=True)
        return torch.cat([adapter(states, mask).states for states, mask in parts]).to(states_BTD.dtype)


class SURStableDiffusionPipeline(_Adapting, StableDiffusionPipeline):
    """``StableDiffusionPipeline`` (1.x, 2.x) with an adapter; without one (None) it is that pipeline.

    ``prompt_embeds`` from the caller are used unchanged, with a warning: they may be adapted already.
    """

    model_cpu_offload_seq = "text_encoder->llm->image_encoder->unet->vae"
    _optional_components: ClassVar[list[str]] = [*StableDiffusionPipeline._optional_components, *_OPTIONAL]

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet2DConditionModel,
        scheduler: KarrasDiffusionSchedulers,
        safety_checker: Any = None,
        feature_extractor: CLIPImageProcessor | None = None,
        image_encoder: CLIPVisionModelWithProjection | None = None,
        requires_safety_checker: bool = True,
        adapter: SURAdapter | None = None,
        llm: Any = None,
        llm_tokenizer: Any = None,
    ) -> None:
        super().__init__(
            vae, text_encoder, tokenizer, unet, scheduler, safety_checker, feature_extractor, image_encoder,
            requires_safety_checker,
        )  # fmt: skip
        self._register_adapter(adapter)
        self._register_llm(llm, llm_tokenizer)

    def encode_prompt(self, prompt: Any, *args: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
        """As diffusers encodes it, then the adapter on the positive prompt alone; of one that translates, what it
        writes is encoded."""
        prompt = self._translated(prompt)
        states, negative = super().encode_prompt(prompt, *args, **options)  # type: ignore[misc]
        return self._both(prompt, states, negative)


class SURStableDiffusionXLPipeline(_Adapting, StableDiffusionXLPipeline):
    """``StableDiffusionXLPipeline`` with an adapter over the states of its two text encoders, side by side."""

    model_cpu_offload_seq = "text_encoder->text_encoder_2->llm->image_encoder->unet->vae"
    _optional_components: ClassVar[list[str]] = [*StableDiffusionXLPipeline._optional_components, *_OPTIONAL]

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        text_encoder_2: CLIPTextModelWithProjection,
        tokenizer: CLIPTokenizer,
        tokenizer_2: CLIPTokenizer,
        unet: UNet2DConditionModel,
        scheduler: KarrasDiffusionSchedulers,
        image_encoder: CLIPVisionModelWithProjection | None = None,
        feature_extractor: CLIPImageProcessor | None = None,
        force_zeros_for_empty_prompt: bool = True,
        add_watermarker: bool | None = None,
        adapter: SURAdapter | None = None,
        llm: Any = None,
        llm_tokenizer: Any = None,
    ) -> None:
        super().__init__(
            vae, text_encoder, text_encoder_2, tokenizer, tokenizer_2, unet, scheduler, image_encoder,
            feature_extractor, force_zeros_for_empty_prompt, add_watermarker,
        )  # fmt: skip
        self._register_adapter(adapter)
        self._register_llm(llm, llm_tokenizer)

    def encode_prompt(self, prompt: Any, *args: Any, **options: Any) -> tuple[Any, ...]:
        """As diffusers encodes it, then the adapter on the positive prompt's states; pooled states stay as they are. Of
        an adapter that translates, what it writes is encoded, by both text encoders unless ``prompt_2`` is given."""
        prompt = self._translated(prompt)
        states, negative, *rest = super().encode_prompt(prompt, *args, **options)  # type: ignore[misc]
        return (*self._both(prompt, states, negative), *rest)


def load_adapter(folder: Path, eta: float | None = None) -> SURAdapter:
    """The adapter in ``folder``, in eval mode; ``eta`` overrides the strength it was trained with.

    Raises SurdError if it is missing, incomplete (diffusers would continue with random weights) or not an adapter.
    """
    if not (folder / "config.json").is_file():
        raise SurdError(f"--adapter: {str(folder)!r} holds no config.json; give the --out folder of a sur-train")
    try:
        adapter, loading_info = SURAdapter.from_pretrained(folder, use_safetensors=True, output_loading_info=True)
    except (OSError, ValueError, TypeError, RuntimeError, AssertionError) as error:
        reason = one_line(error, 300)
        raise SurdError(f"--adapter: {str(folder)!r} cannot be loaded ({reason}); train it again") from error
    if fault := _fault(adapter, loading_info):
        raise SurdError(f"--adapter: {str(folder)!r} {fault}; train it again, or copy the whole folder")
    if eta is not None:
        adapter.register_to_config(eta=eta)
    return adapter


def _fault(adapter: SURAdapter, loading_info: dict[str, list[str]]) -> str | None:
    """What is wrong with a loaded adapter, None if nothing is; ``loading_info`` is what diffusers reports."""
    if odd := sorted([*loading_info["missing_keys"], *loading_info["unexpected_keys"]]):
        return f"has a config.json and weights that do not match ({odd[0]})"
    eta = adapter.config["eta"]
    if not isinstance(eta, (int, float)) or not 0 <= eta <= 1:
        return f"states a strength eta of {eta!r}, which is not a number from 0 to 1"
    sick = next((name for name, weight in adapter.state_dict().items() if not weight.isfinite().all()), None)
    return f"holds NaN or infinity in {sick}" if sick else None
