"""A small real build of the demo world, made once and shared by the tests that only read it."""

import dataclasses
from pathlib import Path

import pytest

from pipeline.build import Build
from pipeline.stages import STAGES, Outcome, finish, run_unit, units
from schemas import BuildConfig, load_config


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
def built(tmp_path_factory) -> Built:
    """Sixteen scenes in two partitions, with the embedded models."""
    root = tmp_path_factory.mktemp("built") / "demo"
    config = load_config(
        {}, {"demo.count": 16, "partition_size": 8, "pack.max_count": 6, "embed.pooling": ["mean", "tokens"]}
    )
    run_all(root, config)
    return Built(root, config)
