"""While fetch is at work, console and page say how fast it is, what it gets from whom, and how long it will take."""

from __future__ import annotations

import io
import re
import threading
import time

import pytest
from rich.console import Console

from surd.flows.cli.console import Terminal
from surd.flows.cli.fetch_table import FetchWatch, table, tell
from surd.pipeline.acquisition import progress as fetch_progress
from surd.pipeline.acquisition.progress import OTHERS, FetchProgress, HostCount
from surd.pipeline.build.folder import Build
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.stages import BY_NAME
from tests.pipeline.fetching import collected, picture

pytest_plugins = ["tests.pipeline.served"]


@pytest.fixture
def at_once(monkeypatch):
    """Every image is told, not one second's."""
    monkeypatch.setattr(fetch_progress, "EVERY", 0.0)


def half_served(serve):
    """A server that gives eight images and two errors, and then waits to be let go on."""
    go_on = threading.Event()

    def answer(request):
        number = int(request.path[1:])
        if number >= 10:
            assert go_on.wait(30)
        request.send(404 if number % 5 == 4 else 200, picture(seed=number), "image/png")

    return serve(answer), go_on


def test_what_is_under_way_is_known_while_it_is_and_what_is_done_afterwards(tmp_path, serve, at_once):
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
    (row,) = table(progress)
    assert (row["host"], row["images"], row["kept"], row["reasons"]) == ("(the source)", 10, "80 %", "2 http_error")
    assert re.fullmatch(r"[\d.]+ images/s, 80 % kept \(2 http_error\), 0:0\d:\d\d left", tell(progress))
    go_on.set()
    work.join()
    watch.unit_done(outcomes[0])
    counts = watch.now().all_hosts
    assert (counts.images, counts.kept, dict(counts.reasons)) == (20, 16, {"http_error": 4})
    assert "left" not in tell(watch.now()) and not list(tmp_path.rglob("*.progress.json*"))


def test_what_an_earlier_run_got_does_not_count_as_speed(tmp_path, serve):
    server = serve(lambda request: request.send(200, picture(), "image/png"))
    config = collected(tmp_path, server, ["/1", "/2"])
    run_unit(BY_NAME["fetch"], 0, str(tmp_path), config)
    watch = FetchWatch(Build(str(tmp_path)))
    watch.unit_done(run_unit(BY_NAME["fetch"], 0, str(tmp_path), config))
    assert tell(watch.now()).startswith("0.0 images/s, 100 % kept")


def test_a_word_of_a_run_that_was_killed_is_not_taken_for_this_ones(tmp_path, serve):
    build = Build(str(tmp_path))
    collected(tmp_path, serve(lambda request: None), ["/1"])
    reporter = fetch_progress.Reporter(fetch_progress.progress_file(build, 0), 1)
    (tmp_path / "fetch").mkdir()
    reporter._write(tmp_path / "fetch/part-00000.progress.json")
    assert FetchWatch(build).now().all_hosts.images == 0
    (tmp_path / "fetch/part-00000.progress.json").write_text("{")
    assert FetchWatch(build).now().all_hosts.images == 0


def test_many_hosts_are_the_busiest_by_name_and_the_others_together():
    progress = FetchProgress()
    for number in range(12):
        progress.add(f"host-{number}", HostCount(images=number + 1, kept=number))
    rows = list(table(progress, 3))
    assert [row["host"] for row in rows] == ["host-11", "host-10", "host-9", OTHERS]
    assert sum(row["images"] for row in rows) == sum(range(13))


def test_a_terminal_shows_the_line_while_it_lasts_and_the_table_when_it_is_done():
    screen = io.StringIO()
    terminal = Terminal(Console(file=screen, force_terminal=True, width=160, color_system=None))
    progress = FetchProgress(total=9, started=time.time() - 3)
    progress.add("a.example", HostCount(4, 4, 2_000_000))
    progress.add("b.example", HostCount(2, 0))
    terminal.stage_started("fetch", 1)
    terminal.fetching(progress)
    during = screen.getvalue()
    terminal.stage_done("fetch", [])
    after = screen.getvalue()[len(during) :]
    assert re.search(r"6/9.*[12]\.\d images/s, 67 % kept.*0:00:0\d left", during)
    assert "a.example" in during and "a.example" in after and "b.example" in after
