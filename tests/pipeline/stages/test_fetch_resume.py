"""fetch asks again for what may pass, never for what will not, and downloads no image twice."""

from __future__ import annotations

import threading
from collections import Counter

from surd.pipeline.build.folder import Build
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.stages import BY_NAME
from surd.schemas import Reason
from tests.pipeline.fetching import collected, picture, rows

pytest_plugins = ["tests.pipeline.served"]


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
        made.append({path.name: path.read_bytes() for path in (tmp_path / "fetch").iterdir() if path.name != "ledger"})
    assert made[0] == made[1] and Counter(server.requests) == {"/a": 1, "/b": 2, "/c": 1}
