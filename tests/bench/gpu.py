"""make bench-gpu: each model path beside a bare loop over the same model on a GPU, in time and memory.

CLIP ViT-L/14, BLIP-2 (OPT 2.7B), hidden states of a LLaMA 7B, and training of an adapter for Stable Diffusion 1.5 and
XL, from columns and on the fly. Their weights are random and made on the device (``random_models``): nothing is
downloaded. The loops have their tensors ready on the device; ours get pictures and texts on the host, and give vectors
and texts there. What comes before, reading and decoding files, is measured by the other benchmarks, on CPUs.

``--tiny`` runs the same code in seconds on any device: its ratios say nothing, and the tests run it so.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from rich.console import Console
from rich.table import Table

from sur_adapter.base_model import pick_device
from sur_adapter.training.config import TrainConfig
from sur_adapter.training.trainer import train
from surd.pipeline.batching import batched
from surd.pipeline.demo.world.render import render
from surd.pipeline.demo.world.scenes import scene
from surd.pipeline.models import Models
from surd.pipeline.runner.process_setup import set_up_process
from surd.schemas import SurdError, load_config
from tests.bench.embed import Bare, prompts_of, seconds
from tests.bench.figures import Figure
from tests.bench.random_models import (
    REAL,
    TINY,
    Shapes,
    random_weights,
    save_captioner,
    save_clip,
    save_diffusion,
    save_llm,
)
from tests.bench.train import MB, WARM_UP, BareLoop
from tests.bench.train_data import write_dataset

MOST_RATIO, MOST_MEMORY, MOST_MINUTES = 1.1, 1.1, 8
SEED = 12_001


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured: ``pictures`` and ``prompts`` go through CLIP, ``captioned`` pictures through the captioner,
    ``prompts`` through the LLM. ``batches`` and ``precision`` are of the training, ``dtype`` of the captioner."""

    shapes: Shapes
    pictures: int
    captioned: int
    caption_tokens: int
    prompts: int
    batch: int
    rounds: int
    steps: int
    samples: int
    batches: dict[str, int]
    feed_forward: int
    precision: str
    dtype: str
    workers: int


REAL_SIZES = Sizes(
    shapes=REAL, pictures=1024, captioned=64, caption_tokens=40, prompts=4096, batch=32, rounds=3, steps=10, samples=32,
    batches={"sd15": 8, "sdxl": 2}, feed_forward=2048, precision="bf16", dtype="bfloat16", workers=4,
)  # fmt: skip
TINY_SIZES = Sizes(
    shapes=TINY, pictures=6, captioned=3, caption_tokens=4, prompts=12, batch=4, rounds=1, steps=1, samples=4,
    batches={"sd15": 2, "sdxl": 2}, feed_forward=64, precision="no", dtype="float32", workers=0,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Seconds of our way and of the bare loop, their peaks of the GPU's memory in MB (None on a CPU), how many
    ``items`` a second passes through ours, and how far the results of the two are apart, where both give any."""

    ours: float
    bare: float
    peak: float | None
    bare_peak: float | None
    items: float
    unit: str
    difference: float | None = None


@dataclass(frozen=True, kw_only=True)
class Case:
    """The same ``count`` items by our code and by a bare loop; ``difference`` compares what both gave."""

    count: int
    unit: str
    ours: Callable[[], Any]
    bare: Callable[[], Any]
    difference: Callable[[Any, Any], float] | None = None


def in_turns(case: Case, rounds: int, device: torch.device) -> Measured:
    """Medians of both ways, in turns, after one call of each."""
    found = case.ours(), case.bare()
    times = [(seconds(case.ours, device), seconds(case.bare, device)) for _ in range(rounds)]
    ours, bare = (statistics.median(each) for each in zip(*times, strict=True))
    on_gpu = device.type == "cuda"
    return Measured(
        ours=ours,
        bare=bare,
        peak=peak_mb(case.ours, device) if on_gpu else None,
        bare_peak=peak_mb(case.bare, device) if on_gpu else None,
        items=case.count / ours,
        unit=case.unit,
        difference=case.difference(*found) if case.difference else None,
    )


def peak_mb(work: Callable[[], object], device: torch.device) -> float | None:
    """The most GPU memory that tensors took at once, weights included."""
    if device.type != "cuda":
        work()
        return None
    torch.cuda.reset_peak_memory_stats(device)
    work()
    return torch.cuda.max_memory_allocated(device) / MB


def clip_cases(models: Models, sizes: Sizes) -> dict[str, Case]:
    """Pictures as tensors on the host, and texts, to vectors on the host."""
    clip: Any = models.clip
    pixels = [clip.prepare(picture) for picture in pictures(min(sizes.pictures, 64), 256)]
    pixels = (pixels * -(-sizes.pictures // len(pixels)))[: sizes.pictures]
    ready = [torch.stack(batch).to(clip._device) for batch in batched(pixels, sizes.batch)]
    prompts = sorted(prompts_of(SEED, sizes.prompts), key=lambda text: (len(text), text))
    tokens = [clip._tokenizer(batch, **clip._cut).to(clip._device) for batch in batched(prompts, sizes.batch)]

    def bare(encode: Callable[[Any], Any], batches: Sequence[Any]) -> torch.Tensor:
        with torch.inference_mode():
            return torch.cat([encode(batch) for batch in batches])

    def apart(ours: Any, bare: torch.Tensor) -> float:
        unit = torch.nn.functional.normalize(bare.float(), dim=-1).cpu()
        return float((torch.from_numpy(ours) - unit).abs().max())

    return {
        "clip_pictures": Case(
            count=len(pixels), unit="pictures", difference=apart,
            ours=lambda: np.concatenate([clip.embed_prepared(batch) for batch in batched(pixels, sizes.batch)]),
            bare=lambda: bare(lambda batch: clip._model.get_image_features(pixel_values=batch).pooler_output, ready),
        ),
        "clip_texts": Case(
            count=len(prompts), unit="texts", difference=apart,
            ours=lambda: clip.embed_distinct(prompts, sizes.batch),
            bare=lambda: bare(lambda batch: clip._model.get_text_features(**batch).pooler_output, tokens),
        ),
    }  # fmt: skip


def caption_cases(models: Models, sizes: Sizes) -> dict[str, Case]:
    """Decoded pictures to texts, as many a picture as a build's defaults ask."""
    captioner: Any = models.captioner
    shown = list(batched(pictures(sizes.captioned, 512), sizes.batch))
    ready = [
        {name: captioner._moved(value) for name, value in captioner._inputs.of(batch, [""] * len(batch)).items()}
        for batch in shown
    ]
    settings = load_config({}, {}).caption
    how = {"k": settings.k, "num_beams": settings.num_beams, "max_new_tokens": sizes.caption_tokens}
    sampled = {"do_sample": True, "top_p": 0.9, "top_k": 0, "num_return_sequences": settings.k - 1}

    def ours() -> list[str | None]:
        answers = [answers for batch in shown for answers in captioner.caption(batch, **how, seed=SEED)]
        return [of_picture[0].text for of_picture in answers]

    @torch.inference_mode()
    def bare() -> list[str]:
        texts = []
        for inputs in ready:
            common = {"max_new_tokens": sizes.caption_tokens, "use_cache": True}
            surest = captioner._model.generate(**inputs, **common, num_beams=settings.num_beams, do_sample=False)
            captioner._model.generate(**inputs, **common, **sampled)
            texts += captioner._inputs.tokenizer.batch_decode(surest, skip_special_tokens=True)
        return texts

    def apart(ours: list[str | None], bare: list[str]) -> float:
        return sum((one or "") != " ".join(other.split()) for one, other in zip(ours, bare, strict=True)) / len(bare)

    count = sum(map(len, shown))
    return {"captioner": Case(count=count, unit="pictures", ours=ours, bare=bare, difference=apart)}


def llm_cases(models: Models, sizes: Sizes) -> dict[str, Case]:
    """Texts to mean-pooled states of the last layer on the host."""
    states = models.embed_llm.hidden_states
    prompts = prompts_of(SEED, sizes.prompts)
    bare = Bare(states, prompts, 16_384 if states._device.type == "cuda" else 512)
    return {
        "llm_states": Case(
            count=bare.tokens, unit="tokens", bare=bare,
            ours=lambda: list(states.read(prompts, [(states.depth, "mean")], None)),
        )
    }  # fmt: skip


def training(settings: TrainConfig, device: torch.device) -> Measured:
    """Steps of the trainer, then those of a bare loop whose batches are ready on the device."""
    times: list[float] = []
    began = 0.0

    def on_step(step: int, losses: dict[str, float]) -> None:
        nonlocal began
        times.append(_now(device) - began)
        began = _now(device)

    def ours() -> None:
        train(settings, on_step, warn=lambda _: None)

    def bare() -> None:
        loop = BareLoop(settings)
        bare_times.extend(loop.step() for _ in range(settings.steps))

    bare_times: list[float] = []
    peak = peak_mb(ours, device)
    free(device)
    bare_peak = peak_mb(bare, device)
    free(device)
    step = statistics.median(times[WARM_UP:])
    return Measured(
        ours=step, bare=statistics.median(bare_times[WARM_UP:]), peak=peak, bare_peak=bare_peak,
        items=settings.batch_size / step, unit="samples",
    )  # fmt: skip


def trainings(folder: Path, sizes: Sizes, device: torch.device) -> Iterator[tuple[str, Measured]]:
    """Both base models, from columns and on the fly."""
    for name, batch in sizes.batches.items():
        base = save_diffusion(folder / name, name, sizes.shapes)
        shards = write_dataset(folder / f"{name} build", base, sizes.samples, SEED, device)
        free(device)
        for way, columns in (("columns", True), ("on_the_fly", False)):
            settings = TrainConfig.model_validate(
                {"shards": shards, "out": folder / f"{name} {way}", "steps": WARM_UP + sizes.steps, "columns": columns}
                | {"batch_size": batch, "feed_forward": sizes.feed_forward, "mixed_precision": sizes.precision}
                | {"checkpoint_every": 0, "workers": sizes.workers, "device": device.type}
            )  # fmt: skip
            yield f"train_{name}_{way}", training(settings, device)


def measure(folder: Path, sizes: Sizes, device: torch.device) -> Iterator[tuple[str, Measured]]:
    """Every case, one after the other; the models of one are given up before the next are made."""
    shapes = sizes.shapes
    config = load_config(
        {},
        {
            "models.clip": save_clip(folder / "clip", shapes), "models.device": device.type,
            "models.captioner": save_captioner(folder / "captioner", shapes),
            "models.embed_llm": save_llm(folder / "llm", shapes), "models.dtypes": {"captioner": sizes.dtype},
        },
    )  # fmt: skip
    models = Models(config.models)
    for role, cases in (("clip", clip_cases), ("captioner", caption_cases), ("embed_llm", llm_cases)):
        for name, case in cases(models, sizes).items():
            yield name, in_turns(case, sizes.rounds, device)
        del case  # it holds the model
        models.unload([role], kept=())
        free(device)
    yield from trainings(folder, sizes, device)


def figures_of(name: str, one: Measured) -> list[Figure]:
    figures = [Figure(f"{name}_time_to_bare", one.ours / one.bare, "<=", MOST_RATIO)]
    if one.peak is not None and one.bare_peak is not None:
        figures.append(Figure(f"{name}_memory_to_bare", one.peak / one.bare_peak, "<=", MOST_MEMORY))
    if one.difference is not None:
        figures.append(Figure(f"{name}_difference_to_bare", one.difference, "<=", 0.01))
    return figures


def pictures(count: int, side: int) -> list[Any]:
    """Scenes of the demo world."""
    return [render(scene(SEED, number), side).convert("RGB") for number in range(count)]


def free(device: torch.device) -> None:
    """Give back the memory of what is no longer used."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _now(device: torch.device) -> float:
    """The clock of ``seconds``, once the device has done what it was told."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and one JSON line of every figure beside its goal; 1 if one misses."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, on a GPU or without one")
    args = parser.parse_args(argv)
    console = Console(stderr=True)
    try:
        device = torch.device(pick_device("auto" if args.tiny else "cuda"))
    except SurdError:
        console.print("bench-gpu needs a GPU, and torch finds none; --tiny runs the same code without one")
        return 2
    logging.disable(logging.WARNING)
    set_up_process()
    transformers.utils.logging.disable_progress_bar()
    sizes = TINY_SIZES if args.tiny else REAL_SIZES
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    began, measured = time.perf_counter(), {}
    with tempfile.TemporaryDirectory() as folder, random_weights(device):
        for case, one in measure(Path(folder), sizes, device):
            measured[case] = one
            console.print(f"{case} done after {time.perf_counter() - began:.0f} s", highlight=False)
    figures = [figure for case, one in measured.items() for figure in figures_of(case, one)]
    figures.append(Figure("minutes", (time.perf_counter() - began) / 60, "<=", MOST_MINUTES))
    console.print(table(f"{name}, torch {torch.__version__}", measured))
    for figure in figures:
        console.print(f"{'met ' if figure.met else 'MISS'} {figure.name} {figure.value:.3f}, goal {figure.goal}")
    met = all(figure.met for figure in figures)
    per_second = {case: {one.unit: round(one.items, 2), "peak_mb": one.peak} for case, one in measured.items()}
    print(json.dumps({
        "met": met, "device": name, "tiny": args.tiny, "figures": {one.name: one.document() for one in figures},
        "per_second": per_second,
    }))  # fmt: skip
    return 0 if met else 1


def table(title: str, measured: dict[str, Measured]) -> Table:
    """The measurements as a table."""
    drawn = Table("", "a second", "ms, ours", "ms, bare", "ratio", "MB, ours", "MB, bare", title=title)
    for name, one in measured.items():
        memory = ["-" if peak is None else f"{peak:,.0f}" for peak in (one.peak, one.bare_peak)]
        times = [f"{1000 * one.ours:,.1f}", f"{1000 * one.bare:,.1f}", f"{one.ours / one.bare:.2f}"]
        drawn.add_row(name, f"{one.items:,.1f} {one.unit}", *times, *memory)
    return drawn


if __name__ == "__main__":
    sys.exit(main())
