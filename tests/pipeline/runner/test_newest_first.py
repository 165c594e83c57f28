"""A whole build of a source whose newest records come first: what is new is done, and nothing else is done again."""

from __future__ import annotations

import io
import json
import random
from collections import Counter
from itertools import count
from pathlib import Path

from surd.pipeline.build.folder import Build, part_file
from surd.pipeline.dataset.verify.dataset import read_manifests, verify
from surd.pipeline.demo.world.prompts import complex_prompt
from surd.pipeline.demo.world.render import render
from surd.pipeline.demo.world.scenes import scene
from surd.pipeline.forget.forget import RemovalRequest, forget, plan_removal
from surd.pipeline.forget.leftovers import find_leftovers
from surd.pipeline.runner.run_unit import Outcome
from surd.pipeline.runner.verify_markers import verify_stages
from surd.schemas import load_config
from tests.bench.growth import counted
from tests.pipeline.conftest import run_all

pytest_plugins = ["tests.pipeline.served"]

MAPS = ("fetch", "decode", "clean", "safety", "score", "caption", "rewrite", "correct")


class Newest:
    """A gallery of the scenes ``numbers``, the newest first."""

    def __init__(self, serve) -> None:
        self.numbers: list[int] = []
        self.server = serve(self)

    def __call__(self, request) -> None:
        if request.path.startswith("/api"):
            items = [
                {"id": n, "url": f"/{n}.png", "meta": {"prompt": complex_prompt(scene(5, n), random.Random(n))}}
                for n in sorted(self.numbers, reverse=True)
            ]
            request.send(200, json.dumps({"items": items}).encode())
        elif request.path.endswith(".png"):
            data = io.BytesIO()
            render(scene(5, int(request.path[1:-4])), 128).save(data, "PNG")
            request.send(200, data.getvalue(), "image/png")
        else:
            request.send(404)

    def images(self) -> Counter[str]:
        """Pictures that were requested since the last call."""
        paths = Counter(path for path in self.server.requests if path.endswith(".png"))
        self.server.requests.clear()
        return paths


def test_what_came_before_is_not_done_again_and_a_partition_may_become_empty(tmp_path, serve):
    gallery, crawls = Newest(serve), count(100)
    settings = {"facts": {"similarity": None}, "partition_size": 2, "embed": {"layers": []}}

    def crawl(*numbers: int, upto: str) -> tuple[list[Outcome], Counter[str]]:
        """What became of the units of the map stages, and how many rows models were given."""
        gallery.numbers = [*numbers]
        source = {"source": f"gallery:{gallery.server.url}/api", "limit": next(crawls)}  # another: to collect again
        with counted() as rows:
            outcomes = run_all(tmp_path, load_config(settings, source), upto=upto)
        return [outcome for outcome in outcomes if outcome.stage in MAPS], rows

    outcomes, first = crawl(0, 1, 2, 3, upto="correct")
    assert not any(outcome.skipped for outcome in outcomes)
    assert gallery.images() == {f"/{n}.png": 1 for n in range(4)}
    before = files(tmp_path)
    outcomes, rows = crawl(0, 1, 2, 3, 4, 5, upto="correct")
    assert {outcome.unit for outcome in outcomes if not outcome.skipped} == {2}
    assert sum(outcome.skipped for outcome in outcomes) == 2 * len(MAPS)
    assert gallery.images() == {f"/{n}.png": 1 for n in (4, 5)}
    assert rows["captioned pictures"] == rows["CLIP pictures"] == 2 and first["captioned pictures"] == 4
    assert before.items() <= files(tmp_path).items()

    outcomes, rows = crawl(0, 1, 4, 5, upto="report")
    assert {(outcome.unit, outcome.rows) for outcome in outcomes if not outcome.skipped} == {(0, 0)}
    assert not gallery.images() and not rows["captioned pictures"]
    build = Build(str(tmp_path))
    checked = [*verify(build, read_manifests(build)), *verify_stages(build)]
    assert [finding for one in checked for finding in one.findings] == []
    assert {len(build.read_table(part_file(stage, 0))) for stage in (*MAPS, "dedup", "select")} == {0}
    assert build.read_table("shards/index.parquet").num_rows == 4
    key = build.read_table(part_file("collect", 1), ["key"])["key"][0].as_py()
    forget(build, plan_removal(build, RemovalRequest(records=[key])))
    assert [*find_leftovers(build)] == []


def files(root: Path) -> dict[str, bytes]:
    """What the maps wrote."""
    paths = (path for stage in MAPS for path in (root / stage).glob("part-*"))
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}
