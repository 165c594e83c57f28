"""What select, report and the summary hold of a build does not grow with its records."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from surd.pipeline.build.folder import Build
from surd.pipeline.inspection.nothing_kept import check_kept
from surd.pipeline.inspection.summary import summarize
from surd.pipeline.models import Models
from surd.pipeline.stages import BY_NAME
from surd.schemas import BuildConfig
from surd.schemas.config import ReportConfig, SelectConfig
from tests.bench import reduces
from tests.pipeline.score_table import unit, write_end, write_part

SIZES = (200, 900)
SCORES = (400, 4000)  # records of builds of scores alone
PART = 100
A_PARTITION = 2000  # bytes of a partition for the names of its files, and the like; its rows take ten times that
CONFIG = BuildConfig(report=ReportConfig(samples=4, repairs=2))
ONE_OF_EACH = BuildConfig(select=SelectConfig(max_similarity=0.95))


@pytest.fixture(scope="module", autouse=True)
def _small_blocks() -> Iterator[None]:
    """What is in memory at once is that of the smaller builds already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reduces, "PART", PART)
        patch.setattr("surd.pipeline.tables._BATCH", PART)
        patch.setattr("surd.pipeline.deduplication.semantic._BLOCK", PART)
        patch.setattr("surd.pipeline.selection.calibration.PROMPTS", PART)
        yield


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> list[Build]:
    """Two builds of records with pictures."""
    builds = [Build(str(tmp_path_factory.mktemp("packed") / str(size))) for size in SIZES]
    for build, size in zip(builds, SIZES, strict=True):
        reduces.write_records(build, reduces.Records(size))
        run("dedup", CONFIG)(build)
        run("pack", CONFIG)(build)
    return builds


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> list[Build]:
    """Two builds of scores, of which every tenth image is like the one before."""
    builds = [Build(str(tmp_path_factory.mktemp("scored") / str(size))) for size in SCORES]
    for build, size in zip(builds, SCORES, strict=True):
        images = unit(np.random.default_rng(0).standard_normal((size, 16)))
        images[9::10] = images[8::10]
        keys = [f"{number * 2654435761 % 2**32:016x}" for number in range(size)]
        for part, start in enumerate(range(0, size, PART)):
            some = images[start : start + PART]
            write_part(build, part, keys[start : start + PART], some, some)
        write_end(build, size // PART, size)
    return builds


def run(name: str, config: BuildConfig) -> Callable[[Build], None]:
    """A function that runs a stage over a build."""

    def stage(build: Build) -> None:
        for part, rows in enumerate(BY_NAME[name].load()(build, config, Models(config.models))):
            if row := BY_NAME[name].row:
                build.write_rows(name, part, row, rows)

    return stage


def summary(build: Build) -> None:
    check_kept(build, CONFIG)
    assert summarize(build, [])["collected"] == SIZES[Path(build.root).name != str(SIZES[0])]


def peak(work: Callable[[Build], None], build: Build) -> int:
    """Bytes that Python and numpy held at most."""
    tracemalloc.start()
    try:
        work(build)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def assert_flat(work: Callable[[Build], None], builds: list[Build], partitions: int) -> None:
    """``partitions``: how many more the larger build has."""
    work(builds[0])  # what it imports and keeps for good is not counted
    small, large = (peak(work, build) for build in builds)
    assert large <= 1.1 * small + partitions * A_PARTITION, (
        f"{small:,} bytes of the small build, {large:,} of the large"
    )


@pytest.mark.parametrize("config", [CONFIG, ONE_OF_EACH], ids=["thresholds", "one of each"])
def test_select_holds_one_partition(scored: list[Build], config: BuildConfig) -> None:
    assert_flat(run("select", config), scored, (SCORES[1] - SCORES[0]) // PART)


@pytest.mark.parametrize("work", [run("report", CONFIG), summary], ids=["report", "summary"])
def test_report_and_summary_hold_one_partition(packed: list[Build], work: Callable[[Build], None]) -> None:
    assert_flat(work, packed, (SIZES[1] - SIZES[0]) // PART)
