"""While fetch runs, the terminal and the Prefect page show its rate, what each host gave, and the time left."""

from __future__ import annotations

import io
import re
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from surd.flows import artifacts
from surd.flows.cli.console import Terminal
from surd.flows.fetch_watch import FetchWatch, format_progress, host_rows
from surd.flows.listener import StageSummary
from surd.pipeline.acquisition.progress import OTHERS, FetchProgress, HostCount, Reporter
from surd.pipeline.build import progress as unit_progress
from surd.pipeline.build.folder import Build
from surd.pipeline.build.progress import progress_file
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.stages import BY_NAME
from surd.schemas import Pair
from tests.pipeline.fetching import collected, picture

pytest_plugins = ["tests.pipeline.served"]


@pytest.fixture
def at_once(monkeypatch):
    """Progress is reported after every image, not once a second."""
    monkeypatch.setattr(unit_progress, "EVERY", 0.0)


def half_served(serve):
    """A server that gives eight images and two errors, and then waits for an event."""
    go_on = threading.Event()

    def answer(request):
        number = int(request.path[1:])
        if number >= 10:
            assert go_on.wait(30)
        request.send(404 if number % 5 == 4 else 200, picture(seed=number), "image/png")

    return serve(answer), go_on


def test_running_partitions_are_counted_by_progress_files_and_finished_ones_by_rows(tmp_path, serve, at_once):
    server, go_on = half_served(serve)
    config = collected(tmp_path, server, [f"/{number}" for number in range(20)])
    watch = FetchWatch(Build(str(tmp_path)))
    outcomes = []
    work = threading.Thread(target=lambda: outcomes.append(run_unit(BY_NAME["fetch"], 0, str(tmp_path), config)))
    work.start()
    deadline = time.monotonic() + 30
    while watch.now().all_hosts.images < 10 and time.monotonic() < deadline:
        time.sleep(0.01)
    progress = watch.now()
    (row,) = host_rows(progress)
    assert (row["host"], row["images"], row["kept"], row["reasons"]) == ("(the source)", 10, "80 %", "2 http_error")
    assert re.fullmatch(r"[\d.]+ images/s, 80 % kept \(2 http_error\), 0:0\d:\d\d left", format_progress(progress))
    go_on.set()
    work.join()
    watch.unit_done(outcomes[0])
    counts = watch.now().all_hosts
    assert (counts.images, counts.kept, dict(counts.reasons)) == (20, 16, {"http_error": 4})
    assert "left" not in format_progress(watch.now()) and not list(tmp_path.rglob("*.progress.json*"))


def test_images_of_an_earlier_run_do_not_count_in_the_rate(tmp_path, serve):
    server = serve(lambda request: request.send(200, picture(), "image/png"))
    config = collected(tmp_path, server, ["/1", "/2"])
    run_unit(BY_NAME["fetch"], 0, str(tmp_path), config)
    watch = FetchWatch(Build(str(tmp_path)))
    watch.unit_done(run_unit(BY_NAME["fetch"], 0, str(tmp_path), config))
    assert format_progress(watch.now()).startswith("0.0 images/s, 100 % kept")


def test_a_progress_file_of_a_killed_run_is_ignored(tmp_path, serve):
    build = Build(str(tmp_path))
    collected(tmp_path, serve(lambda request: None), ["/1"])
    with progress_file(build, "fetch", 0) as file:
        reporter = Reporter(file, 1)
        reporter.note("http://a.example/1", Pair(key="0" * 16), resumed=False)
        reporter.write()
        assert (tmp_path / "fetch/part-00000.progress.json").is_file()
        assert FetchWatch(build).now().all_hosts.images == 0
        (tmp_path / "fetch/part-00000.progress.json").write_text("{")
        assert FetchWatch(build).now().all_hosts.images == 0


def test_many_hosts_are_the_busiest_by_name_and_the_others_together():
    progress = FetchProgress()
    for number in range(12):
        progress.add(f"host-{number}", HostCount(images=number + 1, kept=number))
    rows = list(host_rows(progress, 3))
    assert [row["host"] for row in rows] == ["host-11", "host-10", "host-9", OTHERS]
    assert sum(row["images"] for row in rows) == sum(range(13))


def test_a_terminal_shows_the_line_during_fetch_and_the_table_after_it():
    screen = io.StringIO()
    terminal = Terminal(Console(file=screen, force_terminal=True, width=160, color_system=None))
    progress = FetchProgress(total=9, started=time.time() - 3)
    progress.add("a.example", HostCount(4, 4, 2_000_000))
    progress.add("b.example", HostCount(2, 0))
    terminal.stage_started("fetch", 1)
    terminal.fetching(progress)
    during = screen.getvalue()
    terminal.stage_done("fetch", StageSummary(units=0))
    after = screen.getvalue()[len(during) :]
    assert re.search(r"6/9.*[12]\.\d images/s, 67 % kept.*0:00:0\d left", during)
    assert "a.example" in during and "a.example" in after and "b.example" in after
    terminal.stage_started("decode", 1)
    terminal.progress("decode", 1, 1)
    terminal.stage_done("decode", StageSummary(units=1))
    assert "a.example" not in screen.getvalue()[len(during) + len(after) :], "the table does not stay under later bars"


def test_the_report_has_an_address_that_a_browser_opens_and_a_name_that_markdown_leaves_alone(tmp_path, monkeypatch):
    made = {}
    for kind in ("link", "markdown", "table"):
        monkeypatch.setattr(
            artifacts, f"create_{kind}_artifact", lambda *args, kind=kind, **named: made.update({kind: (args, named)})
        )
    report = f"{tmp_path}/set [v1] `100%`/report.html"
    summary = {"collected": 1, "kept": 1, "rejected": {}, "shards": 1, "report": report}
    artifacts.publish_result(summary)
    (link,), named = made["link"]
    assert link == Path(report).as_uri() and link.endswith("/set%20%5Bv1%5D%20%60100%25%60/report.html")
    assert named["link_text"].endswith(r"/set \[v1\] \`100%\`/report.html")
    assert f"Report: `` {report} ``\n" in made["markdown"][0][0]
