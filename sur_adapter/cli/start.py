"""Entry points of the ``sur-`` commands: Ctrl-C is one line, also while modules are being imported."""

import importlib
import sys


def train() -> None:
    """``sur-train``."""
    _run("train")


def generate() -> None:
    """``sur-generate``."""
    _run("generate")


def evaluate() -> None:
    """``sur-eval``."""
    _run("evaluate")


def _run(command: str) -> None:
    try:
        importlib.import_module(f"sur_adapter.cli.{command}").main()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
