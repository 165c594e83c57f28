"""The strings that name a CLIP model: a folder, open_clip's NAME/TAG or NAME/FILE, or a repository of the hub."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from surd.schemas.errors import SurdError
from surd.schemas.model_ref import existing_path, resolve_model, shown

HUB_PREFIX = "hf-hub:"
CHECKPOINTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
SYNTAX = (
    "write NAME/TAG as open_clip lists its weights, such as ViT-B-32/laion2b_s34b_b79k, NAME/FILE.safetensors, or the"
    " folder of a model"
)


@dataclass(frozen=True, kw_only=True)
class ClipRef:
    """What a CLIP string names.

    ``folder`` and ``hub``: ``name`` is a path, or a repository of transformers' format. ``open_clip``: ``name`` is
    what open_clip calls the model (``hf-hub:`` and a repository among them), ``weights`` the tag of its weights.
    ``checkpoint``: ``weights`` is their file.
    """

    kind: Literal["folder", "hub", "open_clip", "checkpoint"]
    name: str
    weights: str | None = None


def clip_ref(ref: str, field: str = "models.clip") -> ClipRef:
    """What a CLIP string names. ``field`` is what an error calls it.

    Raises SurdError when nothing of that name can be, and when a name stands without its weights: open_clip would
    give the model random ones.
    """
    name, _, weights = ref.partition("/")
    given = existing_path(ref)
    if name in open_clip_models() and not (given and given.is_dir()):
        return _named(name, weights, ref, field)
    try:
        path = resolve_model(ref)
    except SurdError as error:
        raise SurdError(f"{field}: {error}") from None
    if local := existing_path(path):
        if local.is_dir():
            return ClipRef(kind="folder", name=path)
        raise SurdError(f"{field} is {shown(ref)}: this is a file, which does not say what model it is of; {SYNTAX}")
    if ref.startswith(HUB_PREFIX):
        return ClipRef(kind="open_clip", name=ref)
    if not weights:
        raise SurdError(f"{field} is {shown(ref)}: open_clip has no model of that name; {SYNTAX}")
    return ClipRef(kind="hub", name=ref)


@cache
def open_clip_models() -> frozenset[str]:
    """The names of open_clip's models, from the files that it ships; finding a package does not import it."""
    spec = importlib.util.find_spec("open_clip")
    roots = spec.submodule_search_locations if spec else None
    return frozenset(file.stem for root in roots or () for file in Path(root).glob("model_configs/*.json"))


def _named(name: str, weights: str, ref: str, field: str) -> ClipRef:
    if not weights:
        raise SurdError(
            f"{field} is {shown(ref)}: this names a model without its weights, which would be random; {SYNTAX}"
        )
    file = existing_path(weights)
    if file and file.is_file():
        return ClipRef(kind="checkpoint", name=name, weights=str(file.resolve()))
    if "/" in weights or weights.endswith(CHECKPOINTS):
        raise SurdError(f"{field} is {shown(ref)}: there is no file {shown(weights)}; {SYNTAX}")
    return ClipRef(kind="open_clip", name=name, weights=weights)
