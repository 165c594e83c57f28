"""Weights of transformers models: whole, from safetensors alone, never random."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

#: The pooler of an image encoder whose decoder reads the states before it: published captioners leave it out.
UNREAD = re.compile(r"^encoder\.pooler\.")
_UNPICKLED = ("*.bin", "*.pth", "*.pt", "*.ckpt", "*.h5", "*.msgpack")


def load_weights(auto: Any, ref: str, **options: Any) -> Any:
    """``auto.from_pretrained(ref, **options)``, a transformers class, from safetensors, in half precision if need be.

    Raises ValueError when a tensor of the model is not among the weights, which transformers would leave random, and
    when the weights are there in no format but one that has to be unpickled.
    """
    variant = _only_variant(Path(ref))
    try:
        model, info = auto.from_pretrained(
            ref,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            variant=variant,
            **options,
        )
    except OSError as error:
        if kept := _other_formats(Path(ref)):
            raise ValueError(
                f"its weights are there only as {kept}, which would have to be unpickled; convert them to safetensors,"
                " or name a model that has them"
            ) from error
        raise
    check_whole(info["missing_keys"], [key for key, *_ in info["mismatched_keys"]])
    return model


def check_whole(missing: Iterable[str], mismatched: Iterable[str] = ()) -> None:
    """Raises ValueError when a model lacks tensors that it computes with, naming the first."""
    if lost := sorted(key for key in missing if not UNREAD.match(key)):
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise ValueError(f"its weights lack {lost[0]}{more}, which would be random; copy the whole model")
    if odd := sorted(mismatched):
        raise ValueError(f"its weights do not fit its config.json ({odd[0]} has another shape); copy the whole model")


def _only_variant(folder: Path) -> str | None:
    """The variant (``fp16`` of ``model.fp16.safetensors``) that a folder has where it has no other safetensors."""
    names = [file.name for file in folder.glob("model*.safetensors*")] if folder.is_dir() else []
    if not names or any(re.fullmatch(r"model(-\d+-of-\d+)?\.safetensors(\.index\.json)?", name) for name in names):
        return None
    found = (re.fullmatch(r"model\.(?:safetensors\.index\.)?(\w+?)(?:-\d+-of-\d+)?\.(?:safetensors|json)", name)
             for name in names)  # fmt: skip
    return next((match.group(1) for match in found if match), None)


def _other_formats(folder: Path) -> str | None:
    """The first file of weights in a format of pickles where there is no safetensors file."""
    if not folder.is_dir() or any(folder.glob("*.safetensors")):
        return None
    return next((file.name for pattern in _UNPICKLED for file in sorted(folder.glob(pattern))), None)
