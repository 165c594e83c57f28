"""Speed of fetch, compared with img2dataset and bare loops: one nginx, the same URLs and cores, in one run.

    python -m tests.bench.fetch --size 20000

``original``: images/s, processor time and memory while original bytes are kept, against img2dataset (``--resize_mode no
--skip_reencode True``, 2 processes, 32 threads) and a plain asyncio loop; the cost of the stage decode, which then
checks the pixels, is printed as well. ``resized``: the same at 512 pixels and JPEG quality 95, against img2dataset and
a loop that only decodes, resizes and encodes; the cost of a plain loop that also resizes its downloads is printed as
well. ``flat``: cost per record of 1,000 and of 50,000 small images in one process, and the time to skip the latter when
done. Each program runs as a process of its own; time and memory are those of its whole process tree, start-up included.
img2dataset is installed in ``.venv-bench``.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from rich.console import Console
from rich.table import Table

from surd.pipeline.runner.process_setup import set_up_process
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.stages import BY_NAME
from surd.schemas import load_config
from tests.bench.fetch_programs import CONCURRENCY, QUALITY, SIZE
from tests.bench.fetch_server import nginx, path_of, write_pictures
from tests.bench.figures import Figure
from tests.bench.process_tree import Cost, measured

PEER = Path(__file__).parents[2] / ".venv-bench"
FEW, MANY = 1_000, 50_000
_CONSOLE = Console()


def img2dataset(folder: Path, *options: str) -> list[str]:
    """The command of img2dataset on a list; every other option is its default."""
    return [
        str(PEER / "bin/img2dataset"), f"--url_list={folder / 'urls.parquet'}", "--input_format=parquet",
        "--url_col=url", "--caption_col=prompt", f"--output_folder={folder / 'out'}", "--output_format=webdataset",
        "--processes_count=2", "--thread_count=32", "--number_sample_per_shard=1000", *options,
    ]  # fmt: skip


def ours(program: str, folder: Path) -> list[str]:
    return [sys.executable, "-m", "tests.bench.fetch_programs", program, str(folder)]


def write_list(folder: Path, server: str, kind: str, size: int) -> Path:
    """A folder with the list of URLs in the two formats that the programs read."""
    folder.mkdir()
    urls = [server + path_of(kind, number) for number in range(size)]
    (folder / "urls.txt").write_text("\n".join(urls))
    pq.write_table(pa.table({"url": urls, "prompt": [f"photo {n}" for n in range(size)]}), folder / "urls.parquet")
    return folder


def collected(folder: Path, server: str, kind: str, size: int, **fetch: Any) -> Path:
    """A build of such a list with collect done: all checks on, only the per-host limits raised."""
    write_list(folder, server, kind, size)
    limits = {"concurrency": CONCURRENCY, "per_host_concurrency": CONCURRENCY, "per_host_rate": 1_000_000}
    settings = {"source": f"urls:{folder / 'urls.parquet'}", "fetch": limits | {"allow_hosts": ["127.0.0.1"]} | fetch}
    (folder / "config.json").write_text(json.dumps(settings))
    run_unit(BY_NAME["collect"], 0, str(folder), load_config(settings))
    return folder


def pictures(folder: Path, count: int) -> list[Image.Image]:
    """The first pictures of the list. Our tars are in its order; of img2dataset's only the names in them are."""
    with tarfile.open(min(tars_of(folder))) as tar:
        members = [member for member in tar if member.name.endswith((".jpg", ".png"))]
        if (folder / "out").exists():
            members.sort(key=lambda member: member.name)
        files = [tar.extractfile(member) for member in members[:count]]
        return [Image.open(io.BytesIO(file.read())).convert("RGB") for file in files if file]


def likeness(shown: list[Image.Image], folder: Path) -> float:
    """Mean PSNR in dB to the originals, resized by Lanczos."""
    files = {path.stem: path for path in (folder / "www/photos").iterdir()}
    ratios = []
    for number, picture in enumerate(shown):
        with Image.open(files[f"{number % len(files):03}"]) as original:
            expected = original.convert("RGB").resize(picture.size, Image.Resampling.LANCZOS)
        error = np.asarray(picture, float) - np.asarray(expected, float)
        ratios.append(10 * np.log10(255**2 / (error**2).mean()))
    return float(np.mean(ratios))


def original(folder: Path, server: str, size: int) -> Iterator[Figure]:
    build = collected(folder / "stage", server, "photos", size)
    stage = run("stage", size, ours("stage", build))
    run("decode, the next stage", size, ours("decode", build))
    peer = write_list(folder / "peer", server, "photos", size)
    other = run("img2dataset", size, img2dataset(peer, "--resize_mode=no", "--skip_reencode=True"))
    loop = run("plain loop", size, ours("plain", write_list(folder / "plain", server, "photos", size)))
    check(build, peer, size)
    yield Figure("original_speed_to_img2dataset", other.wall / stage.wall, ">=", 4.0)
    yield Figure("original_cpu_to_img2dataset", stage.cpu / other.cpu, "<=", 0.25)
    yield Figure("original_memory_to_img2dataset", stage.memory / other.memory, "<=", 0.6)
    yield Figure("original_time_to_plain_loop", stage.wall / loop.wall, "<=", 1.5)


def resized(folder: Path, server: str, size: int) -> Iterator[Figure]:
    build = collected(folder / "stage", server, "photos", size, image_size=SIZE, quality=QUALITY)
    stage = run("stage, 512", size, ours("stage", build))
    peer = write_list(folder / "peer", server, "photos", size)
    options = ("--resize_mode=keep_ratio_largest", "--resize_only_if_bigger=True")
    other = run(
        "img2dataset, 512", size, img2dataset(peer, f"--image_size={SIZE}", f"--encode_quality={QUALITY}", *options)
    )
    loop = run("bare codec", size, ours("bare", write_list(folder / "bare", server, "photos", size)))
    run("plain loop, 512", size, ours("smaller", write_list(folder / "smaller", server, "photos", size)))
    check(build, peer, size)
    yield Figure("resized_speed_to_img2dataset", other.wall / stage.wall, ">=", 1.0)
    yield Figure("resized_time_to_bare_codec", stage.wall / loop.wall, "<=", 1.15)
    quality = [likeness(pictures(made, 50), folder.parent) for made in (build, peer)]
    _CONSOLE.print(f"likeness to the original: {quality[0]:.2f} dB, img2dataset {quality[1]:.2f} dB")
    yield Figure("resized_psnr_less_img2dataset", quality[0] - quality[1], ">=", -0.1)


def flat(folder: Path, server: str, size: int) -> Iterator[Figure]:
    few, many = min(FEW, size), MANY if size >= 20_000 else 10 * min(FEW, size)
    one = {"processes": 1}  # the cost of a process must not depend on their number
    small = run(f"stage, {few:,} small", few, ours("stage", collected(folder / "few", server, "small", few, **one)))
    build = collected(folder / "many", server, "small", many, **one)
    large = run(f"stage, {many:,} small", many, ours("stage", build))
    again = run(f"stage, {many:,} done", many, ours("stage", build))
    yield Figure("flat_cpu_per_record", (large.cpu / many) / (small.cpu / few), "<=", 1.1)
    yield Figure("flat_memory", large.memory / small.memory, "<=", 1.25)
    yield Figure("resume_finished_seconds", again.wall, "<", 5.0)


def run(name: str, size: int, command: list[str]) -> Cost:
    """Run a program to its end and print its cost."""
    cost = measured(command)
    per = 1000 / size
    _CONSOLE.print(
        f"{name:22} {size:7,} images {cost.wall:8.1f} s {size / cost.wall:8.0f} images/s"
        f" {cost.cpu * per:8.2f} ms processor each {cost.memory / 2**20:7.0f} MB",
        highlight=False,
    )
    return cost


def tars_of(folder: Path) -> list[Path]:
    return [*folder.glob("fetch/*.tar"), *folder.glob("out/*.tar")]


def check(build: Path, peer: Path, size: int) -> None:
    """Make sure that neither tool is fast because it left images out."""
    for folder in (build, peer):
        count = 0
        for path in tars_of(folder):
            with tarfile.open(path) as tar:
                count += sum(name.endswith((".jpg", ".png")) for name in tar.getnames())
        if count != size:
            raise SystemExit(f"{folder.name} has {count:,} of {size:,} images: the runs cannot be compared")


def install_peer() -> None:
    """Install img2dataset in a virtual environment of its own, so that it does not change ours."""
    if not (PEER / "bin/img2dataset").exists():
        _CONSOLE.print(f"installing img2dataset into {PEER.name} (about 800 MB)")
        venv.create(PEER, with_pip=True)
        subprocess.run([PEER / "bin/pip", "install", "--quiet", "img2dataset"], check=True)


PARTS: dict[str, Callable[[Path, str, int], Iterator[Figure]]] = {
    "original": original,
    "resized": resized,
    "flat": flat,
}


def main() -> int:
    """Print a table and one JSON line of every figure beside its goal; 1 if one misses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=20_000)
    parser.add_argument("--only", choices=PARTS, action="append")
    args = parser.parse_args()
    set_up_process()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="bench-fetch-") as made:
        folder = Path(made)
        write_pictures(folder)
        with nginx(folder) as server:
            install_peer()
            for name in args.only or PARTS:
                with tempfile.TemporaryDirectory(dir=folder) as room:
                    figures += PARTS[name](Path(room), server, args.size)
    table = Table("figure", "value", "goal", "")
    for figure in figures:
        table.add_row(figure.name, f"{figure.value:.3f}", figure.goal, "" if figure.met else "missed")
    _CONSOLE.print(table)
    missed = [figure.name for figure in figures if not figure.met]
    print(json.dumps({"figures": {figure.name: figure.document() for figure in figures}, "missed": missed}))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
