"""fetch asks again for what may pass, never for what will not, and downloads no image twice, killed or not."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from pipeline.build import Build
from pipeline.sources import open_source
from pipeline.stages import BY_NAME, run_unit
from schemas import BuildConfig, Marker, Pair, Reason, SourceRecord
from tests.pipeline.fetching import picture

pytest_plugins = ["tests.pipeline.served"]


def collected(root: Path, server, paths: list[str], **settings) -> BuildConfig:
    """A build whose collect is done: one partition of these paths."""
    config = BuildConfig(source=f"gallery:{server.url}/api", fetch={"retries": 0, **settings})
    build = Build(str(root))
    records = [open_source(config)._record({"id": path, "url": path}) for path in paths]
    build.write_rows("collect", 0, SourceRecord, records)
    marker = Marker(
        stage="collect", part=0, parts=1, fingerprint="-", outputs=build.written, rows=len(paths), seconds=0
    )
    build.write_json("collect/part-00000.done.json", marker)
    return config


def rows(root: Path) -> list[Pair]:
    return Build(str(root)).read_rows("fetch", 0, Pair)


def test_only_what_may_pass_is_asked_for_again_by_the_next_run(tmp_path, serve):
    first = {"/500": 500, "/503": 503, "/404": 404, "/410": 410, "/403": 403}
    mended = threading.Event()

    def answer(request):
        if request.path == "/html":
            request.send(200, b"<html>", "image/png")
        elif request.path == "/cut" and not mended.is_set():
            request.send(200, b"x", Content_Length="100")
            request.hang_up()
        elif request.path in first and not (mended.is_set() and first[request.path] >= 500):
            request.send(first[request.path])
        else:
            request.send(200, picture(seed=len(request.path)), "image/png")

    server = serve(answer)
    config = collected(tmp_path, server, ["/good", "/html", "/cut", *first])
    assert run_unit(BY_NAME["fetch"], 0, str(tmp_path), config).rows == 8
    assert Build(str(tmp_path)).marker("fetch", 0).transient == 3
    mended.set()
    assert not run_unit(BY_NAME["fetch"], 0, str(tmp_path), config).skipped
    assert run_unit(BY_NAME["fetch"], 0, str(tmp_path), config).skipped
    again = {"/cut": 2, "/500": 2, "/503": 2}
    assert Counter(server.requests) == {**dict.fromkeys(["/good", "/html", *first], 1), **again}
    http, text = Reason.HTTP_ERROR, Reason.NOT_AN_IMAGE
    assert [row.reason for row in rows(tmp_path)] == [None, text, None, None, None, http, http, http]
    kept = [row for row in rows(tmp_path) if row.kept]
    assert len([*Build(str(tmp_path)).images(0, kept)]) == 4


def test_a_run_that_changes_nothing_gives_the_same_bytes(tmp_path, serve):
    server = serve(lambda request: request.send(500 if request.path == "/b" else 200, picture(), "image/png"))
    config = collected(tmp_path, server, ["/a", "/b", "/c"])
    made = []
    for _ in range(2):
        run_unit(BY_NAME["fetch"], 0, str(tmp_path), config)
        made.append(
            {path.name: path.read_bytes() for path in (tmp_path / "fetch").iterdir() if "done" not in path.name}
        )
    assert made[0] == made[1] and Counter(server.requests) == {"/a": 1, "/b": 2, "/c": 1}


RUN = """
import sys
from pipeline.stages import BY_NAME, run_unit
from schemas import BuildConfig
run_unit(BY_NAME["fetch"], 0, sys.argv[1], BuildConfig.model_validate_json(sys.argv[2]))
"""


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_any_moment_no_image_on_disk_is_asked_for_again_and_none_is_lost(tmp_path, serve, seed):
    chance, concurrency = random.Random(seed), 4
    paths = [f"/{number}" for number in range(60)]
    kill_at, asked, reached = 0, 0, threading.Event()

    def answer(request):
        nonlocal asked
        asked += 1
        if asked >= kill_at:
            reached.set()
        request.send(200, picture(seed=int(request.path[1:])), "image/png")

    server = serve(answer)
    config = collected(tmp_path, server, paths, concurrency=concurrency)
    kills = 3
    for _ in range(kills):
        reached.clear()
        kill_at = asked + chance.randrange(1, 15)
        process = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path), config.model_dump_json()])
        assert reached.wait(60)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    run_unit(BY_NAME["fetch"], 0, str(tmp_path), config)
    assert [row.kept for row in rows(tmp_path)] == [True] * 60
    assert set(server.requests) == set(paths)
    assert len(server.requests) - len(paths) <= kills * concurrency  # those under way at the kill, and no others
