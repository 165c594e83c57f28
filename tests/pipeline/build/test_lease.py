"""On an object store one run at a time holds a build, and one that has stopped is taken over."""

from __future__ import annotations

import json
import logging
import threading
import time
from contextlib import ExitStack
from uuid import uuid4

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from surd.pipeline.build.folder import Build
from surd.pipeline.build.lease import FOLDER, Lease, LeaseTimes
from surd.pipeline.build.lock import exclusive
from surd.schemas import SurdError

QUICK = LeaseTimes(beat=0.05, stopped=2, look=0.05)  # a busy machine may let a heartbeat wait for a second


@pytest.fixture(scope="module")
def bucket():
    """A bucket of a real S3 server on this machine."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as environment:
        host, port = server.get_host_and_port()
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "x")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket="leases")
        yield "leases"
    server.stop()


@pytest.fixture(params=["memory", "s3"])
def build(request):
    if request.param == "memory":
        return Build(f"memory://leases/{uuid4().hex}")
    return Build(f"s3://{request.getfixturevalue('bucket')}/{uuid4().hex}")


def left_behind(build: Build, **fields: object) -> None:
    """What a killed run leaves: a lease that nobody renews."""
    lease = Lease(build, 1, QUICK)
    lease._document |= fields
    assert lease.create()


def leases(build: Build) -> list[str]:
    return build.listdir(FOLDER)


def test_a_second_run_is_told_who_holds_the_build_and_since_when(build):
    with exclusive(build, QUICK):
        with (
            pytest.raises(SurdError, match=r"another run .*\(.* on .*, process \d+, since 20\d\d-.* UTC\); wait until"),
            exclusive(Build(build.root), QUICK),
        ):
            pass
        assert leases(build) == ["000001.json"]
    assert leases(build) == []
    with exclusive(build, QUICK):
        pass


@pytest.mark.parametrize("since", ["1970-01-01 00:00:00 UTC", "2999-01-01 00:00:00 UTC"])
def test_a_lease_that_nobody_renews_is_taken_over_whatever_its_clock_said(build, since):
    left_behind(build, since=since)
    started = time.monotonic()
    with exclusive(build, QUICK) as check:
        assert time.monotonic() - started >= QUICK.stopped
        assert leases(build) == ["000002.json"]
        check()
    assert leases(build) == []


def test_of_many_that_take_over_at_once_one_gets_it(build):
    left_behind(build)
    release, entered, refused = threading.Event(), [], []

    def run() -> None:
        try:
            with exclusive(Build(build.root), QUICK):
                entered.append(1)
                release.wait(60)
        except SurdError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while len(refused) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    held = len(entered)
    release.set()
    for thread in threads:
        thread.join()
    assert held == 1 and len(refused) == 3 and all("another run is working" in sentence for sentence in refused)


def test_a_run_that_stopped_for_long_is_told_that_another_has_taken_over(build, monkeypatch):
    read = Build.sizes
    asleep = threading.Event()

    def paused(self: Build, relative: str) -> dict[str, int]:
        if threading.current_thread().name == "lease":
            asleep.wait(60)
        return read(self, relative)

    with ExitStack() as stack:
        check = stack.enter_context(exclusive(build, QUICK))
        monkeypatch.setattr(Build, "sizes", paused)
        with exclusive(Build(build.root), LeaseTimes(beat=20, stopped=1, look=0.05)):
            asleep.set()
            deadline = time.monotonic() + 60
            with pytest.raises(SurdError, match=r"no sign of life for .* another run has taken over .*since"):
                while time.monotonic() < deadline:
                    check()
                    time.sleep(0.02)
            stack.close()
            assert leases(build) == ["000002.json"], "the first run leaves the other's lease alone"


def test_a_lease_that_cannot_be_read_is_watched_like_any_other(build):
    build.write_bytes(f"{FOLDER}/000001.json", b"{")
    with exclusive(build, QUICK):
        assert leases(build) == ["000002.json"]


@pytest.mark.parametrize("jump", [3600, -3600])
def test_a_clock_that_jumps_neither_ends_a_lease_nor_gives_it_away(jump, monkeypatch):
    build, clock = Build(f"memory://leases/{uuid4().hex}"), time.time
    with exclusive(build, QUICK) as check:
        monkeypatch.setattr(time, "time", lambda: clock() + jump)
        for _ in range(3):
            with pytest.raises(SurdError, match="another run is working"), exclusive(Build(build.root), QUICK):
                pass
        check()
    left_behind(build)
    started = time.monotonic()
    with exclusive(build, QUICK):
        assert QUICK.stopped <= time.monotonic() - started < 60


def test_a_store_that_ignores_conditions_is_said_and_not_trusted(monkeypatch, caplog):
    pipe = MemoryFileSystem.pipe_file
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", lambda self, path, value, mode="": pipe(self, path, value))
    with caplog.at_level(logging.WARNING), exclusive(Build(f"memory://leases/{uuid4().hex}"), QUICK) as check:
        check()
    assert "nothing keeps a second run off" in caplog.text


def test_a_lease_names_its_owner(build):
    with exclusive(build, QUICK):
        document = json.loads(build.read_bytes(f"{FOLDER}/000001.json"))
    assert document["pid"] and document["host"] and document["user"] and document["since"]
