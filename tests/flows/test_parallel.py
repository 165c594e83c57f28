"""One thread, two threads and a real local Ray cluster give the same bytes; its workers share a host's limits."""

import asyncio
import threading
import time
from functools import partial

import pytest
import ray

from surd.flows.build import build_surd
from surd.flows.executors import RayExecutor
from surd.flows.host_requests import RayTokens, host_requests, with_cluster_limits
from surd.pipeline.net.host_tokens import HostLimits
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.stages import BY_NAME
from tests.pipeline.fetching import collected, picture, rows

pytest_plugins = ["tests.pipeline.served"]

# float32: in bfloat16, which auto means where the hardware computes in it, states depend on the number of threads that
# a product is divided between, and a Ray worker has one.
SMALL = {"demo": {"count": 8}, "partition_size": 3, "models": {"device": "cpu", "dtype": "float32"}}
ON_RAY = {
    "num_cpus": 2,
    "include_dashboard": False,
    "object_store_memory": 80 << 20,
    "namespace": "prefect",
    "log_to_driver": False,
}


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two workers; started by the test that needs it, after what must run without one."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.setenv("RAY_AUTH_MODE", "disabled")  # else Ray writes a token into the user's home
        ray.init(**ON_RAY)
        yield
        ray.shutdown()


def files(folder):
    found = [path for part in ("shards", "columns") for path in (folder / part).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_a_build_is_the_same_bytes_on_one_thread_on_two_and_on_ray(tmp_path, request):
    # Two threads first: then both of them want each model while it is not loaded. And the captioner elsewhere, as far
    # as chains can tell: so score, caption, rewrite and correct run at once.
    elsewhere = {"models": {**SMALL["models"], "devices": {"captioner": "cpu:0"}}}
    kept = [build_surd(out=str(tmp_path / "two"), workers=2, **SMALL | elsewhere)["kept"]]
    kept += [build_surd(out=str(tmp_path / "one"), **SMALL)["kept"]]
    request.getfixturevalue("cluster")
    kept += [build_surd(out=str(tmp_path / "ray"), runner="ray", **SMALL)["kept"]]
    one = files(tmp_path / "one")
    assert kept[0] >= 5 and len(set(kept)) == 1
    assert {"shards/manifest.json", "shards/surd-00000.tar"} < set(one) and any("columns/" in name for name in one)
    for other in ("two", "ray"):
        assert {name for name, data in files(tmp_path / other).items() if one.get(name) != data} == set()
        assert set(files(tmp_path / other)) == set(one)


def test_the_workers_of_a_cluster_together_keep_the_limits_of_a_host(tmp_path, serve, cluster):
    present, at_once, starts, lock = 0, 0, [], threading.Lock()
    both_at_work, meeting = threading.Event(), threading.Barrier(2, action=lambda: both_at_work.set())

    def meet(request):
        meeting.wait(60)
        request.send(200, picture(), "image/png")

    def limited(request):
        nonlocal present, at_once
        with lock:
            present, at_once = present + 1, max(at_once, present + 1)
            starts.append((time.monotonic(), request.path[1]))
        both_at_work.wait(60)
        with lock:
            present -= 1
        request.send(200, picture(seed=int(request.path[2:])), "image/png")

    server, elsewhere = serve(limited), serve(meet)
    settings = {
        "per_host_concurrency": 3, "per_host_rate": 10, "timeout": 120, "first_byte_timeout": 120,
        "allow_hosts": ["127.0.0.1"], "respect_robots": False, "respect_opt_outs": False,
    }  # fmt: skip
    executor, run = RayExecutor(), partial(run_unit, BY_NAME["fetch"], 0)
    with host_requests():
        futures = []
        for name in "ab":
            paths = [f"{elsewhere.url}/meet", *(f"/{name}{number}" for number in range(10))]
            config = collected(tmp_path / name, server, paths, **settings)
            futures.append(executor.submit(with_cluster_limits, run, str(tmp_path / name), config))
        assert [future.result(timeout=240).rows for future in futures] == [11, 11]
    assert all(row.kept for name in "ab" for row in rows(tmp_path / name))
    assert at_once <= 3, "requests at once"
    flowing = [moment for moment, _ in starts[3:]]  # the first came before both workers were there
    assert len(starts) == 20 and flowing[-1] - flowing[0] >= 1.2, "17 starts at 10 a second; at 20 it were 0.8 s"
    assert {worker for _, worker in starts[3:10]} == {"a", "b"}, "both workers have their turn"


def test_where_the_actor_of_another_build_is_gone_a_worker_starts_it_anew(cluster):
    async def take_before_and_after():
        tokens, limits = RayTokens(), HostLimits(concurrency=1, interval=0.0, hold=60.0)
        taken = [await tokens.take("a:80", limits, 60)]
        ray.kill(tokens._actor)
        return [*taken, await tokens.take("a:80", limits, 60)]

    assert len(set(asyncio.run(take_before_and_after()))) == 2
