"""``sur-train``: trains the adapter on a build's shards."""

from __future__ import annotations

import sys

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sur_adapter.cli.app import run_app, typer_from_model
from sur_adapter.training.config import Stopped, TrainConfig
from surd.schemas.console import PlainConsole
from surd.schemas.printable import printable


def run(config: TrainConfig) -> None:
    """Train the SUR-adapter on a SURD build; the diffusion model itself stays frozen.

    Three losses, each with a weight: the denoiser's own (through the frozen UNet), distillation from an LLM's states
    of the simple prompt, and alignment with the complex prompt's text states. Latents and text states are read from
    the dataset's columns where it has them; then neither VAE nor text encoder is loaded.

    **Examples**

    - The demo build, 200 steps: `sur-train data/demo --out runs/demo`

    - Another diffusion model: `sur-train BUILD --base stable-diffusion-v1-5/stable-diffusion-v1-5`

    - No LLM: `sur-train BUILD --w-llm 0`

    - An LLM that is read with every prompt, in drawing too: `surd columns add BUILD --pooling all-layers`, then
      `sur-train BUILD --llm-role attach`

    - An LLM whose states are put into the words of the complex prompts: the same column, then
      `sur-train BUILD --llm-role translate`

    - On all captions of a sample, another each epoch: `sur-train BUILD --caption mixed`

    - In aspect-ratio buckets, which crop less than squares: `surd columns add BUILD latents-buckets`, then
      `sur-train BUILD --buckets`

    - As the authors' own code: `sur-train BUILD --objective authors`

    - Settings in a file, one of them overruled: `sur-train --config train.yaml --lr 1e-5`

    - Several GPUs: `accelerate launch -m sur_adapter.cli.train BUILD`

    - Some of a build's shards: `sur-train --shards 'data/demo/shards/surd-{00000..00003}.tar'`

    The same command again continues from the last checkpoint in --out. Quote the pattern, or the shell expands it.
    """
    console = PlainConsole(stderr=True)
    columns = (
        TextColumn("train"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}", markup=False),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("train", total=config.steps, losses="loading models")

        def on_step(step: int, losses: dict[str, float]) -> None:
            line = "  ".join(f"{name} {value:.4f}" for name, value in losses.items())
            progress.update(task, completed=step, losses=line)
            if not console.is_terminal and step % max(1, config.steps // 10) == 0:
                console.print(f"step {step}/{config.steps}  {line}", highlight=False, soft_wrap=True)

        from sur_adapter.training.trainer import train  # only here: --help must not wait for torch

        def warn(sentence: str) -> None:
            progress.console.print(f"note: {sentence}", soft_wrap=True)

        try:
            result = train(config, on_step, warn)
        except Stopped as stopped:
            console.print(str(stopped), highlight=False)
            sys.exit(128 + stopped.signal)
    said = (
        f"{result.steps} steps, loss {result.loss_first:.4f} -> {result.loss_last:.4f}, {result.seconds:.0f} s"
        + (f" (continued from step {result.resumed_from})" if result.resumed_from else "")
        + f"; adapter in {result.adapter}"
    )
    print(printable(said))


def main() -> None:
    """Entry point of ``sur-train``."""
    run_app(typer_from_model(TrainConfig, run))


if __name__ == "__main__":
    main()
