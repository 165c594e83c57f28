"""make bench-buckets: what aspect-ratio buckets leave of pictures, and what they cost a training.

The first part takes pictures in the shapes of cameras, phones and screens, and of some that were cropped by hand, and
counts what is cut off each of them in the square and in its bucket, for models of 512 and 1,024 pixels. The second
trains from columns, in turn on squares and on buckets: a model with the shape of Stable Diffusion 1.5 at a quarter of
its widths and half its sides. Buckets have nearly the pixels of the square; the ratio of steps is taken at equal
pixels. Times are processor time, and each way is run once before, unmeasured, since the first batch of a shape costs
more.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from sur_adapter.base_model import load_base
from sur_adapter.training.config import TrainConfig
from sur_adapter.training.data import open_data
from surd.schemas import ColumnManifest
from surd.schemas.manifest import Buckets
from surd.schemas.shard_format.buckets import DIGITS, Size, bucket_sizes, kept_area, nearest_bucket, size_and_crop
from tests.bench.figures import Figure
from tests.bench.train import WARM_UP, config, seconds_a_step
from tests.bench.train_data import npy, quarter_of_sd15, write_dataset, write_json, write_tar

NAME = "latents-buckets"
#: Shapes of pictures by how common they are; what is left has any shape between 2:5 and 5:2.
SHAPES: dict[Size, float] = {
    (3, 2): 0.22, (2, 3): 0.10, (4, 3): 0.15, (3, 4): 0.10, (16, 9): 0.12, (9, 16): 0.08, (1, 1): 0.08, (4, 5): 0.03,
    (21, 9): 0.02,
}  # fmt: skip


def pictures(count: int, seed: int) -> list[Size]:
    """Widths and heights of pictures, about a megapixel and more."""
    random = np.random.default_rng(seed)
    shapes = list(SHAPES)
    rest = 1 - sum(SHAPES.values())
    drawn = []
    for kind in random.choice(len(shapes) + 1, count, p=[*SHAPES.values(), rest]):
        if kind < len(shapes):
            ratio = shapes[kind][0] / shapes[kind][1]
        else:
            ratio = math.exp(random.uniform(-1, 1) * math.log(2.5))
        side = math.sqrt(random.uniform(0.8e6, 12e6))
        drawn.append((round(side * math.sqrt(ratio)), round(side / math.sqrt(ratio))))
    return drawn


def cropped(sizes: list[Size], of: list[Size]) -> float:
    """Mean share of the pictures that is cut off."""
    return float(np.mean([1 - kept_area(*one, sizes[nearest_bucket(*one, sizes)]) for one in of]))


def add_bucket_column(build: Path, base: str, of: list[Size], seed: int) -> None:
    """The column of a dataset's only shard for pictures of these sizes, of random numbers: a step takes as long."""
    pipe = load_base(base, unet=False, text=False)
    square = ColumnManifest.model_validate_json((build / "columns/latents/manifest.json").read_text())
    assert square.image_size and square.shape[0]
    sizes, scale = bucket_sizes(square.image_size, pipe.vae_scale_factor), pipe.vae_scale_factor
    random = np.random.default_rng(seed)
    members, digits = {}, ""
    for number, picture in enumerate(of):
        bucket = nearest_bucket(*picture, sizes)
        about = size_and_crop(*picture, sizes[bucket])
        latents = random.normal(size=(square.shape[0], about.height // scale, about.width // scale))
        members[f"{number:016x}.npy"] = npy(latents.astype(np.float16))
        members[f"{number:016x}.size.npy"] = npy(np.array(about, np.int32))
        digits += DIGITS[bucket]
    info = write_tar(build / f"columns/{NAME}/surd-00000.tar", members, len(of))
    fields = {
        "column": NAME, "shape": [square.shape[0], None, None], "width": 0, "shards": [info],
        "buckets": Buckets(sizes=sizes, scale=scale, numbers=[digits]),
    }  # fmt: skip
    write_json(build / f"columns/{NAME}", square.model_copy(update=fields))


def pixels_a_step(settings: TrainConfig) -> float:
    """Mean pixels of a picture over the measured steps, by the order that the training reads."""
    data, _ = open_data(settings)
    column = data.reads["latents"]
    if column.buckets is None:
        return float(column.image_size or 0) ** 2
    order = data.bucket_order(batch_size=settings.batch_size, seed=settings.seed)
    places = order.locations(WARM_UP * settings.batch_size, settings.steps * settings.batch_size)
    sizes = [column.buckets.sizes[DIGITS.index(column.buckets.numbers[shard][at])] for shard, at in places]
    return float(np.mean([width * height for width, height in sizes]))


def speed(work: Path, size: int, steps: int, rounds: int, batch: int, seed: int) -> dict[str, float]:
    """Mean processor seconds of a step on squares and on buckets, and the pixels of a picture."""
    base = quarter_of_sd15(work / "quarter")
    shards = write_dataset(work / "build", base, size, seed)
    add_bucket_column(work / "build", base, pictures(size, seed), seed)
    ways = {"square": False, "buckets": True}
    times: dict[str, list[float]] = {name: [] for name in ways}
    measured: dict[str, float] = {}
    for number in range(rounds + 1):
        for name, buckets in ways.items():
            settings = config(shards, work / f"{number} {name}", steps, batch_size=batch, buckets=buckets)
            taken = [step.cpu for step in seconds_a_step(settings)]
            times[name] += taken if number else []
            measured[f"pixels, {name}"] = pixels_a_step(settings)
    return measured | {f"seconds, {name}": float(np.mean(each)) for name, each in times.items()}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.buckets", description=__doc__)
    parser.add_argument("--pictures", type=int, default=20_000, help="pictures of which the cut is counted")
    parser.add_argument("--size", type=int, default=48, help="samples of the training")
    parser.add_argument("--steps", type=int, default=24, help="measured steps a round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--seed", type=int, default=6001)
    args = parser.parse_args()
    console = Console(stderr=True)
    figures, cuts = [], {}
    for side in (512, 1024):
        of = pictures(args.pictures, args.seed)
        cuts[str(side)] = {"square": cropped([(side, side)], of), "buckets": cropped(bucket_sizes(side), of)}
        figures.append(Figure(f"mean_cropped_area_{side}", cuts[str(side)]["buckets"], "<=", 0.05))
    with tempfile.TemporaryDirectory() as folder:
        times = speed(Path(folder), args.size, args.steps, args.rounds, args.batch_size, args.seed)
    steps = times["seconds, square"] / times["seconds, buckets"]
    equal = steps * times["pixels, buckets"] / times["pixels, square"]
    figures.append(Figure("steps_per_second_buckets_to_square_at_equal_pixels", equal, ">=", 0.95))
    console.print(table(cuts, times))
    for figure in figures:
        console.print(f"{'met ' if figure.met else 'MISS'} {figure.name} {figure.value:.3f}, goal {figure.goal}")
    print(json.dumps({figure.name: figure.document() for figure in figures} | {"cropped": cuts, "training": times}))
    sys.exit(0 if all(figure.met for figure in figures) else 1)


def table(cuts: dict[str, dict[str, float]], times: dict[str, float]) -> Table:
    """The measurements as a table."""
    drawn = Table("", "square", "buckets")
    for side, of in cuts.items():
        drawn.add_row(f"cut off, {side} pixels", *(f"{of[way]:.1%}" for way in ("square", "buckets")))
    drawn.add_row("processor time a step", *(f"{times[f'seconds, {way}']:.2f} s" for way in ("square", "buckets")))
    drawn.add_row("pixels of a picture", *(f"{times[f'pixels, {way}']:,.0f}" for way in ("square", "buckets")))
    return drawn


if __name__ == "__main__":
    main()
