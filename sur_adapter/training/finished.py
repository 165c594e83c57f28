"""What a training finds finished in its folder, and must not replace without being told to."""

from __future__ import annotations

from pathlib import Path

from diffusers.utils.constants import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME

from sur_adapter.training.config import TrainConfig, TrainResult
from surd.schemas.errors import SurdError

#: What ``SURAdapter.save_pretrained`` writes, by diffusers' names.
ADAPTER_FILES = (CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME)


def adapter_file(out: Path) -> Path:
    """The file that an adapter, or any other model, saved in ``out`` has."""
    return out / CONFIG_NAME


def check_finished(config: TrainConfig) -> None:
    """Raise SurdError where the run would replace a finished adapter, or another model, without being told to."""
    if config.overwrite or not adapter_file(config.out).exists():
        return
    stored = stored_result(config.out)
    if stored is None:
        if (config.out / "train.json").exists() and not (config.out / SAFETENSORS_WEIGHTS_NAME).exists():
            return  # its weights are lost: the run writes them again, from its checkpoint
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
    return result if all((out / name).exists() for name in (*ADAPTER_FILES, "log.json")) else None
