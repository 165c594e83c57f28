"""Progress by record: rate and time left of a stage, from its units that have ended and those that run."""

import io
import shutil
import time

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from rich.console import Console

from surd.flows import artifacts
from surd.flows.cli.console import Terminal, format_records
from surd.flows.listener import RecordProgress, StageSummary
from surd.flows.record_watch import RecordWatch
from surd.pipeline.build.folder import Build
from surd.pipeline.runner.plan import Planner
from surd.pipeline.runner.run_unit import skipped
from surd.pipeline.stages import BY_NAME, STAGES
from surd.schemas import BuildConfig


def progress(done, total, *, resumed=0, seconds=10.0, pace=None):
    return RecordProgress(done=done, total=total, resumed=resumed, started=100.0, at=100.0 + seconds, pace=pace)


def test_rate_and_time_left_are_of_this_run_and_count_down_between_units():
    part = progress(3000, 5000, resumed=1000)
    assert (part.rate, part.seconds_left(110.0), part.seconds_left(114.0)) == (200.0, 10.0, 6.0)
    assert format_records(part, 110.0) == "200.0 records/s, 0:00:10 left"
    assert format_records(part, 999.0) == "200.0 records/s, ? left"


def test_before_the_first_record_is_done_an_earlier_run_tells():
    assert format_records(progress(0, 600, seconds=0.0, pace=10.0), 115.0) == (
        "10.0 records/s, 0:00:45 left, by an earlier run"
    )
    assert format_records(progress(0, 600, seconds=0.0), 115.0) == "no record is done yet"


def test_the_bar_counts_records():
    screen = io.StringIO()
    terminal = Terminal(Console(file=screen, force_terminal=True, width=160, color_system=None))
    terminal.stage_started("caption", 5)
    now = time.monotonic()
    terminal.progress("caption", 2, 5)
    terminal.records("caption", RecordProgress(done=2000, total=4800, resumed=0, started=now - 20.0, at=now))
    terminal._bar.refresh()
    terminal.progress("caption", 2, 5)
    terminal._bar.refresh()
    terminal.stage_done("caption", StageSummary(units=5))
    assert "2000/4800" in screen.getvalue() and "2/5" not in screen.getvalue()
    assert "100.0 records/s, 0:00:28 left" in screen.getvalue()


def test_the_bar_of_the_prefect_page_moves_by_record_and_not_back_when_a_unit_ends(monkeypatch):
    monkeypatch.setattr(artifacts, "BAR_EVERY", 0.0)

    @flow
    def shown():
        page, seen = artifacts.RunPage(), []
        page.stage_started("caption", 4)
        with get_client(sync_client=True) as client:
            for done in (100, 300):
                page.records("caption", progress(done, 400))
                page.progress("caption", 0, 4)
                (artifact,) = [one for one in client.read_artifacts() if one.id == page._artifact]
                seen.append(artifact.data)
        return seen

    assert shown() == [pytest.approx(share / len(STAGES), abs=0.05) for share in (25, 75)]


def test_a_build_tells_the_records_of_every_stage_over_partitions_and_shards(built, tmp_path):
    out, summary = built
    shutil.copytree(out, tmp_path / "copy")
    planner = Planner(Build(str(tmp_path / "copy")), BuildConfig(workers=2))
    of_clean = RecordWatch(BY_NAME["clean"], planner, [skipped(BY_NAME["clean"], 0, 3)])
    found = of_clean.now()
    assert (found.done, found.total, found.resumed) == (3, summary["collected"], 3)
    assert found.rate == pytest.approx(2 * planner.pace(BY_NAME["clean"]))
    of_clean.unit_done(skipped(BY_NAME["clean"], 1, 3))
    assert of_clean.now().done == of_clean.now().resumed == 6
    of_embed = RecordWatch(BY_NAME["embed"], planner, [skipped(BY_NAME["embed"], 0, 0)])
    assert (of_embed.now().done, of_embed.now().total) == (summary["kept"], summary["kept"])
    assert RecordWatch(BY_NAME["select"], planner, []).total == 0
