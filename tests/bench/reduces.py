"""Memory and time of the reduces over builds of synthetic records, and what a grown build keeps.

    python -m tests.bench.reduces [--small 50000 --large 200000 --grown 0.1]

Writes rows, miniatures and small pictures of two builds directly, with planted copies (resized crops with noise, the
same bytes, prompts with one of thirty keywords changed), and runs dedup, select (also with max_similarity, as
select_one), pack, report and the summary, each in a process of its own. Compares the two sizes: peak memory, and
processor time a record, which the load of the machine changes little. Counts the planted copies that dedup found, and
those of pictures that select_one did. Then adds
records to the larger build, of which a few are better copies of old ones, packs it again and counts the tars that
stayed. The last line is one JSON document of figures beside their goals; exit code 1 where one is missed.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image
from pydantic import BaseModel

from surd.pipeline.build.folder import Build, part_file, part_miniatures, part_tar
from surd.pipeline.inspection.nothing_kept import check_kept
from surd.pipeline.inspection.summary import summarize
from surd.pipeline.models import Models
from surd.pipeline.runner.process_setup import set_up_process
from surd.pipeline.stages import BY_NAME, Stage
from surd.schemas import (
    BuildConfig,
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
    load_config,
)
from surd.schemas.arrow import to_table
from surd.schemas.manifest import ShardManifest
from surd.schemas.shard_format.tar import add_member, padded

if TYPE_CHECKING:
    from tests.bench.figures import Figure

PART = 1000
COPIES, SAME_BYTES, SAME_PROMPT = 0.05, 0.01, 0.03  # parts of the records that are planted copies of an earlier one
MEASURED = ("dedup", "select_one", "select", "pack", "report", "summary")
MEMORY, DEDUP_TIME = 1.2, 1.3  # the larger build beside the smaller, at most
GOALS = {f"memory_{name}": MEMORY for name in MEASURED} | {"time_dedup": DEDUP_TIME}
MILLION, MILLION_MB = 1_000_000, 2000
SIDE = 7  # an embedding has 3 * SIDE * SIDE numbers
RECALL, UNCHANGED = 0.98, 0.8  # at least
BETTER_COPIES = 2  # of the records that are added: each takes an old one's place
KEYWORDS = 30
ALIKE = 0.95  # cosine over which select_one keeps one of two pictures
_SYLLABLES = (("blu", "gre", "sto", "mar", "cla", "vin"), ("te", "ne", "do", "ra", "lo", "mi"), ("r", "l", "w", "nd"))
_WORDS = ["".join(syllables) for syllables in product(*_SYLLABLES)]


class Pictures:
    """Miniatures of smooth random pictures, and of crops of them: sums of tents on grids of three sizes.

    One in two resembles the others of its theme (twenty pictures a theme), as pictures of one artist or model do.
    """

    GRIDS, STRENGTHS = (4, 9, 17), (60.0, 26.0, 12.0)

    def __init__(self, count: int) -> None:
        self._themes = max(1, count // 20)

    def miniatures(self, numbers: npt.NDArray[np.int64], crops: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """Miniatures [rows, 32, 32, 3] of the pictures of these numbers; ``crops`` [rows, 4] is what is cut off."""
        total = np.full((len(numbers), 32, 32, 3), 128, np.float32)
        for grid, strength in zip(self.GRIDS, self.STRENGTHS, strict=True):
            weights = self._weights(numbers, grid)
            down, across = (_tents(grid, crops[:, at], crops[:, at + 1]) for at in (0, 2))
            rows = (down @ weights.reshape(len(numbers), grid, -1)).reshape(-1, 32, grid, 3)
            total += np.float32(strength) * (across[:, None] @ rows)
        noise = (
            np.random.default_rng(int(numbers[0])).standard_normal(total.shape, np.float32)
            * 2
            * crops.any(1)[:, None, None, None]
        )
        return (total + noise).clip(0, 255).astype(np.uint8)

    def _weights(self, numbers: npt.NDArray[np.int64], grid: int) -> npt.NDArray[np.float32]:
        own = _noise(numbers, grid)
        themes = _noise(numbers // 2 % self._themes, grid + 1000)
        return np.where(numbers[:, None, None, None] % 2, own, np.float32(0.7) * (own + themes))


def _noise(numbers: npt.NDArray[np.int64], kind: int) -> npt.NDArray[np.float32]:
    """Random numbers of variance 1 for each of ``numbers``, [rows, grid, grid, 3], the same ones each time."""
    grid = kind % 1000
    seeds = np.arange(grid * grid * 3, dtype=np.uint64) + np.uint64(kind << 16)
    mixed = numbers.astype(np.uint64)[:, None] * np.uint64(0x9E3779B97F4A7C15) ^ seeds * np.uint64(0xBF58476D1CE4E5B9)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    uniform = (mixed >> np.uint64(40)).astype(np.float32) / 2**24
    return ((uniform - np.float32(0.5)) * np.float32(12**0.5)).reshape(-1, grid, grid, 3)


def _tents(grid: int, low: npt.NDArray[np.float32], high: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """How much each of 32 cells of a side cropped at both ends takes of each point of a grid, [rows, 32, grid]."""
    cells = low[:, None] + (1 - low - high)[:, None] * ((np.arange(32, dtype=np.float32) + 0.5) / 32)
    tents: npt.NDArray[np.float32] = (
        1 - np.abs(cells[..., None] * (grid - 1) - np.arange(grid, dtype=np.float32))
    ).clip(0)
    return tents


class Records:
    """Synthetic records by number; every fact of one follows from its number, and so does what it is a copy of."""

    def __init__(self, count: int, *, better: range = range(0)) -> None:
        self.count, self._better = count, better
        self.pictures = Pictures(count)

    def key(self, number: int) -> str:
        return hashlib.sha256(f"key {number}".encode()).hexdigest()[:16]

    @cache  # noqa: B019  # as long as the process
    def kind(self, number: int) -> str:
        """What is planted: ``copy``, ``bytes`` or ``prompt`` of an original, or ``""`` for an original."""
        share = _share("kind", number)
        if number in self._better:
            return "better"
        bounds = (("copy", COPIES), ("bytes", COPIES + SAME_BYTES), ("prompt", COPIES + SAME_BYTES + SAME_PROMPT))
        return next((kind for kind, bound in bounds if share < bound), "") if number else ""

    def original(self, number: int) -> int:
        """The original that a record is a copy of, itself if of none; always an earlier one."""
        while self.kind(number):
            number = int(_share("original", number) * number)
        return number

    def crop(self, number: int) -> list[float]:
        return [0.045 * _share(f"crop {side}", number) for side in range(4)]

    def keywords(self, number: int, *, changed: bool = False) -> list[str]:
        words = random.Random(number).sample(_WORDS, KEYWORDS - 1)
        return [*words[changed:], *(["changed"] if changed else []), f"number {number}"]


def _share(what: str, number: int) -> float:
    return int.from_bytes(hashlib.blake2b(f"{what} {number}".encode(), digest_size=6).digest(), "big") / 2**48


def write_records(build: Build, records: Records, first: int = 0) -> None:
    """Rows of every stage before pack, miniatures and pictures, in partitions from ``first`` on; all are selected."""
    for part, start in enumerate(range(first, records.count, PART), -(-first // PART)):
        numbers = np.arange(start, min(start + PART, records.count))
        _write_fetched(build, part, records, numbers)
        _write_judged(build, part, records, numbers)
    marker = Marker(stage="collect", part=0, parts=part + 1, fingerprint="", outputs={part_file("collect", 0): ""},
                    rows=records.count, seconds=0)  # fmt: skip
    build.write_marker(marker)


def _shown(records: Records, numbers: npt.NDArray[np.int64]) -> list[int]:
    """The number of the picture that each of these records shows."""
    copies = ("copy", "bytes", "better")
    return [records.original(number) if records.kind(number) in copies else number for number in numbers.tolist()]


def _prompts(records: Records, numbers: npt.NDArray[np.int64]) -> list[list[str]]:
    """The keywords of each of these records."""
    return [records.keywords(records.original(number), changed=True) if records.kind(number) == "prompt"
            else records.keywords(number) for number in numbers.tolist()]  # fmt: skip


def _write_fetched(build: Build, part: int, records: Records, numbers: npt.NDArray[np.int64]) -> None:
    """What collect, fetch and decode leave of a partition."""
    kinds = [records.kind(number) for number in numbers.tolist()]
    keys = [records.key(number) for number in numbers.tolist()]
    shows = _shown(records, numbers)
    crops = [records.crop(number) if kind == "copy" else [0.0] * 4
             for number, kind in zip(numbers.tolist(), kinds, strict=True)]  # fmt: skip
    with io.BytesIO() as array:
        np.save(array, records.pictures.miniatures(np.array(shows), np.array(crops, np.float32)))
        build.write_bytes(part_miniatures(part), array.getvalue())
    sides = [{"": 16, "better": 32}.get(kind, 8) for kind in kinds]
    pictures = [
        _png(show, 16) if kind == "bytes" else _png(number, side)
        for number, kind, show, side in zip(numbers.tolist(), kinds, shows, sides, strict=True)
    ]
    offsets = []
    with build.writing(part_tar("fetch", part)) as file, tarfile.open(fileobj=file, mode="w|") as tar:  # type: ignore[call-overload]
        for key, data in zip(keys, pictures, strict=True):
            add_member(tar, f"{key}.png", data)
            offsets.append(tar.offset - padded(len(data)))
    texts = [", ".join(words) for words in _prompts(records, numbers)]
    pairs = {"sha256": [hashlib.sha256(data).hexdigest() for data in pictures], "ext": "png", "width": sides,
             "height": sides, "size": [len(data) for data in pictures], "offset": offsets, "prompt": texts,
             "prompt_origin": "source"}  # fmt: skip
    rows = {"source": "synthetic", "source_id": keys, "prompt": texts}
    build.write_table(part_file("collect", part), _table(SourceRecord, keys, rows))
    build.write_table(part_file("fetch", part), _table(Pair, keys, pairs))
    build.write_table(part_file("decode", part), _table(Decoded, keys, {"phash": "0" * 16}))


def _write_judged(build: Build, part: int, records: Records, numbers: npt.NDArray[np.int64]) -> None:
    """What the stages from clean to select leave of it, but for dedup, which is measured."""
    keys = [records.key(number) for number in numbers.tolist()]
    keywords = _prompts(records, numbers)
    sentences = [f"A picture of {words[0]} and {words[1]}." for words in keywords]
    images = _vectors(np.array(_shown(records, numbers)), SIDE)
    texts = _unit(images + _vectors(numbers, SIDE + 2000))
    scores: dict[str, Any] = {
        f"clip_{kind}": [0.4 + 0.2 * _share(kind, number) for number in numbers.tolist()]
        for kind in ("simple", "complex")
    }
    repairs = [["colour: red -> blue (0.1 -> 0.2)"] if number % 50 == 0 else None for number in numbers.tolist()]
    corrected = {"simple": sentences, "method": "caption", "decision": "keep", "repairs": repairs, "facts_checked": 3,
                 "candidates": [[text] for text in sentences], "simple_embedding": list(texts), **scores}  # fmt: skip
    stages: dict[str, tuple[type[BaseModel], dict[str, Any]]] = {
        "clean": (Cleaned, {"complex": [", ".join(words) for words in keywords], "keywords": keywords}),
        "safety": (Safe, {"nsfw_image": 0.0}),
        "score": (Scored, {"clip_complex": 0.5, "image_embedding": list(images), "complex_embedding": list(texts)}),
        "caption": (Captioned, {"captions": [[text] for text in sentences]}),
        "rewrite": (Rewritten, {"rewrites": [[text] for text in sentences]}),
        "correct": (Corrected, corrected),
        "select": (Selected, scores),
    }
    for stage, (model, values) in stages.items():
        build.write_table(part_file(stage, part), _table(model, keys, values))


def _vectors(numbers: npt.NDArray[np.int64], kind: int) -> npt.NDArray[np.float32]:
    """A direction for each of these numbers, the same one each time."""
    return _unit(_noise(numbers, kind).reshape(len(numbers), -1))


def _unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    directions: npt.NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return directions


def _png(number: int, side: int) -> bytes:
    """A picture that no other number has."""
    buffer = io.BytesIO()
    Image.frombytes("RGB", (side, side), random.Random(number).randbytes(side * side * 3)).save(buffer, "PNG")
    return buffer.getvalue()


def _table(model: type[BaseModel], keys: list[str], values: dict[str, Any]) -> pa.Table:
    """Rows of a stage: ``values`` are lists, or what every row has; other columns are those of a fresh row."""
    columns = {"key": keys, **{name: value for name, value in values.items() if isinstance(value, list)}}
    first = {name: value[0] for name, value in columns.items()}
    plain = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in first.items()}
    fresh = to_table(model, [model.model_validate({**values, **plain})])
    return pa.table(
        [
            pa.array(columns[field.name], field.type)
            if field.name in columns
            else pa.repeat(fresh[field.name][0], len(keys)).cast(field.type)
            for field in fresh.schema
        ],
        schema=fresh.schema,
    )


def measure(name: str, folder: Path, full: int) -> dict[str, float]:
    """Seconds and peak megabytes of a process that does one of ``MEASURED`` over a build."""
    command = [sys.executable, "-m", "tests.bench.reduces", "--shard", str(full), "--run", name, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def run(name: str, folder: str, full: int) -> None:
    """What the measured process does."""
    set_up_process()
    params: dict[str, Any] = {"pack.max_count": full}
    if name == "select_one":
        params["select.max_similarity"] = ALIKE
    build, config = Build(folder), load_config({}, params)
    started, spent = time.perf_counter(), time.process_time()
    if name == "summary":
        check_kept(build, config)
        summarize(build, [])
    else:
        _run_stage(BY_NAME[name.partition("_")[0]], build, config)
    seconds, spent = time.perf_counter() - started, time.process_time() - spent
    # Not getrusage: its peak includes the memory of the parent process.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak
    print(json.dumps({"mb": int(peak.group(1)) / 1024, "seconds": seconds, "processor_seconds": spent}))


def _run_stage(stage: Stage, build: Build, config: BuildConfig) -> None:
    for part, rows in enumerate(stage.load()(build, config, Models(config.models))):
        if stage.row:
            build.write_rows(stage.name, part, stage.row, rows)


def recall(build: Build, records: Records) -> dict[str, float]:
    """Of each kind of planted copies the part that dedup rejected, and of originals the part that it kept."""
    found: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for part in range(build.part_count()):
        for at, row in enumerate(build.read_rows("dedup", part, Deduped)):
            kind = records.kind(part * PART + at)
            count[kind] += 1
            found[kind] += row.kept is (kind == "")
    return {kind or "kept": round(found[kind] / count[kind], 4) for kind in sorted(count)}


def recall_of_select(build: Build, records: Records) -> float:
    """Of the planted copies of a picture the part of which select kept none beside another one, with ``select_one``."""
    shown: dict[int, int] = Counter()
    kept: dict[int, int] = Counter()
    for part in range(build.part_count()):
        rows = build.read_rows("select", part, Selected)
        for show, row in zip(_shown(records, part * PART + np.arange(len(rows))), rows, strict=True):
            shown[show] += 1
            kept[show] += row.kept
    return round(sum(shown[show] - kept[show] for show in shown) / sum(count - 1 for count in shown.values()), 4)


def tars(build: Build) -> dict[str, str]:
    manifest = ShardManifest.model_validate_json(build.read_bytes("shards/manifest.json"))
    return {shard.name: shard.sha256 for shard in manifest.shards}


def compare(folder: Path, small: int, large: int, grown: float, full: int) -> dict[str, Any]:
    """Every figure; the builds lie below ``folder``."""
    figures: dict[str, Any] = {"cores": os.cpu_count(), "sizes": [small, large]}
    of_size = {}
    for size in (small, large):
        build, records = Build(str(folder / str(size))), Records(size)
        write_records(build, records)
        of_size[size] = {}
        for name in MEASURED:
            of_size[size][name] = measure(name, folder / str(size), full)
            if name == "select_one":
                figures["recall_select"] = recall_of_select(build, records)
        print(f"{size:,} records: {of_size[size]}", flush=True)
    for stage in MEASURED:
        one, other = of_size[small][stage], of_size[large][stage]
        figures[f"mb_{stage}"] = [round(one["mb"]), round(other["mb"])]
        figures[f"us_a_record_{stage}"] = [
            round(each[stage]["processor_seconds"] / size * 1e6) for size, each in of_size.items()
        ]
        a_record = max(0.0, other["mb"] - one["mb"]) / (large - small)
        figures[f"mb_million_{stage}"] = round(other["mb"] + a_record * (MILLION - large))  # as if it grew on so
        figures[f"memory_{stage}"] = round(other["mb"] / one["mb"], 2)
        figures[f"time_{stage}"] = round(other["processor_seconds"] / large / (one["processor_seconds"] / small), 2)
    figures["recall"] = recall(build, records)
    return figures | _grow(build, large, round(large * grown), full)


def _grow(build: Build, before: int, more: int, full: int) -> dict[str, Any]:
    """Pack again after more records came, of which some are better copies of old ones."""
    old = tars(build)
    records = Records(before + more, better=range(before, before + BETTER_COPIES))
    write_records(build, records, before)
    losers = {records.key(records.original(number)) for number in range(before, before + BETTER_COPIES)}
    for part in range(build.part_count()):
        rows = build.read_rows("select", part, Selected)
        if any(row.key in losers for row in rows):
            rows = [row.reject("select", Reason.DUPLICATE_SEMANTIC) if row.key in losers else row for row in rows]
            build.write_rows("select", part, Selected, rows)
    figures = measure("pack", Path(build.root), full)
    new = tars(build)
    unchanged = sum(old[name] == sha256 for name, sha256 in new.items() if name in old)
    return {
        "grown_by": more,
        "grown_pack_seconds": round(figures["seconds"], 1),
        "shards_before": len(old),
        "shards_unchanged": round(unchanged / len(old), 3),
    }


def beside_goals(figures: dict[str, Any]) -> list[Figure]:
    """Those of the figures that have a goal."""
    from tests.bench.figures import Figure  # not above: the measured processes would hold all that it imports

    compared = [Figure(name, figures[name], "<=", most) for name, most in GOALS.items()]
    million = [Figure(f"mb_million_{name}", figures[f"mb_million_{name}"], "<", MILLION_MB) for name in MEASURED]
    found = {**figures["recall"], "select": figures["recall_select"]}
    recalls = [Figure(f"recall_{kind}", share, ">=", RECALL) for kind, share in found.items()]
    return [*compared, *million, *recalls, Figure("shards_unchanged", figures["shards_unchanged"], ">=", UNCHANGED)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=50_000)
    parser.add_argument("--large", type=int, default=200_000)
    parser.add_argument("--grown", type=float, default=0.1, help="records that are added, beside those of the larger")
    parser.add_argument("--shard", type=int, default=1000, help="samples of a shard")
    parser.add_argument("--folder", help="where the builds are written and stay; else a temporary one")
    parser.add_argument("--run", nargs=2, metavar=("STAGE", "BUILD"), help="what the measured processes do")
    args = parser.parse_args()
    if args.run:
        run(*args.run, args.shard)
        return
    with tempfile.TemporaryDirectory() as temporary:
        figures = compare(Path(args.folder or temporary), args.small, args.large, args.grown, args.shard)
    print(json.dumps(figures))
    goals = beside_goals(figures)
    met = all(figure.met for figure in goals)
    print(json.dumps({"met": met, "figures": {figure.name: figure.document() for figure in goals}}))
    sys.exit(not met)


if __name__ == "__main__":
    main()
