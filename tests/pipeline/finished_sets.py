"""Small finished datasets in the authors' layout, imported into a build: real images and real vectors, and no model."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from surd.flows.import_dataset import Import, import_dataset
from surd.flows.listener import SILENT
from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.verify.dataset import Finding, read_manifests, verify
from surd.pipeline.runner.verify_markers import verify_stages
from surd.schemas import ColumnManifest, ShardManifest

SHARD, TOKENS, POOLED = "shards/surd-00001.tar", "llm-13b-l10-tokens", "llm-13b-l39"
Members = list[tuple[tarfile.TarInfo, bytes]]
PER_SHARD = {"pack.max_count": 5, "models.llm": "none", "models.embed_llm": "none"}


def picture(number: int, kind: str = "PNG", size: tuple[int, int] = (32, 24)) -> bytes:
    """An image that no other number gives, so wide and high."""
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, kind)
    return data.getvalue()


def authors_set(root: Path, count: int = 12, width: int = 16, sizes: Sequence[tuple[int, int]] = ((32, 24),)) -> Path:
    """Images of three kinds, of these widths and heights in turn, two of which share a simple prompt; vectors, one a
    prompt and one a token."""
    (root / "train").mkdir(parents=True)
    rows = []
    for number in range(count):
        kind = ("PNG", "JPEG", "WEBP")[number % 3]
        name = f"{number}.{kind.lower()}"
        (root / "train" / name).write_bytes(picture(number, kind, sizes[number % len(sizes)]))
        rows.append({"file_name": name, "text": f"simple «{number // 2}»", "prompt": f"keywords, {number},\n8k "})
    (root / "train" / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (root / "prompt2vec" / "13B").mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    texts = [row["text"] for row in rows]
    pooled = {text: torch.randn(width, generator=generator).half() for text in texts}
    tokens = {
        text: torch.randn(2 + number % 3, width, generator=generator).bfloat16() for number, text in enumerate(texts)
    }
    torch.save(pooled, root / "prompt2vec" / "13B" / "39.pt")
    torch.save(tokens, root / "prompt2vec" / "13B" / "10.pt")
    return root


def imported(layout: str, out: Path, **options) -> dict:
    """Import a layout; returns the summary."""
    fields = PER_SHARD | options.pop("fields", {})
    return import_dataset(Import(layout=layout, out=str(out), fields=fields, **options), SILENT)


def rewrite(path: Path, change: Callable[[Members], Members | None]) -> None:
    """Write a tar again with its members changed."""
    with tarfile.open(path) as tar:
        members = [(info, tar.extractfile(info).read()) for info in tar]
    members = change(members) or members
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for info, data in members:
            if info.isreg():
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def restate(folder: Path) -> None:
    """Let the manifest of shards or of a column state the bytes that are there, as someone meaning to deceive would."""
    model = ShardManifest if folder.name == "shards" else ColumnManifest
    manifest = model.model_validate_json((folder / "manifest.json").read_text())
    for info in manifest.tars if isinstance(manifest, ColumnManifest) else manifest.shards:
        data = (folder / info.name).read_bytes()
        info.bytes, info.sha256 = len(data), hashlib.sha256(data).hexdigest()
    (folder / "manifest.json").write_text(manifest.model_dump_json())


def findings(root: Path, *, stages: bool = False) -> list[Finding]:
    """What verify finds in a dataset, and with ``stages`` in what made it."""
    opened = Build(str(root))
    manifests = read_manifests(opened)
    checked = [*verify(opened, manifests), *(verify_stages(opened) if stages else ())]
    return [*manifests.findings, *(finding for one in checked for finding in one.findings)]


def told(root: Path) -> str:
    """All findings of verify, one per line."""
    return "\n".join(map(str, findings(root)))


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without(number: int) -> Callable[[Members], Members]:
    """A change of a tar: one member less."""
    return lambda members: members[:number] + members[number + 1 :]


def exchanged(number: int, data: bytes) -> Callable[[Members], Members]:
    """A change of a tar: other bytes for a member."""
    return lambda members: [(info, data if place == number else old) for place, (info, old) in enumerate(members)]


def other_json(**fields: object) -> Callable[[Members], Members]:
    """A change of a shard: other fields in the JSON of its first sample."""
    return lambda members: [
        (info, json.dumps(json.loads(data) | fields).encode() if index == 3 else data)
        for index, (info, data) in enumerate(members)
    ]
