"""A small real build of the demo world and an imported one, made once and shared by the tests that only read them."""

import dataclasses
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from surd.pipeline.build.folder import Build
from surd.pipeline.runner.plan import units
from surd.pipeline.runner.run_unit import Outcome, finish, run_unit
from surd.pipeline.stages import STAGES
from surd.schemas import BuildConfig, load_config


def run_all(root: Path, config: BuildConfig, *, upto: str = "report") -> list[Outcome]:
    """Every stage in order, as a flow runs them, without the flow."""
    outcomes = []
    for stage in STAGES:
        outcomes += [run_unit(stage, unit, str(root), config) for unit in range(units(stage, Build(str(root))))]
        finish(stage, str(root), config)
        if stage.name == upto:
            break
    return outcomes


def redone(outcomes: list[Outcome]) -> set[str]:
    """Names of the stages of which at least one unit was not skipped."""
    return {outcome.stage for outcome in outcomes if not outcome.skipped}


@dataclasses.dataclass(frozen=True)
class Built:
    """A finished build and what it was made with."""

    root: Path
    config: BuildConfig

    @property
    def build(self) -> Build:
        return Build(str(self.root))


@pytest.fixture(scope="session")
def built(tmp_path_factory, worker_id) -> Built:
    """Sixteen scenes in two partitions, with the embedded models; one build for all processes that run tests."""
    embed = {"pooling": ["mean", "last", "tokens"], "columns": ["latents", "clip-simple", "clip-complex"]}
    config = load_config({}, {"demo.count": 16, "partition_size": 8, "pack.max_count": 6, "embed": embed})
    alone = worker_id == "master"
    folder = tmp_path_factory.mktemp("built") if alone else tmp_path_factory.getbasetemp().parent / "built"
    folder.mkdir(exist_ok=True)
    root, done = folder / "demo", folder / "done"
    with FileLock(folder / "lock"):
        if not done.exists():
            run_all(root, config)
            done.touch()
    return Built(root, config)


@pytest.fixture(scope="session")
def imported_set(tmp_path_factory) -> Path:
    """Twelve finished samples in three shards with two columns, imported into a build; no model had a part in it."""
    from tests.pipeline.finished_sets import authors_set, imported  # only here: most tests need none of it

    root = tmp_path_factory.mktemp("imported")
    imported(f"authors:{authors_set(root / 'SURD')}", root / "build")
    return root / "build"


@pytest.fixture
def breakable(imported_set, tmp_path) -> Path:
    """A copy of it, to break."""
    shutil.copytree(imported_set, tmp_path / "build")
    return tmp_path / "build"
