"""``sur-generate``: draws prompts with a trained adapter, alone or beside the base model."""

from __future__ import annotations

import sys

from sur_adapter.cli.app import run_app, typer_from_model
from sur_adapter.sampling.config import GenerateConfig
from surd.schemas.printable import printable


def run(config: GenerateConfig) -> None:
    """Draw images with a diffusion model and a trained SUR-adapter.

    **Examples**

    - One image: `sur-generate --adapter runs/demo --prompt "three red apples on a blue table" --out apples.png`

    - Does it help? `sur-generate --adapter runs/demo --prompts prompts.txt --compare --out grid.png`

    - Stronger: `sur-generate --adapter runs/demo --prompt "a running man" --eta 0.5`

    The same seed gives the same noise, with the adapter and without it. An adapter that translates says what it draws
    for each prompt.
    """
    from sur_adapter.sampling.generate import generate  # only here: --help must not wait for torch

    for path in generate(config, lambda line: print(printable(line), file=sys.stderr)):
        print(printable(str(path)))


def main() -> None:
    """Entry point of ``sur-generate``."""
    run_app(typer_from_model(GenerateConfig, run))


if __name__ == "__main__":
    main()
