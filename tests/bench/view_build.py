"""A synthetic build of any size: rows of every stage with texts of real length, small JPEGs, embeddings."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from pydantic import BaseModel

from surd.pipeline.build.folder import Build, part_file, part_tar
from surd.schemas import (
    BuildConfig,
    BuildRecord,
    Captioned,
    Cleaned,
    Corrected,
    Decoded,
    Deduped,
    Marker,
    Pair,
    Reason,
    Rewritten,
    Safe,
    Scored,
    Selected,
    SourceRecord,
)
from surd.schemas.arrow import arrow_schema
from surd.schemas.shard_format.tar import add_member, padded

PART = 1000
WIDTH = 256  # of an embedding
PICTURES = 200  # different ones
MODELS: dict[str, type[BaseModel]] = {
    "collect": SourceRecord, "fetch": Pair, "decode": Decoded, "clean": Cleaned, "dedup": Deduped, "safety": Safe,
    "score": Scored, "caption": Captioned, "rewrite": Rewritten, "correct": Corrected, "select": Selected,
}  # fmt: skip
_STAGES = list(MODELS)
_THINGS = ("owl", "rocket", "harbour", "snowman", "balloon", "fox", "lighthouse", "violin", "castle", "bicycle")
_COLOURS = ("red", "blue", "green", "amber", "violet", "grey")
_STYLES = ("masterpiece", "best quality", "8k", "oil painting", "cinematic lighting", "sharp focus", "sepia", "hdr")
_PLACES = ("on a hill at dusk", "beside a quiet river", "in a crowded market", "under a starry sky", "near a window")
_SIZES = ((512, 512), (768, 512), (512, 768), (1024, 1024), (832, 1216), (1216, 832), (640, 480))
#: Of a hundred records the first so many are lost in these ways, one after the other.
_LOST = (
    ("fetch", Reason.HTTP_ERROR, 4), ("decode", Reason.BROKEN_IMAGE, 2), ("clean", Reason.FOREIGN_LANGUAGE, 5),
    ("dedup", Reason.DUPLICATE_IMAGE, 8), ("safety", Reason.NSFW, 3), ("correct", Reason.MISMATCH, 6),
    ("select", Reason.BELOW_THRESHOLD, 9),
)  # fmt: skip


def key_of(number: int) -> str:
    return hashlib.sha256(f"view {number}".encode()).hexdigest()[:16]


def write_view_build(folder: Path, count: int, part_size: int = PART) -> Build:
    """A finished build of ``count`` records, 37% of them rejected."""
    build, pictures = Build(str(folder)), [_jpeg(number) for number in range(PICTURES)]
    parts = -(-count // part_size)
    for part in range(parts):
        _write_part(build, part, range(part * part_size, min(count, (part + 1) * part_size)), pictures)
    config = BuildConfig(source="gallery:https://pictures.example").model_dump(mode="json")
    build.write_json("build.json", BuildRecord(config=config, versions={"surd": "0"}, models={"clip": "synthetic"}))
    build.write_marker(Marker(stage="collect", part=0, parts=parts, fingerprint="", outputs={}, rows=count, seconds=0))
    return build


def _write_part(build: Build, part: int, numbers: range, pictures: list[bytes]) -> None:
    offsets = []
    with build.writing(part_tar("fetch", part)) as file, tarfile.open(fileobj=file, mode="w|") as tar:  # type: ignore[call-overload]
        for number in numbers:
            data = pictures[number % PICTURES]
            add_member(tar, f"{key_of(number)}.jpg", data)
            offsets.append(tar.offset - padded(len(data)))
    rows: dict[str, list[dict[str, Any]]] = {stage: [] for stage in _STAGES}
    for number, offset in zip(numbers, offsets, strict=True):
        for stage, row in _record(number, offset, pictures[number % PICTURES]).items():
            rows[stage].append(row)
    vectors = _vectors(numbers)
    for stage, model in MODELS.items():
        schema = arrow_schema(model)
        columns = [pa.array([row.get(name) for row in rows[stage]], schema.field(name).type) for name in schema.names]
        table = pa.table(columns, schema=schema)
        if stage == "score":
            kept = np.array([row["status"] == "kept" for row in rows[stage]])
            values = pa.array([vector if keep else None for vector, keep in zip(vectors, kept, strict=True)],
                              schema.field("image_embedding").type)  # fmt: skip
            table = table.set_column(table.schema.get_field_index("image_embedding"), "image_embedding", values)
        build.write_table(part_file(stage, part), table)


def _vectors(numbers: range) -> np.ndarray:
    """Unit vectors around the centre of each thing."""
    centres = np.random.default_rng(0).standard_normal((len(_THINGS), WIDTH)).astype(np.float32)
    noise = np.random.default_rng(numbers.start).standard_normal((len(numbers), WIDTH)).astype(np.float32)
    vectors = centres[[number % len(_THINGS) for number in numbers]] + noise
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _lost(number: int) -> tuple[str, Reason] | None:
    share = random.Random(f"lost {number}").randrange(100)
    for stage, reason, percent in _LOST:
        if share < percent:
            return stage, reason
        share -= percent
    return None


def _record(number: int, offset: int, data: bytes) -> dict[str, dict[str, Any]]:
    """One record as each stage leaves it."""
    rng, lost, key = random.Random(number), _lost(number), key_of(number)
    thing, colour, place = _THINGS[number % len(_THINGS)], rng.choice(_COLOURS), rng.choice(_PLACES)
    simple = f"A {colour} {thing} {place}, number {number}, seen from the side with soft light and a plain background."
    keywords = [f"{colour} {thing}", place, *rng.sample(_STYLES, 4), f"artist {rng.randrange(300)}"]
    text = ", ".join(keywords) + ", highly detailed, trending, intricate, volumetric light, wide angle, rule of thirds"
    width, height = rng.choice(_SIZES)
    fit, complex_fit = round(rng.gauss(0.27, 0.03), 4), round(rng.gauss(0.25, 0.03), 4)
    twin = key_of(max(0, number - 1 - rng.randrange(3)))
    repaired = number % 9 == 0
    values: dict[str, dict[str, Any]] = {
        "collect": {
            "source": "gallery:https://pictures.example", "source_id": str(number), "prompt": text,
            "url": f"https://img{number % 5}.pictures.example/{number}.jpg",
            "page_url": f"https://pictures.example/p/{number}", "author": f"author {rng.randrange(800)}",
            "licence": rng.choice(("CC0-1.0", "CC-BY-4.0", "CC-BY-NC-4.0", None)),
            "params": '{"steps": 30, "sampler": "Euler a", "note": "' + "x" * 400 + '"}',
        },
        "fetch": {
            "sha256": hashlib.sha256(data).hexdigest(), "ext": "jpg", "size": len(data), "offset": offset,
            "width": width, "height": height, "prompt": text, "prompt_origin": "source",
            "tool": rng.choice(("ComfyUI", "AUTOMATIC1111")), "negative_prompt": "worst quality, blurry, watermark",
        },
        "decode": {"phash": f"{rng.getrandbits(64):016x}"},
        "clean": {"complex": text, "keywords": keywords, "language": "en", "clip_tokens": 40 + number % 60},
        "dedup": {"cluster": twin if lost == ("dedup", Reason.DUPLICATE_IMAGE) else key, "distance": 3},
        "safety": {"nsfw_image": round(rng.random() ** 6, 4)},
        "score": {"clip_complex": complex_fit, "sharpness": round(rng.lognormvariate(5, 1), 2)},
        "caption": {"captions": [simple, f"There is a {thing} {place}."]},
        "rewrite": {"rewrites": [f"A {thing} that is {colour}."]},
        "correct": {
            "simple": simple, "method": rng.choice(("caption", "rewrite")), "clip_simple": fit,
            "clip_complex": complex_fit, "candidates": [simple, f"There is a {thing} {place}."],
            "candidate_scores": [fit, fit - 0.02], "decision": "repair" if repaired else "keep", "facts_checked": 3,
            "repairs": [f"colour: pink -> {colour} (0.210 -> 0.640)"] if repaired else None,
            "before": simple.replace(colour, "pink") if repaired else None,
        },
        "select": {"clip_simple": fit, "clip_complex": complex_fit},
    }  # fmt: skip
    rows: dict[str, dict[str, Any]] = {}
    verdict: dict[str, Any] = {"key": key, "status": "kept", "reason": None, "rejected_by": None, "detail": None}
    for stage in _STAGES:
        gone = verdict["status"] == "rejected"
        if lost and lost[0] == stage:
            verdict |= {"status": "rejected", "reason": lost[1].value, "rejected_by": stage, "detail": "as planned"}
        rows[stage] = verdict | ({} if gone or (lost and stage == "fetch" == lost[0]) else values[stage])
    return rows


def _jpeg(number: int) -> bytes:
    """A smooth picture with a shape on it."""
    rng = np.random.default_rng(number)
    small = rng.integers(30, 226, (5, 5, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((192, 192), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
