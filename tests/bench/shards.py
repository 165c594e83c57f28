"""make bench-shards: speed of writing and reading shards compared with bare loops, and exactness of resuming.

Every ratio is the median of rounds in which both sides run one after the other in this process, on the same files in
the page cache: the code is measured, not the disk. Ratios are of processor time, which does not depend on the load of
the machine; those of wall time are printed as well, and include waiting for the disk: pack syncs its shards, the bare
loop does not. Reading is compared with plain ``webdataset``, writing with ``tarfile`` and ``hashlib`` in a loop.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import webdataset
from PIL import Image, ImageOps
from rich.console import Console
from rich.table import Table

from sur_adapter.data.shard_dataset import ShardDataset
from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.shards import Planned, write_samples
from tests.bench.figures import Figure
from tests.bench.shard_build import COLUMNS, multiply, plan, write_columns, write_shards

ROUNDS = 5
BATCH = 16
PIXELS = 512
STOPS = 20


def timed(run: Callable[[], int]) -> tuple[float, float]:
    """Units per second of processor time and of wall time; ``run`` returns the number of units."""
    wall, cpu = time.perf_counter(), time.process_time()
    units = run()
    return units / (time.process_time() - cpu), units / (time.perf_counter() - wall)


def compare(ours: Callable[[], int], bare: Callable[[], int], console: Console, what: str, unit: str) -> float:
    """Median over the rounds of our units per second over the bare loop's, of processor time."""
    rounds = [(timed(ours), timed(bare)) for _ in range(ROUNDS)]
    rate, bare_rate = (statistics.median(cpu_rate for cpu_rate, _ in side) for side in zip(*rounds, strict=True))
    cpu, wall = (statistics.median(one[at] / other[at] for one, other in rounds) for at in (0, 1))
    console.print(
        f"{what}: {rate:,.0f} against {bare_rate:,.0f} {unit}/s, {cpu:.2f}x; wall time {wall:.2f}x", highlight=False
    )
    return cpu


def read_bytes(pattern: str) -> int:
    """Image bytes and both texts of every sample, in the shuffled order of an epoch."""
    data = ShardDataset(pattern)
    samples = [len(data.read(place).image or b"") for place in data.order(seed=0).locations(0, len(data))]
    return len(samples)


def webdataset_bytes(pattern: str) -> int:
    """The same by webdataset, in order, which is faster than with a shuffle."""
    samples = [
        (len(sample["jpg"]), sample["simple.txt"].decode(), sample["complex.txt"].decode())
        for sample in webdataset.WebDataset(pattern, shardshuffle=False)
    ]
    return len(samples)


def read_batches(pattern: str, batches: int, columns: tuple[str, ...] = (), image: bool = True) -> int:
    """Batches of images, or of columns instead, ready for training."""
    data = ShardDataset(pattern, columns=columns, image=image)
    loader = data.loader(batch_size=BATCH, image_size=PIXELS, seed=0)
    return sum(len(batch.keys) for batch in islice(loader, batches))


def webdataset_batches(pattern: str, batches: int) -> int:
    """The same batches of images by webdataset and the same decoding."""

    def prepare(sample: tuple[Image.Image, str, str]) -> tuple[torch.Tensor, str, str]:
        image, simple, complex_ = sample
        pixels = np.asarray(ImageOps.fit(image.convert("RGB"), (PIXELS, PIXELS), Image.Resampling.LANCZOS))
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 127.5 - 1, simple, complex_

    pipeline = webdataset.WebDataset(pattern, shardshuffle=False).decode("pil")
    loader = pipeline.to_tuple("jpg", "simple.txt", "complex.txt").map(prepare).batched(BATCH)
    return sum(len(texts) for _, texts, _ in islice(loader, batches))


def pack_bytes(build: Build, groups: list[list[Planned]]) -> int:
    """Bytes written by pack's own writer: hashed, synced to disk, and renamed into place."""
    size = 0
    for number, group in enumerate(groups):
        with build.writing(f"written/surd-{number:05d}.tar") as file:
            write_samples(build, file, group)
        size += file.size
    return size


def tarfile_bytes(build: Build, groups: list[list[Planned]]) -> int:
    """The same members by tarfile, and the sha256 of each tar, without sync and rename."""
    size = 0
    with Path(build.path("fetch/part-00000.tar")).open("rb") as images:
        for number, group in enumerate(groups):
            path = Path(build.path(f"written/bare-{number:05d}.tar"))
            with tarfile.open(path, "w") as tar:
                for item in group:
                    images.seek(item.pair.offset or 0)
                    sample = item.sample
                    members = {
                        "jpg": images.read(item.pair.size or 0),
                        "simple.txt": sample.simple.encode(),
                        "complex.txt": sample.complex.encode(),
                        "json": sample.model_dump_json().encode(),
                    }
                    for suffix, data in members.items():
                        info = tarfile.TarInfo(f"{sample.key}.{suffix}")
                        info.size = len(data)
                        tar.addfile(info, io.BytesIO(data))
            with path.open("rb") as file:
                hashlib.file_digest(file, "sha256")
            size += path.stat().st_size
    return size


def stream(pattern: str, workers: int, rank: int = 0, world: int = 1, epochs: int | None = None) -> Iterator[list[str]]:
    loader = ShardDataset(pattern, image=False).loader(
        batch_size=BATCH, seed=3, workers=workers, rank=rank, world=world, epochs=epochs
    )
    return (batch.keys for batch in loader)


def wrong_resumes(pattern: str, seed: int) -> int:
    """Number of random stops, of twenty, after which the keys differ from those of an uninterrupted run."""
    length = 2 * len(ShardDataset(pattern)) // BATCH
    whole = [key for keys in islice(stream(pattern, 0), length) for key in keys]
    pick, wrong = random.Random(seed), 0
    for _ in range(STOPS):
        stop, workers = pick.randrange(1, length), [pick.choice([0, 1, 2]) for _ in range(2)]
        parts: list[str] = []
        state = None
        for part, batches in enumerate((stop, length - stop)):
            loader = ShardDataset(pattern, image=False).loader(batch_size=BATCH, seed=3, workers=workers[part])
            if state:
                loader.load_state_dict(state)
            parts += [key for batch in islice(loader, batches) for key in batch.keys]
            state = json.loads(json.dumps(loader.state_dict()))
        wrong += parts != whole
    return wrong


def wrong_epochs(pattern: str, keys: set[str]) -> int:
    """Number of combinations of 1 to 3 ranks and 0 to 2 workers whose epoch misses or repeats a key, or is uneven."""
    wrong = 0
    for world in (1, 2, 3):
        for workers in (0, 1, 2):
            ranks = [list(stream(pattern, workers, rank, world, epochs=1)) for rank in range(world)]
            read = Counter(key for batches in ranks for keys in batches for key in keys)
            wrong += read != Counter(keys) or len({len(batches) for batches in ranks}) != 1
    return wrong


def in_a_process(pattern: str, *more: str) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.shard_reader", pattern, *more]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return result


def measure(folder: Path, size: int, seed: int, console: Console) -> list[Figure]:
    build = Build(str(folder / "build"))
    quarter = size // 4
    groups = plan(build, seed, [quarter + 3, quarter, quarter - 2, quarter - 1])
    write_shards(build, groups)
    write_columns(build, groups)
    pattern = f"{build.root}/shards/surd-{{00000..00003}}.tar"
    keys = {item.pair.key for group in groups for item in group}
    batches = max(1, min(size, 256) // BATCH)
    columns = tuple(COLUMNS)

    writing = compare(lambda: pack_bytes(build, groups), lambda: tarfile_bytes(build, groups), console, "writing", "B")
    plain = compare(
        lambda: read_bytes(pattern), lambda: webdataset_bytes(pattern), console, "bytes and texts", "samples"
    )
    decoded = compare(lambda: read_batches(pattern, batches), lambda: webdataset_batches(pattern, batches),
                     console, "decoded images", "samples")  # fmt: skip
    instead = compare(lambda: read_batches(pattern, 4 * batches, columns, image=False),
                     lambda: read_batches(pattern, batches), console, "columns against images", "samples")  # fmt: skip
    thousand = in_a_process(multiply(build, Build(str(folder / "thousand")), 250), "1")
    console.print(f"1,000 shards: first batch after {thousand['first_batch_s']:.2f} s", highlight=False)
    once = in_a_process(pattern)["peak_mb"]
    tenfold = in_a_process(multiply(build, Build(str(folder / "tenfold")), 10))["peak_mb"]
    console.print(f"peak memory: {once:.0f} MB, of tenfold data {tenfold:.0f} MB", highlight=False)
    return [
        Figure("write_against_tarfile", writing, ">=", 0.8),
        Figure("read_against_webdataset", plain, ">=", 1.0),
        Figure("decode_against_webdataset", decoded, ">=", 1.0),
        Figure("columns_against_images", instead, ">=", 5.0),
        Figure("first_batch_of_1000_shards_s", thousand["first_batch_s"], "<", 2.0),
        Figure("memory_of_tenfold_data", tenfold / once, "<=", 1.1),
        Figure("wrong_resumes_of_20", wrong_resumes(pattern, seed), "<=", 0),
        Figure("wrong_epochs_of_9", wrong_epochs(pattern, keys), "<=", 0),
    ]


def main() -> int:
    """Print every figure beside its goal and one JSON line of them; 1 if one misses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1000, help="samples")
    parser.add_argument("--seed", type=int, default=6001)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), args.size, args.seed, console)
    table = Table("figure", "value", "goal", "met")
    for one in figures:
        table.add_row(one.name, f"{one.value:.3f}", one.goal, "yes" if one.met else "NO")
    console.print(table)
    missed = [one.name for one in figures if not one.met]
    print(json.dumps({"figures": {one.name: one.document() for one in figures}, "missed": missed}))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
