"""One thread, two threads and a real local Ray cluster give the same bytes."""

import ray

from surd.flows.build import build_surd

# float32: in bfloat16, which auto means where the hardware computes in it, states depend on the number of threads that
# a product is divided between, and a Ray worker has one.
SMALL = {"demo": {"count": 10}, "partition_size": 4, "models": {"device": "cpu", "dtype": "float32"}}
ON_RAY = {
    "num_cpus": 2,
    "include_dashboard": False,
    "object_store_memory": 80 << 20,
    "namespace": "prefect",
    "log_to_driver": False,
}


def files(folder):
    found = [path for part in ("shards", "columns") for path in (folder / part).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_a_build_is_the_same_bytes_on_one_thread_on_two_and_on_ray(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # else Ray writes a token into the user's home
    # Two threads first: then both of them want each model while it is not loaded. And the captioner elsewhere, as far
    # as chains can tell: so score, caption, rewrite and correct run at once.
    elsewhere = {"models": {**SMALL["models"], "devices": {"captioner": "cpu:0"}}}
    kept = [build_surd(out=str(tmp_path / "two"), workers=2, **SMALL | elsewhere)["kept"]]
    kept += [build_surd(out=str(tmp_path / "one"), **SMALL)["kept"]]
    ray.init(**ON_RAY)
    try:
        kept += [build_surd(out=str(tmp_path / "ray"), runner="ray", **SMALL)["kept"]]
    finally:
        ray.shutdown()
    one = files(tmp_path / "one")
    assert kept[0] >= 6 and len(set(kept)) == 1
    assert {"shards/manifest.json", "shards/surd-00000.tar"} < set(one) and any("columns/" in name for name in one)
    for other in ("two", "ray"):
        assert {name for name, data in files(tmp_path / other).items() if one.get(name) != data} == set()
        assert set(files(tmp_path / other)) == set(one)
