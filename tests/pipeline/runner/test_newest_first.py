"""A whole build of a source whose newest records come first: what is new is done, and nothing else is done again."""

from __future__ import annotations

import io
import json
import random
from collections import Counter
from pathlib import Path

from surd.pipeline.demo.world.prompts import complex_prompt
from surd.pipeline.demo.world.render import render
from surd.pipeline.demo.world.scenes import scene
from surd.schemas import load_config
from tests.bench.growth import counted
from tests.pipeline.conftest import run_all

pytest_plugins = ["tests.pipeline.served"]

MAPS = ("fetch", "decode", "clean", "safety", "score", "caption", "rewrite", "correct")


class Newest:
    """A gallery of the first ``count`` scenes, the newest first."""

    def __init__(self, serve) -> None:
        self.count, self.server = 0, serve(self)

    def __call__(self, request) -> None:
        if request.path.startswith("/api"):
            items = [
                {"id": n, "url": f"/{n}.png", "meta": {"prompt": complex_prompt(scene(5, n), random.Random(n))}}
                for n in reversed(range(self.count))
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


def test_what_came_before_is_not_done_again(tmp_path, serve):
    gallery = Newest(serve)
    settings = {"facts": {"similarity": None}, "partition_size": 2}

    def crawl(count: int):
        """What was done of each partition by its map stages, and the rows that models were given."""
        gallery.count = count
        source = {"source": f"gallery:{gallery.server.url}/api", "limit": 100 + count}  # the limit: to collect again
        with counted() as rows:
            outcomes = run_all(tmp_path, load_config(settings, source), upto="correct")
        return [outcome for outcome in outcomes if outcome.stage in MAPS], rows

    outcomes, first = crawl(4)
    assert not any(outcome.skipped for outcome in outcomes)
    assert gallery.images() == {f"/{n}.png": 1 for n in range(4)}
    before = files(tmp_path)
    outcomes, rows = crawl(6)
    assert {outcome.unit for outcome in outcomes if not outcome.skipped} == {2}
    assert sum(outcome.skipped for outcome in outcomes) == 2 * len(MAPS)
    assert gallery.images() == {f"/{n}.png": 1 for n in (4, 5)}
    assert rows["captioned pictures"] == rows["CLIP pictures"] == 2 and first["captioned pictures"] == 4
    assert before.items() <= files(tmp_path).items()


def files(root: Path) -> dict[str, bytes]:
    """What the maps wrote."""
    paths = (path for stage in MAPS for path in (root / stage).glob("part-*"))
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}
