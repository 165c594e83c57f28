"""``sur-generate``: images of prompts, with a trained adapter or without, on the same noise.

A thin layer over the pipelines with adapter: only the positive prompt passes through the adapter, so the
unconditional branch is always the base model's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from sur_adapter.adapter import SURAdapter
from sur_adapter.attached_llm import llm_components
from sur_adapter.base_model import Pipeline, check_attachable, load_base, pick_device
from sur_adapter.llm import MOST_TOKENS
from sur_adapter.sampling.config import GenerateConfig
from sur_adapter.sampling.grid import draw_grid
from sur_adapter.sampling.noise import initial_noise
from sur_adapter.stable_diffusion import (
    SURStableDiffusionPipeline,
    SURStableDiffusionXLPipeline,
    load_adapter,
)
from sur_adapter.transformer_pipelines import SURPixArtSigmaPipeline, SURStableDiffusion3Pipeline
from surd.pretrained.diffusion import kind_of
from surd.schemas.errors import SurdError

BATCH = 8
#: The pipeline with adapter beside each of diffusers.
PIPELINES: dict[str, Any] = {
    "StableDiffusionPipeline": SURStableDiffusionPipeline,
    "StableDiffusionXLPipeline": SURStableDiffusionXLPipeline,
    "StableDiffusion3Pipeline": SURStableDiffusion3Pipeline,
    "PixArtSigmaPipeline": SURPixArtSigmaPipeline,
}


def generate(config: GenerateConfig, say: Callable[[str], None] = lambda line: None) -> list[Path]:
    """Render the prompts of ``config``; returns the PNG files written.

    ``say`` is given a line for each prompt that the adapter puts into other words.

    Raises SurdError for a missing adapter, base model or prompt, an adapter of another width, and an unwritable out.
    """
    prompts = read_prompts(config)
    single = config.grid or config.compare
    paths = _paths(config.out, 1 if single else len(prompts) * config.seeds)
    _make_folder(config.out)
    if not config.overwrite and (present := [path for path in paths if path.exists()]):
        raise SurdError(f"--out: {str(present[0])!r} exists; name another file, or replace it with --overwrite")
    adapter = load_adapter(config.adapter, config.eta)
    base = config.base or adapter.config["base_model"]
    if base is None:
        raise SurdError(f"--base: the adapter in {config.adapter} does not name its base model; name it here")
    device = pick_device(config.device)
    pipe = load_base(base, device)
    check_lengths(pipe, prompts)
    if adapter.translator is not None:
        for prompt, written in zip(prompts, with_adapter(pipe, adapter, config.llm).translate(prompts), strict=True):
            say(f"{prompt} -> {written}")
    arms = ({"without adapter": None} if config.compare else {}) | {"with adapter": adapter}
    columns = {}
    for number, (name, module) in product(range(config.seeds), arms.items()):
        seed = config.seed + number * len(prompts)
        columns[name if config.seeds == 1 else f"{name}, {seed}"] = sample_images(
            pipe,
            module,
            prompts,
            seed=seed,
            steps=config.steps,
            guidance_scale=config.guidance_scale,
            negative_prompt=config.negative_prompt,
            llm=config.llm,
        )
    if single:
        return _write([draw_grid(prompts, columns)], paths)
    return _write([image for column in columns.values() for image in column], paths)


@torch.no_grad()
def sample_images(
    pipe: Pipeline,
    adapter: SURAdapter | None,
    prompts: Sequence[str],
    *,
    seed: int = 0,
    steps: int = 25,
    guidance_scale: float = 7.5,
    negative_prompt: str = "",
    llm: str | None = None,
) -> list[Image.Image]:
    """One image per prompt; prompt i starts from the noise of ``seed + i``, with an adapter or without (None)."""
    if adapter is not None:
        adapter.to(pipe.device).eval()
    adapted = with_adapter(pipe, adapter, llm)
    images: list[Image.Image] = []
    for start in range(0, len(prompts), BATCH):
        batch = list(prompts[start : start + BATCH])
        images += adapted(
            batch,
            negative_prompt=[negative_prompt] * len(batch),
            latents=torch.cat([initial_noise(pipe, seed + start + i) for i in range(len(batch))]),
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
        ).images
    return images


def with_adapter(pipe: Pipeline, adapter: SURAdapter | None, llm: str | None = None) -> Pipeline:
    """A pipeline of the same parts, with this adapter or without one; and with the LLM that the adapter reads, by
    default the one it names. SurdError if that is missing or another."""
    parts = {name: part for name, part in pipe.components.items() if name not in ("adapter", "llm", "llm_tokenizer")}
    if adapter is not None and adapter.reads_llm:
        check_attachable(pipe, "--adapter")
    parts |= llm_components(adapter, llm)
    if "llm" in parts:
        parts["llm"].to(pipe.device)
    kind = kind_of(pipe)
    if kind.has_checker:
        parts["requires_safety_checker"] = False
    adapted: Pipeline = PIPELINES[kind.pipeline](**parts, adapter=adapter)
    adapted.set_progress_bar_config(disable=True)
    return adapted


def read_prompts(config: GenerateConfig) -> list[str]:
    """Prompts of the flags, then those of the file; SurdError if there are none."""
    prompts = list(config.prompt)
    if config.prompts is not None:
        try:
            lines = config.prompts.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SurdError(f"--prompts: {str(config.prompts)!r} cannot be read ({error}); give a text file") from error
        prompts += [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise SurdError("--prompt: there is no prompt; pass --prompt TEXT or --prompts FILE")
    return prompts


def check_lengths(pipe: Pipeline, prompts: Sequence[str]) -> None:
    """SurdError if a prompt has more tokens than any text encoder or attached LLM is given: a file, most likely."""
    for prompt in prompts:
        if (count := len(pipe.tokenizer(prompt, verbose=False).input_ids)) > MOST_TOKENS:
            raise SurdError(f"--prompt: {prompt[:60]!r}... has {count:,} tokens, more than {MOST_TOKENS:,}; shorten it")


def _make_folder(out: Path) -> None:
    """Create the folder of the pictures before they are rendered, because rendering takes longest."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SurdError(f"--out: {str(out)!r} cannot be written ({error.strerror}); name another file") from error
    if out.is_dir():
        raise SurdError(f"--out: {str(out)!r} is a folder; name a file in it, such as {str(out / 'sur.png')!r}")


def _paths(out: Path, count: int) -> list[Path]:
    return [out] if count == 1 else [out.with_stem(f"{out.stem}-{number:02d}") for number in range(count)]


def _write(images: list[Image.Image], paths: list[Path]) -> list[Path]:
    try:
        for image, path in zip(images, paths, strict=True):
            image.save(path, format="PNG")
    except OSError as error:
        raise SurdError(f"--out: {str(paths[0])!r} cannot be written ({error.strerror}); name another file") from error
    return paths
