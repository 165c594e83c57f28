"""make bench-attach: what it costs to attach an LLM, in training and in drawing.

Training: steps from the LLM's column against steps that run the LLM on each batch, all else from columns in both.
Drawing: pictures with an attached LLM against the base model's, once prompts are encoded, on the same noise. All in
turn, on the demo's models and SmolLM2; ratios of medians of processor time. Run it on an idle machine: threads that
wait for a core count as working.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from sur_adapter.adapter import SURAdapter
from sur_adapter.base_model import load_base
from sur_adapter.sampling.draw import computing_in
from sur_adapter.sampling.generate import with_adapter
from sur_adapter.training.config import TrainConfig
from surd.flows.add_columns import add_columns
from tests.bench.effect_data import demo_llm, shard_pattern
from tests.bench.figures import Figure
from tests.bench.train import seconds_a_step

BASE = "package:pipeline/demo/models/diffusion"
FASTER, DEARER = 1.3, 1.15
PROMPT = "A feline of a fiery hue reposes before an azure curtain."


def dataset(folder: Path, count: int) -> str:
    """Sentences as people word them, with every column that a training with an attached LLM reads."""
    command = [sys.executable, "-m", "surd.pipeline.demo.training_set", "--out", str(folder), "--count", str(count)]
    subprocess.run(command, check=True, capture_output=True)
    fields: dict[str, Any] = {
        "embed.columns": ["latents", "clip-simple", "clip-complex"], "embed.pooling": ["all-layers"],
        "models.llm": demo_llm(), "models.embed_llm": demo_llm(),
    }  # fmt: skip
    add_columns(str(folder), fields, lambda done, total: None)
    return shard_pattern(folder)


def training(shards: str, work: Path, steps: int, rounds: int) -> dict[str, float]:
    """Median processor seconds a step, from the LLM's column and with the LLM run at every step."""
    ways: dict[str, dict[str, Any]] = {"column": {}, "on the fly": {"llm": demo_llm()}}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, more in ways.items():
            settings = TrainConfig.model_validate(
                {"shards": shards, "out": work / f"{number} {name}", "steps": 3 + steps, "llm_role": "attach"}
                | {"feed_forward": 512, "batch_size": 16, "checkpoint_every": 0, "device": "cpu"} | more
            )  # fmt: skip
            times[name] += [step.cpu for step in seconds_a_step(settings)]
    return {name: statistics.median(each) for name, each in times.items()}


def drawing(pictures: int, steps: int, rounds: int) -> dict[str, float]:
    """Median processor seconds to draw, of the base model and with an attached LLM, prompts encoded before."""
    base = load_base(BASE)
    adapter = SURAdapter(
        width=192, llm_width=576, feed_forward=512, eta=1.0, llm_role="attach", llm_model=demo_llm(),
        llm_pooling="all-layers", base_model=BASE,
    ).eval()  # fmt: skip
    assert adapter.attachment is not None
    torch.nn.init.normal_(adapter.attachment.join[-1].weight, std=0.01)
    pipes = {"base": with_adapter(base, None), "attached": with_adapter(base, adapter)}
    times: dict[str, list[float]] = {name: [] for name in pipes}
    with torch.inference_mode(), computing_in("auto", base.device):
        encoded = {name: pipe.encode_prompt([PROMPT] * pictures, "cpu", 1, True) for name, pipe in pipes.items()}
        for number in range(rounds + 1):
            for name, pipe in pipes.items():
                positive, negative = encoded[name]
                began = time.process_time()
                pipe(
                    prompt_embeds=positive, negative_prompt_embeds=negative, num_inference_steps=steps,
                    guidance_scale=2.5, generator=torch.Generator().manual_seed(0),
                )  # fmt: skip
                if number:  # the first warms up
                    times[name].append(time.process_time() - began)
    return {name: statistics.median(each) for name, each in times.items()}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.attach", description=__doc__)
    parser.add_argument("--steps", type=int, default=12, help="measured training steps per way and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=16, help="drawn at once")
    parser.add_argument("--size", type=int, default=160, help="samples")
    args = parser.parse_args()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        trained = training(dataset(work / "data", args.size), work, args.steps, args.rounds)
    drawn = drawing(args.pictures, 10, args.rounds)
    for name, seconds in (trained | drawn).items():
        console.print(f"{name}: {seconds:.3f} s", highlight=False)
    figures = [
        Figure("training_steps_column_to_on_the_fly", trained["on the fly"] / trained["column"], ">=", FASTER),
        Figure("drawing_time_attached_to_base", drawn["attached"] / drawn["base"], "<=", DEARER),
    ]
    for figure in figures:
        console.print(f"{'met ' if figure.met else 'MISS'} {figure.name} {figure.value:.3f}, goal {figure.goal}")
    print(json.dumps({figure.name: figure.document() for figure in figures}))
    sys.exit(0 if all(figure.met for figure in figures) else 1)


if __name__ == "__main__":
    main()
