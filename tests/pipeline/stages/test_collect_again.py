"""A source that is collected again: records stay in their partitions, and only what changed is written otherwise."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from surd.pipeline.build.folder import Build, part_file
from surd.pipeline.build.partitions import FORMER, FormerPartitions, in_former_partitions
from surd.pipeline.runner.plan import Planner
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.stages import BY_NAME
from surd.pipeline.stages.collect import PAGES
from surd.schemas import BuildConfig, SourceRecord, SurdError
from tests.object_store import BUCKET

pytest_plugins = ["tests.object_fixtures", "tests.pipeline.served"]

PAGE = 3


class Gallery:
    """A gallery of the records ``ids``, three a page, which may change; ``authors`` are of some of them."""

    def __init__(self, root: Path | str, serve):
        self.root, self.ids, self.authors, self.crawls = root, [], {}, 0
        self.build, self.server = Build(str(root)), serve(self)

    def __call__(self, request):
        start = int(request.path.partition("cursor=")[2] or 0)
        items = [{"id": id_, "url": f"/{id_}.png", "username": self.authors.get(id_)} for id_ in self.ids]
        rest = {"nextCursor": str(start + PAGE)} if start + PAGE < len(items) else {}
        request.send(200, json.dumps({"items": items[start : start + PAGE], "metadata": rest}).encode())

    def config(self, **fields) -> BuildConfig:
        """Another one each time, so that collect runs again."""
        self.crawls += 1
        source = f"gallery:{self.server.url}/api"
        return BuildConfig(source=source, **{"partition_size": 4, "limit": 1000 + self.crawls, **fields})

    def crawl(self, ids, **fields) -> list[int]:
        """Collect these; returns the partitions that are new, or not the same bytes as before."""
        before, self.ids = self.files(), [*ids]
        outcome = run_unit(BY_NAME["collect"], 0, str(self.root), self.config(**fields))
        assert not outcome.skipped and outcome.rows == sum(map(len, self.partitions()))
        after = self.files()
        assert not self.build.exists(PAGES)
        return [part for part, data in after.items() if before.get(part) != data]

    def files(self) -> dict[int, bytes]:
        return {part: self.build.read_bytes(part_file("collect", part)) for part in range(self.build.part_count())}

    def partitions(self) -> list[list[int]]:
        parts = range(self.build.part_count())
        return [[int(row.source_id) for row in self.build.read_rows("collect", part, SourceRecord)] for part in parts]


@pytest.fixture
def gallery(tmp_path, serve) -> Gallery:
    return Gallery(tmp_path / "build", serve)


def test_new_records_that_come_first_move_none_of_the_old_ones(gallery):
    gallery.crawl(range(8, 0, -1))
    assert gallery.crawl(range(13, 0, -1)) == [2, 3]
    assert gallery.partitions() == [[8, 7, 6, 5], [4, 3, 2, 1], [13, 12, 11, 10], [9]]


def test_a_refresh_asks_a_site_again_whose_pages_are_read(gallery):
    collect, config = BY_NAME["collect"], gallery.config()
    gallery.ids = [3, 2, 1]
    run_unit(collect, 0, str(gallery.root), config)
    gallery.ids = [5, 4, 3, 2, 1]
    assert Planner(gallery.build, config).plan(collect).tasks == []
    assert gallery.partitions() == [[3, 2, 1]]
    (task,) = Planner(gallery.build, config, refresh=True).plan(collect).tasks
    assert not run_unit(collect, 0, str(gallery.root), config, task).skipped
    assert gallery.partitions() == [[3, 2, 1], [5, 4]]
    assert Planner(gallery.build, config).plan(collect).tasks == [], "once"


def test_new_records_at_the_end_or_in_the_middle_lie_behind_the_old_ones(gallery):
    gallery.crawl([1, 2, 3, 4, 5, 6])
    assert gallery.crawl([1, 2, 3, 9, 4, 5, 6, 7]) == [2]
    assert gallery.partitions() == [[1, 2, 3, 4], [5, 6], [9, 7]]


def test_a_build_on_an_object_store_does_the_same(objects, serve):
    gallery = Gallery(f"s3://{BUCKET}/build", serve)
    gallery.crawl(range(8, 0, -1))
    assert gallery.crawl([9, 8, 7, 5, 4, 3, 2, 1]) == [0, 2]
    assert gallery.partitions() == [[8, 7, 5], [4, 3, 2, 1], [9]]


def test_a_record_that_is_gone_leaves_a_gap_in_its_partition_alone(gallery):
    gallery.crawl(range(1, 10))
    assert gallery.crawl([1, 2, 3, 4, 5, 7, 8, 9]) == [1]
    assert gallery.partitions() == [[1, 2, 3, 4], [5, 7, 8], [9]]


def test_partitions_less_than_half_full_take_new_records_and_one_that_is_empty_keeps_its_number(gallery):
    gallery.crawl(range(1, 10))
    assert gallery.crawl([1, 2, 3, 4, 9]) == [1]
    assert gallery.partitions() == [[1, 2, 3, 4], [], [9]]
    assert gallery.crawl([12, 11, 1, 2, 3, 4, 9]) == [1]
    assert gallery.crawl([*range(19, 10, -1), 1, 2, 3, 4, 9]) == [2, 3]
    assert gallery.partitions() == [[1, 2, 3, 4], [12, 11], [9, 19, 18, 17], [16, 15, 14, 13]]


def test_empty_partitions_at_the_end_go(gallery):
    gallery.crawl(range(1, 13))
    assert gallery.crawl([1, 2, 3, 4]) == []
    assert gallery.partitions() == [[1, 2, 3, 4]] and not (gallery.root / part_file("collect", 1)).exists()


def test_a_record_that_says_something_else_changes_its_partition_alone(gallery):
    gallery.crawl(range(1, 9))
    gallery.authors[6] = "Ann"
    assert gallery.crawl(range(1, 9)) == [1]
    assert gallery.partitions() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_a_record_that_comes_twice_counts_once_where_it_lies(gallery):
    gallery.crawl(range(1, 9))
    assert gallery.crawl([9, 3, *range(1, 9), 9]) == [2]
    assert gallery.partitions() == [[1, 2, 3, 4], [5, 6, 7, 8], [9]]
    assert json.loads((gallery.root / "collect/end.json").read_text())["repeated"] == 2


def test_the_limit_is_of_the_first_records_of_the_source(gallery):
    gallery.crawl(range(8, 0, -1), limit=8)
    assert gallery.crawl(range(12, 0, -1), limit=8, collect={"retries": 2}) == [1]
    assert gallery.partitions() == [[8, 7, 6, 5], [12, 11, 10, 9]]
    assert gallery.crawl(range(12, 0, -1), limit=9) == [2]
    assert gallery.partitions() == [[8, 7, 6, 5], [12, 11, 10, 9], [4]]


def test_a_source_that_did_not_change_gives_the_same_bytes(gallery):
    gallery.crawl([1, 2, 3, 4, 5, 6, 7])
    gallery.crawl([9, 1, 2, 4, 5, 6, 7])
    assert gallery.crawl([9, 1, 2, 4, 5, 6, 7]) == []


def test_another_partition_size_or_source_makes_partitions_anew(gallery):
    gallery.crawl(range(1, 9))
    gallery.crawl([10, 9, *range(1, 9)])
    gallery.ids = [10, 9, *range(1, 9)]
    run_unit(BY_NAME["collect"], 0, str(gallery.root), gallery.config(partition_size=5))
    assert gallery.partitions() == [[10, 9, 1, 2, 3], [4, 5, 6, 7, 8]]
    elsewhere = BuildConfig(source=f"gallery:{gallery.server.url}/api/v2", partition_size=3, limit=6)
    run_unit(BY_NAME["collect"], 0, str(gallery.root), elsewhere)
    assert gallery.partitions() == [[10, 9, 1], [2, 3, 4]]


@pytest.mark.parametrize("size", [4, 5])
def test_a_source_that_gives_nothing_any_more_or_fails_leaves_all_as_it_was(gallery, size, no_waiting):
    gallery.crawl(range(1, 9))
    before, fields = gallery.files(), {"partition_size": size, "collect": {"retries": 0}}
    for ids, why in (([], "gave no records"), ([*range(20, 30), b""], "the 9 records so far are kept")):
        gallery.ids = ids  # bytes are not JSON: no answer comes
        with pytest.raises(SurdError, match=why):
            run_unit(BY_NAME["collect"], 0, str(gallery.root), gallery.config(**fields))
        assert gallery.files() == before


_KILLED = """
import os, signal, sys
from surd.pipeline.build.folder import Build
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.stages import BY_NAME
from surd.schemas import BuildConfig
def killing(method):
    def call(self, stage, part, *rest):
        if part == int(sys.argv[4]):
            os.kill(os.getpid(), signal.SIGKILL)
        return method(self, stage, part, *rest)
    return call
setattr(Build, sys.argv[3], killing(getattr(Build, sys.argv[3])))
run_unit(BY_NAME["collect"], 0, sys.argv[1], BuildConfig.model_validate_json(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("method", "part", "size"), [("remove_marker", 0, 4), ("write_rows", 2, 4), ("write_rows", 2, 3)]
)
def test_a_killed_collect_goes_on_from_the_partitions_that_were_there(gallery, method, part, size):
    """A real process, killed between its passes or amid the second: no record is lost and none moves. Of another size,
    partitions are made anew."""
    gallery.crawl(range(1, 13))
    before, gallery.ids = gallery.files(), [14, 13, 2, 3, 4, *range(9, 13)]
    config = gallery.config(partition_size=size)
    command = [sys.executable, "-c", _KILLED, str(gallery.root), config.model_dump_json(), method, str(part)]
    assert subprocess.run(command, cwd=Path(__file__).parents[3], check=False).returncode == -signal.SIGKILL
    assert gallery.files() == (before if method == "remove_marker" else {})
    gallery.server.requests.clear()
    run_unit(BY_NAME["collect"], 0, str(gallery.root), config)
    assert gallery.server.requests == []
    kept = [[2, 3, 4], [14, 13], [9, 10, 11, 12]]
    assert gallery.partitions() == (kept if size == 4 else [[14, 13, 2], [3, 4, 9], [10, 11, 12]])


def test_a_partition_that_is_lost_is_made_again_as_it_was(gallery):
    gallery.crawl(range(1, 13))
    gallery.crawl([14, 13, *range(2, 13)])
    before = gallery.files()
    (gallery.root / part_file("collect", 1)).unlink()
    run_unit(BY_NAME["collect"], 0, str(gallery.root), gallery.config())
    assert gallery.files() == before and (gallery.root / FORMER).exists()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.integers(0, 30), max_size=5, unique=True), max_size=5),
    st.permutations(range(31)).flatmap(lambda order: st.integers(1, 31).map(lambda count: order[:count])),
)
def test_every_record_lies_in_one_partition_and_the_old_ones_in_theirs(tmp_path, before, now):
    """Whatever the partitions were, and whatever the source gives now, in any order."""
    seen: set[int] = set()
    before = [[key for key in part if not (key in seen or seen.add(key))] for part in before]
    former = FormerPartitions([np.array(part, np.uint64) for part in before])
    records = [SourceRecord(key=f"{key:016x}", source="s", source_id=str(key)) for key in now]
    parts = in_former_partitions(Build(str(tmp_path)), iter(records), former, 5)
    after = [[int(record.key, 16) for record in part] for part in parts]
    assert sorted(key for part in after for key in part) == sorted(now)
    assert (after == [] or after[-1]) and all(after[len(before) :]) and all(len(part) <= 5 for part in after)
    added = []
    for was, is_ in zip(before, after, strict=False):
        stayed = [key for key in was if key in now]
        assert is_[: len(stayed)] == stayed and (len(is_) == len(stayed) or 2 * len(stayed) < 5)
        added += is_[len(stayed) :]
    added += [key for part in after[len(before) :] for key in part]
    assert added == [key for key in now if key not in seen]
