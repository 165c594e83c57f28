"""What a build that grew by a tenth asks its models, beside the new records alone: python -m tests.bench.growth.

A gallery of demo scenes is built; then a tenth is added, half of it larger copies of old pictures, which win over them
and so change the verdicts of partitions all over the build. Counted are rows that reach the real models: pictures,
texts, chats, questions. Beside them stand those of a build of the added records alone. Then some more come, before all
others, and counted are the partitions that were there and of which anything is done again: at most the last, which may
take new records. The last line is JSON; exit status 1 when a figure is over its goal, or when the grown build has other
rows than one built at once in the same partitions.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from surd.pipeline.build.folder import Build, part_file
from surd.pipeline.demo.world.prompts import complex_prompt
from surd.pipeline.demo.world.render import render
from surd.pipeline.demo.world.scenes import scene
from surd.pipeline.model_cache.outputs import bytes_kept
from surd.pipeline.models.captioner import Captioner
from surd.pipeline.models.clip import ClipEncoders
from surd.pipeline.models.llm import LLM
from surd.pipeline.models.nsfw import OpenNsfw
from surd.pipeline.runner.plan import units
from surd.pipeline.runner.process_setup import set_up_process
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.stages import STAGES
from surd.pretrained.vqa import VqaModel
from surd.schemas import load_config
from tests.bench.figures import Figure

MOST = 1.1
MOST_PARTITIONS = 1
STAGES_COMPARED = ("safety", "score", "caption", "rewrite", "correct")
_TOLERANCE = 1e-5
#: What is counted, and how many rows a call has, from its arguments after self.
_CALLS: dict[str, tuple[type, str, Any]] = {
    "NSFW pictures": (OpenNsfw, "score", len),
    "CLIP pictures": (ClipEncoders, "embed_prepared", len),
    "CLIP texts": (ClipEncoders, "embed_texts", len),
    "captioned pictures": (Captioner, "caption", len),
    "LLM chats": (LLM, "replies", len),
    "VQA questions": (VqaModel, "probabilities", lambda images, questions: sum(map(len, questions))),
}


def write_gallery(
    folder: Path, numbers: Iterable[int], copies: Iterable[int], seed: int, *, newest_first: bool = False
) -> None:
    """Pictures of scenes with their prompts; ``copies``: of which one twice as large is there too. They come in an
    order of chance, or the one with the highest number first: so added ones move all others to other places."""
    folder.mkdir()
    lines = []
    for number, side, name in [(n, 128, "") for n in numbers] + [(n, 256, "-large") for n in copies]:
        shown = scene(seed, number)
        file = f"{number:05d}{name}.png"
        render(shown, side).save(folder / file)
        lines.append({"image": file, "prompt": complex_prompt(shown, random.Random(f"{seed}:{number}"))})
    lines.sort(key=lambda line: -int(line["image"][:5]) if newest_first else random.Random(line["image"]).random())
    (folder / "pairs.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Rows that reach the models in the block."""
    rows: Counter[str] = Counter()
    with ExitStack() as stack:
        for what, (kind, name, count) in _CALLS.items():
            method = getattr(kind, name)

            def call(
                self: Any, *args: Any, method: Any = method, what: str = what, count: Any = count, **more: Any
            ) -> Any:
                given = args[:2] if what == "VQA questions" else args[:1]
                rows[what] += count(*given)
                return method(self, *args, **more)

            stack.enter_context(patch.object(kind, name, call))
        yield rows


def build(root: Path, source: Path, settings: dict[str, Any]) -> tuple[set[int], Counter[str]]:
    """Run all stages up to correct; returns the partitions of which something was done, and what models were asked."""
    config, done = load_config(settings, {"source": f"folder:{source}"}), set()
    with counted() as rows:
        for stage in STAGES:
            for unit in range(units(stage, Build(str(root)))):
                if not run_unit(stage, unit, str(root), config).skipped and stage.scope == "partition":
                    done.add(unit)
            if stage.name == STAGES_COMPARED[-1]:
                return done, rows
    raise AssertionError("no such stage")


def rows_of(root: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of the stages that ask models."""
    opened = Build(str(root))
    return {
        stage: [
            row for part in range(opened.part_count()) for row in opened.read_table(part_file(stage, part)).to_pylist()
        ]
        for stage in STAGES_COMPARED
    }


def largest_difference(one: Any, other: Any) -> float:
    """Between numbers at the same places; infinite where anything else differs."""
    if isinstance(one, float) and isinstance(other, float):
        return 0.0 if one == other or (math.isnan(one) and math.isnan(other)) else abs(one - other)
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return max((largest_difference(one[name], other[name]) for name in one), default=0.0)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return max((largest_difference(*pair) for pair in zip(one, other, strict=True)), default=0.0)
    return 0.0 if one == other else math.inf


def measure(folder: Path, size: int, settings: dict[str, Any], seed: int = 5) -> dict[str, Any]:
    """The figures of a gallery of ``size`` pictures that grows by a tenth, half of it better copies."""
    added = max(2, size // 10)
    copies, old = range(0, size, size // (added // 2))[: added // 2], range(size)
    new = range(size, size + added - len(copies))
    for name, numbers, larger in (("old", old, ()), ("grown", [*old, *new], copies), ("new", new, copies)):
        write_gallery(folder / f"gallery-{name}", numbers, larger, seed)
    source = folder / "gallery"  # by this name in every build: a record's key is made from it
    asked = {}
    for root, gallery in (("grown", "old"), ("grown", "grown"), ("fresh", "grown"), ("alone", "new")):
        if root == "fresh":  # with the same partitions: correct measures what a score means on those of one
            shutil.copytree(folder / "grown/collect", folder / "fresh/collect")
        (folder / f"gallery-{gallery}").rename(source)
        _, asked[root, gallery] = build(folder / root, source, settings)
        source.rename(folder / f"gallery-{gallery}")
    grown, alone = asked["grown", "grown"], asked["alone", "new"]
    records = size + added
    difference = largest_difference(rows_of(folder / "grown"), rows_of(folder / "fresh"))
    there = Build(str(folder / "grown")).part_count()
    write_gallery(source, range(records), copies, seed, newest_first=True)
    done, _ = build(folder / "grown", source, settings)
    return {
        "records": records,
        "added": added,
        "better_copies": len(copies),
        "rows": {
            what: {"first": asked["grown", "old"][what], "grown": grown[what], "new_alone": alone[what],
                   "fresh": asked["fresh", "grown"][what]}
            for what in _CALLS
        },
        "ratio": round(grown.total() / alone.total(), 3),
        "ratio_without_cache": round(asked["fresh", "grown"].total() / alone.total(), 3),
        "largest_difference": difference,
        "partitions": there,
        "partitions_done_again": len(done & {*range(there)}),
        "kept_bytes_a_record": bytes_kept(str(folder / "grown")) // records,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--partition-size", type=int, default=50)
    parser.add_argument("--rewrite", action="store_true", help="with the LLM")
    args = parser.parse_args()
    set_up_process()
    settings = {
        "partition_size": args.partition_size,
        "correct": {"witnesses": ["clip", "vqa"]},
        "facts": {"similarity": None},
        "rewrite": {"enabled": args.rewrite},
    }
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), args.size, settings)
    goals = [
        Figure("model_rows_beside_new_rows", figures["ratio"], "<=", MOST),
        Figure("difference_from_a_build_at_once", figures["largest_difference"], "<=", _TOLERANCE),
        Figure("old_partitions_done_again", figures["partitions_done_again"], "<=", MOST_PARTITIONS),
    ]
    figures |= {"met": all(goal.met for goal in goals), "figures": {goal.name: goal.document() for goal in goals}}
    for what, rows in figures["rows"].items():
        print(f"{what}: {', '.join(f'{name} {count:,}' for name, count in rows.items())}")
    print(json.dumps(figures))
    sys.exit(not figures["met"])


if __name__ == "__main__":
    main()
