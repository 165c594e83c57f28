"""JSON files that are whole or absent, and the fingerprint of a model's weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor


def write_json(path: Path, value: Any) -> None:
    """Write beside ``path`` and rename, so that a reader never sees half a file."""
    partial = path.with_name(f".{path.name}.tmp")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def weights_fingerprint(weights: Iterable[Tensor]) -> str:
    """sha256 over the first 256 numbers of every weight: training changes them all, and a large model costs no more."""
    digest = hashlib.sha256()
    for weight in weights:
        digest.update(weight.detach().flatten()[:256].float().cpu().numpy().tobytes())
    return digest.hexdigest()
