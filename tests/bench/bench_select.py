"""Time of select on a build of synthetic scores: python -m tests.bench.bench_select [--rows 57603 --width 512].

Ends with one JSON line: seconds of each way to select (wall time, and processor time, which does not depend on the
load of the machine), and the ratio of the latter to the bare matrix product that calibration needs.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time

import numpy as np

from surd.pipeline.build.folder import Build
from surd.pipeline.selection.calibration import PROMPTS
from surd.pipeline.selection.choose import choose
from surd.schemas.config import SelectConfig
from tests.pipeline.score_table import unit, write_end, write_part


def write_scores(build: Build, rows: int, width: int, per_part: int, like: float) -> None:
    """A build as correct leaves it: true pairs are about 0.6 apart, a share of images nearly equals another one."""
    rng = np.random.default_rng(0)
    themes = rng.standard_normal((400, width))
    parts = -(-rows // per_part)
    for part in range(parts):
        count = min(per_part, rows - part * per_part)
        images = themes[rng.integers(0, len(themes), count)] + 1.5 * rng.standard_normal((count, width))
        copies = rng.random(count) < like
        images[copies] = images[0] + 0.1 * rng.standard_normal((int(copies.sum()), width))
        texts = unit(images + 2.0 * rng.standard_normal((count, width)))
        keys = [f"{part * per_part + at:08x}{rng.integers(0, 2**32):08x}"[::-1] for at in range(count)]
        write_part(build, part, keys, unit(images), texts)
    write_end(build, parts, rows)


def bare_product(rows: int, width: int) -> float:
    """Seconds of the necessary products: every image with the drawn prompts of both kinds, a partition at a time."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((1000, width)).astype(np.float32)
    prompts = rng.standard_normal((PROMPTS, width)).astype(np.float32)
    started = time.process_time()
    for _ in range(0, rows, 1000):
        images @ prompts.T
        images @ prompts.T
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=57_603)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--like", type=float, default=0.02, help="share of images that nearly equal another one")
    args = parser.parse_args()
    ways = {
        "absolute": SelectConfig(false_match_rate_complex=None, min_clip_complex=0.2),
        "rate_complex": SelectConfig(false_match_rate_complex=0.01),
        "rate_both": SelectConfig(false_match_rate_complex=0.01, false_match_rate_simple=0.01),
        "semantic_dedup": SelectConfig(max_similarity=0.9),
    }
    with tempfile.TemporaryDirectory() as folder:
        build = Build(folder)
        write_scores(build, args.rows, args.width, 1000, args.like)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        product = bare_product(args.rows, args.width)
        figures: dict[str, object] = {"rows": args.rows, "width": args.width, "product_s": round(product, 2)}
        for name, settings in ways.items():
            started, spent = time.perf_counter(), time.process_time()
            rows = choose(build, settings, "synthetic").rows
            seconds, spent = time.perf_counter() - started, time.process_time() - spent
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            kept = sum(row.kept for of_part in rows for row in of_part)
            figures[name] = {
                "seconds": round(seconds, 2),
                "processor_seconds": round(spent, 2),
                "ratio": round(spent / product, 1),
                "kept": kept,
                "grown_mb": (peak - grown) // 1024,
            }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
