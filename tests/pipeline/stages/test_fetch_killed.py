"""fetch, killed at any moment and started again, downloads nothing twice that is on disk, and loses nothing."""

from __future__ import annotations

import multiprocessing
import random
import resource
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from surd.pipeline.acquisition.journal import Journal
from surd.pipeline.build.folder import Build, part_journal, part_tar
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.stages import BY_NAME
from surd.schemas import BuildConfig, SourceRecord, SurdError
from tests.pipeline.fetching import collected, picture, rows

pytest_plugins = ["tests.pipeline.served"]

MOMENTS, IMAGES, CONCURRENCY = 20, 40, 4
PATHS = [f"/{number}" for number in range(IMAGES)]


@pytest.fixture(scope="module")
def processes():
    """Real processes that begin with the pipeline loaded, so that a moment falls into its work."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["surd.pipeline.runner.run_unit", "surd.pipeline.stages.fetch", __name__])
    first = context.Process(target=int)  # the one that waits for the loading
    first.start()
    first.join()
    return context


def fetch_partition(root: str, config: str) -> None:
    run_unit(BY_NAME["fetch"], 0, root, BuildConfig.model_validate_json(config))


class Counting:
    """A server's answers, all images; ``reached`` is set with the request number ``at``."""

    def __init__(self) -> None:
        self.asked, self.at, self.reached, self.lock = 0, 0, threading.Event(), threading.Lock()

    def __call__(self, request) -> None:
        with self.lock:
            self.asked += 1
            if self.asked == self.at:
                self.reached.set()
        request.send(200, picture(seed=int(request.path[1:])), "image/png")

    def wait_for(self, number: int) -> None:
        self.at = self.asked + number
        self.reached.clear()


def on_disk(root: Path, config: BuildConfig) -> set[str]:
    """Paths of the images that a killed run left whole in journal or tar."""
    build = Build(str(root))
    records = build.read_rows("collect", 0, SourceRecord)
    places = [build.local_path(name) for name in (part_journal(0), part_tar("fetch", 0))]
    if not places[0].exists():
        return set()
    with Journal(*places, records, config.fetch) as journal:
        return {record.source_id for record in records if journal.lookup(record.key)}


def undisturbed(root: Path, server, processes) -> tuple[float, dict[str, bytes]]:
    """Seconds and files of a run that nobody kills."""
    config = collected(root, server, PATHS, concurrency=CONCURRENCY)
    started = time.perf_counter()
    process = processes.Process(target=fetch_partition, args=(str(root), config.model_dump_json()))
    process.start()
    process.join()
    assert process.exitcode == 0
    return time.perf_counter() - started, files(root)


def files(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "fetch").iterdir() if path.name != "ledger"}


def test_killed_at_twenty_random_moments_no_image_is_lost_and_none_on_disk_is_asked_for_again(
    tmp_path, serve, processes
):
    chance, answer = random.Random(0), Counting()
    server = serve(answer)
    seconds, expected = undisturbed(tmp_path / "undisturbed", server, processes)
    survived = 0
    for moment in range(MOMENTS):
        root = tmp_path / str(moment)
        config = collected(root, server, PATHS, concurrency=CONCURRENCY)
        server.requests.clear()
        process = processes.Process(target=fetch_partition, args=(str(root), config.model_dump_json()))
        answer.wait_for(chance.randrange(1, IMAGES + 1))
        process.start()
        if moment % 2:  # by the clock: also before the first request and after the last
            process.join(chance.uniform(0, seconds))
        else:
            assert answer.reached.wait(60)
        process.kill()
        process.join()
        survived += process.exitcode == 0
        before, known = Counter(server.requests), on_disk(root, config)
        fetch_partition(str(root), config.model_dump_json())
        after = Counter(server.requests) - before
        assert not known & after.keys(), "an image on disk was asked for again"
        assert known | after.keys() == set(PATHS), "an image was lost"
        assert len(server.requests) - IMAGES <= CONCURRENCY, "more than what was under way at the kill came twice"
        assert all(row.kept for row in rows(root)) and files(root) == expected
    assert survived <= MOMENTS * 3 // 4, "of the ten by the clock some may fall behind the end"


def fetch_on_a_small_disk(root: str, config: str, room: int, said) -> None:
    """Like ``fetch_partition``, where no file may grow beyond ``room`` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    try:
        fetch_partition(root, config)
    except SurdError as error:
        said.put(str(error))


def test_a_full_disk_stops_in_one_sentence_and_running_again_goes_on(tmp_path, serve, processes):
    answer = Counting()
    server = serve(answer)
    _, expected = undisturbed(tmp_path / "undisturbed", server, processes)
    root, room = tmp_path / "build", 4000 * IMAGES // 2
    config = collected(root, server, PATHS, concurrency=CONCURRENCY)
    server.requests.clear()
    said = processes.SimpleQueue()
    process = processes.Process(target=fetch_on_a_small_disk, args=(str(root), config.model_dump_json(), room, said))
    process.start()
    process.join()
    assert process.exitcode == 0, "no traceback"
    sentence = said.get()
    assert str(root) in sentence and "free some space and run again" in sentence and sentence.count(". ") == 0
    known = on_disk(root, config)
    assert 0 < len(known) < IMAGES
    before = Counter(server.requests)
    fetch_partition(str(root), config.model_dump_json())
    assert not known & (Counter(server.requests) - before).keys()
    assert all(row.kept for row in rows(root)) and files(root) == expected
