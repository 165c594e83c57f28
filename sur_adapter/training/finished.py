"""What a training finds finished in its folder, and must not replace without being told to."""

from __future__ import annotations

from pathlib import Path

from sur_adapter.training.config import TrainConfig, TrainResult
from surd.schemas.errors import SurdError


def adapter_file(out: Path) -> Path:
    """The file that an adapter saved in ``out`` has."""
    return out / "config.json"


def check_finished(config: TrainConfig) -> None:
    """Raise SurdError where the run would replace a finished adapter, or another model, without being told to."""
    if config.overwrite or not adapter_file(config.out).exists():
        return
    stored = stored_result(config.out)
    if stored is None:
        raise finished_error(config, "or another model: there is no train.json beside it")
    if stored.steps > config.steps:
        raise finished_error(config, f"of {stored.steps} steps, and --steps is {config.steps}")
    if not config.resume:
        raise finished_error(config, "and --no-resume would train it anew")


def finished_error(config: TrainConfig, what: str) -> SurdError:
    return SurdError(
        f"--out: {str(config.out)!r} holds a finished adapter, {what}; name another --out, or replace it with"
        " --overwrite"
    )


def stored_result(out: Path) -> TrainResult | None:
    """The result that an earlier run wrote beside its adapter; None if there is none, or if it is not whole."""
    try:
        result = TrainResult.model_validate_json((out / "train.json").read_bytes())
    except (OSError, ValueError):
        return None
    return result if adapter_file(out).exists() and (out / "log.json").exists() else None
