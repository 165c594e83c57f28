"""``surd models``: what the model strings of a config resolve to on this machine, and whether it is present."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from surd.pipeline.models import ROLES, model_path
from surd.schemas import SurdError
from surd.schemas.clip_ref import clip_ref
from surd.schemas.config import ModelsConfig
from surd.schemas.model_ref import server_ref


@dataclass(frozen=True, kw_only=True)
class ModelLine:
    """One role: the config's string, what it resolves to, whether it is present, and its size in bytes."""

    role: str
    ref: str
    resolved: str
    present: bool
    size: int


def model_lines(config: ModelsConfig) -> list[ModelLine]:
    """One line per role that has a model. Nothing is loaded or downloaded; a missing model is a line, not an error."""
    return [_line(role, config.ref(role)) for role in ROLES if config.ref(role) or getattr(config, role) is not None]


def _line(role: str, ref: str) -> ModelLine:
    try:
        if server := server_ref(ref):
            return ModelLine(role=role, ref=ref, resolved=f"server at {server.url}", present=True, size=0)
        path = model_path(role, ref)
    except SurdError as error:
        return ModelLine(role=role, ref=ref, resolved=str(error), present=False, size=0)
    if path:
        return ModelLine(role=role, ref=ref, resolved=str(path), present=True, size=_size(path))
    cached = _hub_folder(role, ref)
    if cached is None or not cached.exists():
        return ModelLine(role=role, ref=ref, resolved="hub, downloaded at first use", present=False, size=0)
    return ModelLine(role=role, ref=ref, resolved=str(cached), present=True, size=_size(cached / "blobs"))


def _hub_folder(role: str, ref: str) -> Path | None:
    """Where the hub's cache keeps a repository; open_clip's own names are looked up in its table first."""
    from huggingface_hub.constants import HF_HUB_CACHE

    repo = ref
    if role == "clip" and clip_ref(ref).kind == "open_clip":
        import open_clip

        name, _, tag = ref.partition("/")
        pretrained = open_clip.get_pretrained_cfg(name, tag)
        repo = (pretrained or {}).get("hf_hub", "").rstrip("/")
    return Path(HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}" if repo else None


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
