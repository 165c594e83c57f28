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

import contextlib
import threading
import warnings
from collections.abc import Iterator
from inspect import signature
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
from sur_adapter.llm import LLMReader, check_revision, load_llm
from surd.schemas.errors import SurdError, one_line
from surd.schemas.model_ref import resolve_model

BROUGHT = (
    "prompt_embeds are used as they are, without the adapter; that is right if they come from this pipeline's own"
    " encode_prompt, which adapts them; otherwise pass prompt instead"
)
#: Rows of ``prompt_embeds`` after the text tokens hold what the adapter carries of the LLM, filled up with zeros.
_CARRIED_BY = 64
_OPTIONAL = ("adapter", "llm", "llm_tokenizer")
#: Options of diffusers that say where and how to find a model.
_HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "token")


class _Adapting:
    """The adapter handling that both pipelines below share.

    Of an adapter that reads an LLM, ``encode_prompt`` gives text states with further rows, [B, T + 64 n, width]: what
    is carried of the LLM, and zeros for negative prompts. Like all prompt_embeds they may be kept, mixed and passed
    again. The UNet never sees these rows: before each of its steps the text states read them.
    """

    adapter: SURAdapter | None
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
        """Load ``base`` (hub id, folder or ``package:`` string) and put ``adapter`` (the module or its folder) into it.

        No adapter means the one that ``base`` was saved with, if any. ``llm``: where the LLM lies that the adapter
        reads, a hub id, folder or GGUF file; None: where it lay in training. ``options`` are those of diffusers.
        """
        if isinstance(adapter, (str, Path)):
            adapter = load_adapter(Path(adapter))
        if adapter is not None:
            options["adapter"] = adapter
            options |= llm_components(adapter, llm, options.get("torch_dtype", options.get("dtype")))
        path = resolve_model(str(base))
        cls._check_kind(path, {name: options[name] for name in _HUB_OPTIONS if name in options})
        return super().from_pretrained(path, **options)  # type: ignore[misc]

    @classmethod
    def _check_kind(cls: Any, path: str, hub_options: dict[str, Any]) -> None:
        """SurdError if the model is of another kind than this pipeline: diffusers would fail in the first call."""
        index = cls.load_config(path, **hub_options)
        name, has_two = index.get("_class_name"), bool(index.get("text_encoder_2"))
        if has_two != ("text_encoder_2" in signature(cls.__init__).parameters) or "unet" not in index:
            fitting = "SURStableDiffusionXLPipeline" if has_two else "SURStableDiffusionPipeline"
            remedy = f"load it with {fitting}" if "unet" in index else "name a Stable Diffusion 1.x, 2.x or XL"
            raise SurdError(f"base is {path!r}: it is a {name}, which {cls.__name__} cannot run; {remedy}")

    def _register_adapter(self: Any, adapter: SURAdapter | None) -> None:
        """Make the adapter a component. SurdError if it is of another width than the UNet's text states."""
        width = self.unet.config.cross_attention_dim
        if adapter is not None and adapter.config["width"] != width:
            raise SurdError(
                f"--base: its text width is {width} but the adapter's is {adapter.config['width']}; "
                "name the base model that the adapter was trained for"
            )
        self.register_modules(adapter=adapter)

    def _register_llm(self: Any, llm: Any, tokenizer: Any) -> None:
        """Make the LLM a component, if the adapter reads one. SurdError if it is missing or of another width."""
        if self.adapter is not None and self.adapter.attachment is not None:
            if llm is None or tokenizer is None:
                raise SurdError(
                    f"--adapter: it reads the LLM {self.adapter.config['llm_model']!r}, and the pipeline has none; give"
                    " from_pretrained the adapter, or pass llm_components(adapter)"
                )
            width = llm.config.get_text_config().hidden_size
            if width != self.adapter.config["llm_width"]:
                raise SurdError(
                    f"--llm: its states are {width} wide, but the adapter reads {self.adapter.config['llm_width']};"
                    f" name the LLM it was trained with, {self.adapter.config['llm_model']!r}"
                )
        self.register_modules(llm=llm, llm_tokenizer=tokenizer)

    @property
    def _reads_llm(self: Any) -> bool:
        return self.adapter is not None and self.adapter.attachment is not None

    def _adapted(self: Any, prompt: str | list[str] | None, states_BTD: Tensor) -> Tensor:
        """The states of a prompt as the pipeline uses them: adapted, unless a caller brought them or there is no
        adapter."""
        if self.adapter is None:
            return states_BTD
        if prompt is None:
            if not self._carries(states_BTD):
                warnings.warn(BROUGHT, stacklevel=4)
            return states_BTD
        adapted_BTD = self._adapt(prompt, states_BTD)
        return torch.cat([adapted_BTD, self._carried(prompt, adapted_BTD)], dim=1) if self._reads_llm else adapted_BTD

    def _both(self: Any, prompt: Any, states: Tensor, negative: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Adapted states, and the negative ones, to which zeros are added as rows where both must be of one length."""
        adapted = self._adapted(prompt, states)
        if negative is not None and self._reads_llm:
            rows = max(adapted.shape[1], negative.shape[1])
            adapted, negative = _longer(adapted, rows), _longer(negative, rows)
        return adapted, negative

    def _carries(self: Any, states_BTD: Tensor) -> bool:
        rows = states_BTD.shape[1] - self.tokenizer.model_max_length
        return self._reads_llm and rows > 0 and rows % _CARRIED_BY == 0

    def _carried(self: Any, prompt: str | list[str], like_BTD: Tensor) -> Tensor:
        """What the adapter carries of the LLM [B, 64 n, width], for every row of ``like_BTD``."""
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        config = self.adapter.config
        reader = LLMReader(
            model=self.llm, tokenizer=self.llm_tokenizer, layer=config["llm_layer"], pooling=config["llm_pooling"]
        )
        states_BLW, mask_BL = reader.states(prompts, self._execution_device)
        carried_BLD = self.adapter.carry(states_BLW.to(self.adapter.dtype), mask_BL).to(like_BTD)
        rows = -(-carried_BLD.shape[1] // _CARRIED_BY) * _CARRIED_BY
        return _longer(carried_BLD, rows).repeat_interleave(len(like_BTD) // len(prompts), dim=0)

    @contextlib.contextmanager
    def _reading(self: Any) -> Iterator[None]:
        """While inside, the UNet gets text states that have read the LLM at each step's own timestep."""
        if not self._reads_llm:
            yield
            return
        thread, length, adapter = threading.get_ident(), self.tokenizer.model_max_length, self.adapter

        def read(
            _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            states = kwargs.get("encoder_hidden_states")
            if threading.get_ident() != thread or states is None or not self._carries(states):
                return None
            timestep = args[1] if len(args) > 1 else kwargs["timestep"]
            text, carried = states[:, :length].to(adapter.dtype), states[:, length:].to(adapter.dtype)
            read_states = adapter.attach(text, carried, torch.as_tensor(timestep, device=text.device).reshape(-1))
            return args, kwargs | {"encoder_hidden_states": read_states.to(states.dtype)}

        hook = self.unet.register_forward_pre_hook(read, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()

    @torch.no_grad()
    def __call__(self, *args: Any, **options: Any) -> Any:
        """As the pipeline of diffusers: the same arguments, the same result."""
        with self._reading():
            return super().__call__(*args, **options)  # type: ignore[misc]

    def _adapt(self: Any, prompt: str | list[str], states_BTD: Tensor) -> Tensor:
        """Adapted states of the positive prompts; a prompt may have several consecutive rows."""
        prompts = [prompt] if isinstance(prompt, str) else prompt
        tokens = self.tokenizer(
            self.maybe_convert_prompt(prompts, self.tokenizer),
            padding="max_length", max_length=self.tokenizer.model_max_length, truncation=True, return_tensors="pt",
        )  # fmt: skip
        mask_BT = tokens.attention_mask.to(states_BTD.device).repeat_interleave(len(states_BTD) // len(prompts), dim=0)
        # Across a batch, attention would make a picture depend on its neighbours: then one prompt at a time.
        size = 1 if self.adapter.config["attention_axis"] == "batch" else len(states_BTD)
        parts = zip(states_BTD.to(self.adapter.dtype).split(size), mask_BT.split(size), strict=True)
        return torch.cat([self.adapter(states, mask).states for states, mask in parts]).to(states_BTD.dtype)


def _longer(states_BLD: Tensor, rows: int) -> Tensor:
    return torch.nn.functional.pad(states_BLD, (0, 0, 0, rows - states_BLD.shape[1]))


def llm_components(adapter: SURAdapter | None, llm: str | None = None, dtype: Any = None) -> dict[str, Any]:
    """The components ``llm`` and ``llm_tokenizer`` of a pipeline with this adapter; empty if it reads no LLM.

    ``llm``: hub id, folder or GGUF file, None: the one named in the adapter. SurdError if it is missing or another than
    the one that the adapter was trained with.
    """
    if adapter is None or adapter.attachment is None:
        return {}
    named = adapter.config["llm_model"]
    if llm is None and named is None:
        raise SurdError("--adapter: it reads an LLM and does not name it; give --llm")
    ref = str(llm or named)
    model, tokenizer = load_llm(ref, dtype if isinstance(dtype, torch.dtype) else torch.float32)
    check_revision(ref, named, adapter.config["llm_revision"])
    return {"llm": model, "llm_tokenizer": tokenizer}


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
        """As diffusers encodes it, then the adapter on the positive prompt alone."""
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
        """As diffusers encodes it, then the adapter on the positive prompt's states; pooled states stay as they are."""
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
