"""fetch of a build on an object store: few requests, and no image is lost or asked for again without need."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections import Counter

import pytest

from surd.pipeline.acquisition.stored_journal import _SEGMENTS
from surd.pipeline.build.folder import Build, part_tar
from surd.pipeline.runner.plan import Planner
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.stages import BY_NAME
from surd.schemas import BuildConfig, SurdError
from tests.object_store import BUCKET, ObjectStore
from tests.pipeline.fetching import collected, picture, rows

pytest_plugins = ["tests.object_fixtures", "tests.pipeline.served"]
ROOT = f"s3://{BUCKET}/build"
IMAGES, CONCURRENCY = 40, 4
PATHS = [f"/{number}" for number in range(IMAGES)]


def fetch(root, config: BuildConfig):
    return run_unit(BY_NAME["fetch"], 0, str(root), config)


def fetch_partition(config: str) -> None:
    fetch(ROOT, BuildConfig.model_validate_json(config))


def send_picture(request) -> None:
    request.send(200, picture(seed=int(request.path[1:])), "image/png", ETag=f'"{request.path[1:]}"')


def journal_of(objects: ObjectStore) -> list[str]:
    return [name.rpartition("/")[2] for name in objects.names("build/fetch/part-00000.journal/")]


@pytest.fixture
def server(serve):
    return serve(send_picture)


def test_it_gives_the_bytes_of_one_here_by_few_requests(objects, server, tmp_path):
    config = collected(ROOT, server, PATHS)
    (task,) = Planner(Build(ROOT), config).plan(BY_NAME["fetch"]).tasks  # as the driver hands it to its units
    with objects.counting() as seen:
        run_unit(BY_NAME["fetch"], 0, ROOT, config, task)
    assert len(seen) <= 20 and Counter(server.requests) == dict.fromkeys(PATHS, 1)
    assert journal_of(objects) == ["00000"]
    fetch(tmp_path, collected(tmp_path, server, PATHS))
    assert rows(ROOT) == rows(tmp_path)
    assert objects.read("build/fetch/part-00000.tar") == (tmp_path / part_tar("fetch", 0)).read_bytes()
    finished = (tmp_path / "fetch/part-00000.journal").read_bytes()
    assert objects.read("build/fetch/part-00000.journal/00000") == finished
    assert Build(ROOT).marker("fetch", 0).outputs == Build(str(tmp_path)).marker("fetch", 0).outputs


def test_after_a_kill_no_more_than_a_segment_is_asked_for_again(objects, serve):
    killed, reached = threading.Event(), threading.Event()

    def answer(request):
        if len(server.requests) > IMAGES * 3 // 4 and not killed.is_set():
            reached.set()
            killed.wait(60)
        else:
            send_picture(request)

    server = serve(answer)
    config = collected(ROOT, server, PATHS, concurrency=CONCURRENCY)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=fetch_partition, args=(config.model_dump_json(),))
    process.start()
    assert reached.wait(120)
    sent, since = journal_of(objects), time.monotonic()  # what has arrived is sent beside downloads, which wait here
    while len(sent) < _SEGMENTS // 2 and time.monotonic() < since + 5:
        time.sleep(0.1)
        if (now := journal_of(objects)) != sent:
            sent, since = now, time.monotonic()
    process.kill()
    process.join()
    killed.set()
    assert journal_of(objects) and not objects.names("build/fetch/part-00000.tar")
    server.requests.clear()
    fetch(ROOT, config)
    # Two segments: one is being filled, and the one before it may be on its way.
    assert len(server.requests) <= IMAGES // 4 + CONCURRENCY + 2 * IMAGES // _SEGMENTS
    assert all(row.kept for row in rows(ROOT)) and journal_of(objects) == ["00000"]


def test_a_failure_amid_a_partition_costs_no_image(objects, server):
    config = collected(ROOT, server, PATHS)
    objects.refuse = lambda method, path: "ExpiredToken" if method == "PUT" and path.endswith(".tar") else None
    with pytest.raises(SurdError, match="ExpiredToken"):
        fetch(ROOT, config)
    objects.refuse = ObjectStore.refuse
    fetch(ROOT, config)
    assert Counter(server.requests) == dict.fromkeys(PATHS, 1) and all(row.kept for row in rows(ROOT))


def test_the_next_run_asks_for_what_may_pass_and_one_with_other_settings_for_what_has_changed(objects, serve):
    statuses = {"/1": 503, "/2": 404}

    def answer(request):
        if status := statuses.get(request.path):
            request.send(status)
        elif request.headers.get("If-None-Match") == f'"{request.path[1:]}"':
            request.send(304)
        else:
            send_picture(request)

    server = serve(answer)
    config = collected(ROOT, server, PATHS[:6])
    fetch(ROOT, config)
    first = objects.read("build/fetch/part-00000.tar")
    fetch(ROOT, config)
    assert Counter(server.requests) == {**dict.fromkeys(PATHS[:6], 1), "/1": 2}
    assert objects.read("build/fetch/part-00000.tar") == first and journal_of(objects) == ["00000"]
    statuses.clear()
    server.requests.clear()
    server.headers_seen.clear()
    other = config.model_copy(update={"fetch": config.fetch.model_copy(update={"max_bytes": 10**6})})
    fetch(ROOT, other)
    asked = {
        path: headers.get("If-None-Match") for path, headers in zip(server.requests, server.headers_seen, strict=True)
    }
    assert asked == {path: None if path in ("/1", "/2") else f'"{path[1:]}"' for path in PATHS[:6]}
    assert all(row.kept for row in rows(ROOT))


def test_a_partition_with_other_records_asks_for_the_new_alone(objects, server):
    fetch(ROOT, collected(ROOT, server, PATHS[:8]))
    server.requests.clear()
    for _ in range(2):
        fetch(ROOT, collected(ROOT, server, PATHS[1:10]))
    assert sorted(server.requests) == ["/8", "/9"] and journal_of(objects) == ["00000"]
    assert all(row.kept for row in rows(ROOT)) and len(rows(ROOT)) == 9


def test_a_run_with_other_settings_uses_what_a_killed_one_has_left(objects, serve):
    stopped = threading.Event()

    def answer(request):
        if request.headers.get("If-None-Match"):
            request.send(304)
        else:
            send_picture(request)

    server = serve(answer)
    config = collected(ROOT, server, PATHS)
    objects.refuse = lambda method, path: "AccessDenied" if path.endswith(".tar") and not stopped.is_set() else None
    with pytest.raises(SurdError):
        fetch(ROOT, config)
    stopped.set()
    assert "00000" not in journal_of(objects)
    server.headers_seen.clear()
    fetch(ROOT, config.model_copy(update={"fetch": config.fetch.model_copy(update={"max_bytes": 10**6})}))
    assert all(headers.get("If-None-Match") for headers in server.headers_seen)
    assert all(row.kept for row in rows(ROOT)) and journal_of(objects) == ["00000"]
