"""Peak memory of one stage over a build of N synthetic records: python -m tests.bench.memory STAGE N prints MB."""

from __future__ import annotations

import hashlib
import io
import os
import random
import re
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from surd.pipeline.build.folder import Build, part_file, part_miniatures, part_tar
from surd.pipeline.models import Models
from surd.pipeline.runner.process_setup import set_up_process
from surd.pipeline.stages import BY_NAME, STAGES, Stage
from surd.schemas import (
    BuildConfig,
    Captioned,
    Cleaned,
    Corrected,
    Decoded,
    Marker,
    Pair,
    Rewritten,
    Row,
    Scored,
    SourceRecord,
    load_config,
)
from surd.schemas.shard_format.tar import add_member

PART = {"score": 100}
WIDTH = 64
WORDS = [
    f"{first}{last}" for first in ("blu", "gre", "sto", "mar", "cla", "vin") for last in ("ter", "nel", "dow", "ish")
]


def prompt(rng: random.Random) -> str:
    return ", ".join(rng.sample(WORDS, 8)) + f", {rng.randrange(10**6)} things"


def picture(rng: random.Random) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.frombuffer(rng.randbytes(32 * 32 * 3), np.uint8).reshape(32, 32, 3)).save(buffer, "PNG")
    return buffer.getvalue()


def row_of(stage: Stage, key: str, rng: random.Random) -> Row:
    """A stage's row for a sound record."""
    text, vector = prompt(rng), np.asarray([rng.gauss(0, 1) for _ in range(WIDTH)], np.float32)
    unit = (vector / np.linalg.norm(vector)).tolist()
    fields: dict[type[Row], dict[str, Any]] = {
        SourceRecord: {"source": "synthetic", "source_id": key, "prompt": text},
        Decoded: {"phash": f"{rng.getrandbits(64):016x}"},
        Cleaned: {"complex": text, "keywords": text.split(", ")},
        Scored: {"image_embedding": unit, "complex_embedding": unit, "clip_complex": 0.5},
        Captioned: {"captions": [text]},
        Rewritten: {"rewrites": [text]},
        Corrected: {"simple": text, "clip_simple": 0.5, "clip_complex": 0.5, "simple_embedding": unit},
    }
    assert stage.row
    if stage.row is Pair:
        fields[Pair] = {"sha256": hashlib.sha256(key.encode()).hexdigest(), "ext": "png", "size": 1, "offset": 0,
                       "width": 32, "height": 32, "prompt": text,
                       "prompt_origin": "source"}  # fmt: skip
    own = {name: value for name, value in fields.get(stage.row, {}).items() if name in stage.row.model_fields}
    return stage.row(key=key, **own)


def write_inputs(build: Build, measured: Stage, size: int) -> None:
    """The rows of every stage before ``measured``, in partitions."""
    part_size = PART.get(measured.name, 1000)
    before = STAGES[: STAGES.index(measured)]
    for part, start in enumerate(range(0, size, part_size)):
        keys = [f"{number:016x}" for number in range(start, min(start + part_size, size))]
        for stage in before:
            if not stage.row:
                continue
            rng = random.Random(f"{stage.name} {part}")
            rows = [row_of(stage, key, rng) for key in keys]
            if stage.name == "fetch":
                write_bytes(build, part, rows, rng)
            build.write_rows(stage.name, part, stage.row, rows)
    outputs = {part_file("collect", 0): ""}
    marker = Marker(stage="collect", part=0, parts=part + 1, fingerprint="", outputs=outputs, rows=size, seconds=0)
    build.write_marker(marker)


def write_bytes(build: Build, part: int, rows: list[Any], rng: random.Random) -> None:
    """The partition's tar, one tiny picture for all its rows."""
    data = picture(rng)
    with build.writing(part_tar("fetch", part)) as file, tarfile.open(fileobj=file, mode="w|") as tar:  # type: ignore[call-overload]
        add_member(tar, "all.png", data)
    array = io.BytesIO()
    np.save(array, np.frombuffer(rng.randbytes(len(rows) * 32 * 32 * 3), np.uint8).reshape(-1, 32, 32, 3))
    build.write_bytes(part_miniatures(part), array.getvalue())
    rows[:] = [row.model_copy(update={"offset": 512, "size": len(data)}) for row in rows]  # behind the tar's header


def run(name: str, size: int, config: BuildConfig) -> None:
    stage = BY_NAME[name]
    with tempfile.TemporaryDirectory() as folder:
        build, models = Build(folder), Models(config.models)
        child = os.fork()  # writing the inputs must not count
        if child == 0:
            status = 1
            try:
                write_inputs(build, stage, size)
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        assert status == 0, "the inputs were written"
        if stage.scope == "partition":
            for part in range(build.part_count()):
                build.write_rows(name, part, stage.row, stage.load()(build, part, config, models))
        else:
            for part, rows in enumerate(stage.load()(build, config, models)):
                build.write_rows(name, part, stage.row, rows)


if __name__ == "__main__":
    set_up_process()
    run(sys.argv[1], int(sys.argv[2]), load_config({}))
    # Not getrusage: its peak includes the memory of the parent process.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak
    print(int(peak.group(1)) // 1024)
