"""A training set of people's sentences: `python -m surd.pipeline.demo.training_set --out DIR`.

Draws the scenes of a world, words each as `people_sentence` does, and writes them as a finished dataset in the layout
of img2dataset (``DIR/samples``); ``surd import`` makes the build ``DIR`` of it: picture, sentence as the simple prompt,
keyword prompt as the complex one. So `surd columns add DIR ...` and `sur-train` work on it as on any build. 6,000
samples take about a minute.
"""

import argparse
import io
import json
import random
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from surd.pipeline.demo.world.fact_space import labels
from surd.pipeline.demo.world.prompts import complex_prompt
from surd.pipeline.demo.world.render import render
from surd.pipeline.demo.world.scenes import scene
from surd.pipeline.demo.world.wordings import people_sentence
from surd.schemas.shard_format.tar import add_member, tar_writer

#: No other training, held-out set or evaluation uses this world.
SEED, COUNT = 7000, 6000
SIZE = 64
PER_TAR = 500


def sample(seed: int, index: int) -> tuple[bytes, dict[str, object]]:
    """Scene `index` of world `seed`: its picture as PNG, and its texts and facts by name."""
    one = scene(seed, index)
    rng = random.Random(f"people:{seed}:{index}")
    picture = io.BytesIO()
    render(one, SIZE).save(picture, "PNG")
    return picture.getvalue(), {
        "simple": people_sentence(one, rng),
        "caption": complex_prompt(one, rng, markup=False),
        "facts": {group: str(value) for group, value in labels(one).items()},
    }


def write_samples(folder: Path, count: int, seed: int) -> None:
    """Write the first `count` samples of world `seed` as ``NNNNN.tar``, 500 each; the same bytes at every call."""
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        made = pool.map(partial(sample, seed), range(count), chunksize=50)
        for start in range(0, count, PER_TAR):
            with (folder / f"{start // PER_TAR:05d}.tar").open("wb") as file, tar_writer(file) as tar:
                for index in range(start, min(start + PER_TAR, count)):
                    picture, row = next(made)
                    name = f"{seed}-{index:06d}"  # the seed, so that the keys of two worlds differ
                    add_member(tar, f"{name}.png", picture)
                    add_member(tar, f"{name}.json", json.dumps(row).encode())


def main() -> None:
    """Read the command line, write the samples and import them."""
    parser = argparse.ArgumentParser(prog="python -m surd.pipeline.demo.training_set", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the build; it must not exist yet")
    parser.add_argument("--count", type=int, default=COUNT, help=f"samples (default {COUNT})")
    parser.add_argument("--seed", type=int, default=SEED, help=f"world to draw scenes from (default {SEED})")
    args = parser.parse_args()
    if args.out.exists() and any(args.out.iterdir()):
        parser.error(f"--out is {str(args.out)!r}: it is not empty; give another folder, or remove it")
    write_samples(args.out / "samples", args.count, args.seed)
    # As a command: flows stands above the pipeline and cannot be imported here.
    command = [sys.executable, "-c", "from surd.flows.cli.start import main; main()", "import"]
    done = subprocess.run([*command, f"img2dataset:{args.out / 'samples'}", "--out", str(args.out)], check=False)
    raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
