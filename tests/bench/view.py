"""How fast ``surd view`` is over a large build: time to the first page, searches, memory, frames while scrolling.

    python -m tests.bench.view [--size 50000 --hostile 500 --folder FOLDER --axe axe.min.js]

Writes a synthetic build (rows of every stage, small JPEGs, embeddings), starts the command in a process of its own and
asks it as the page does. A browser then scrolls the wall, decides by keys, and looks at a build of hostile texts; with
``--axe`` (the script of the npm package axe-core) every view is checked at 1280 and 390 pixels. Ends with one JSON
line, and with 1 where a goal is missed. Without Chromium only the server is measured, which is a miss.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from surd.pipeline.build.folder import Build
from surd.pipeline.decisions import read
from tests.bench.view_build import write_view_build
from tests.pipeline.report.chromium import program, tab

VIEWS = ("records", "overview", "borderline", "duplicates", "corrections", "safety", "charts", "map", "beside")

GOALS = {"ready_s": 2.0, "page_p95_ms": 150, "facets_p95_ms": 150, "memory_mb": 500, "decisions_50_s": 120}  # at most
FRAMES = 58  # a second, at least: the screen's own rate is 60
QUERIES = (
    "owl", "red fox", '"violet lighthouse"', "-sepia castle", "status:kept", "reason:below_threshold",
    "score.simple:0.2..0.3", "width:>512 short:<800", 'author:="author 7"', "author:7", "licence:none", "gain:<-0.05",
    "status:kept nsfw:>0.4", "host:img3", "repairs:>0", "language:en violin", "tokens:>77", "artist 12",
    "decision:none", "bucket:1024 harbour", "captions:there", 'keywords:="8k"', "params:sampler",
)  # fmt: skip
_SCROLL = """new Promise((done) => {
  const scroller = document.querySelector('#scroller'), times = [];
  const step = (now) => {
    times.push(now);
    scroller.scrollTop += SPEED;
    if (now - times[0] < 5000) requestAnimationFrame(step); else done(times);
  };
  requestAnimationFrame(step);
})"""


@contextmanager
def started(folder: Path) -> Iterator[tuple[str, int, float]]:
    """The address of a running ``surd view``, its process, and seconds from its start to its first page of cards."""
    command = [sys.executable, "-m", "surd.flows.cli.main", "view", str(folder), "--no-open"]
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split(": ", 1)[1].strip()
            httpx.get(f"{address}api/page", timeout=60).raise_for_status()
            yield address, process.pid, time.perf_counter() - begun
        finally:
            process.terminate()


def latencies(address: str, name: str) -> list[float]:
    """Milliseconds of each query, asked for the first time and over a connection that is open."""
    found = []
    with httpx.Client(base_url=address, timeout=60) as client:
        client.get("api/state")
        for query in QUERIES:
            begun = time.perf_counter()
            client.get(f"api/{name}", params={"q": query, "count": 60}).raise_for_status()
            found.append((time.perf_counter() - begun) * 1000)
    return found


def _processor_seconds(process: int) -> float:
    """What a process has used so far of all cores, which the load of the machine changes little."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def p95(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(0.95 * len(values)))]


def frames(address: str, profile: Path) -> dict[str, Any]:
    """Frames a second while the wall scrolls for five seconds, by the times that the browser gives its frames."""
    with tab(profile) as chromium:
        chromium.call("Emulation.setDeviceMetricsOverride", width=1280, height=900, deviceScaleFactor=1, mobile=False)
        chromium.open(address)
        _wait(chromium, "document.querySelector('#wall .tile:not(.waiting)') !== null")
        time.sleep(1)
        found: dict[str, Any] = {}
        chromium.call("Performance.enable", timeDomain="threadTicks")
        for name, speed in (("slow", 12), ("fast", 150)):
            before = _main_thread(chromium)
            script = _SCROLL.replace("SPEED", str(speed))
            times = chromium.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
            times = times["result"]["value"]
            gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
            found[f"frames_{name}"] = round(1000 * len(gaps) / (times[-1] - times[0]), 1)
            found[f"gap_p95_ms_{name}"] = round(p95(gaps), 1)
            found[f"main_thread_ms_a_frame_{name}"] = round((_main_thread(chromium) - before) * 1000 / len(gaps), 1)
        nodes = chromium.run("document.querySelectorAll('#wall .tile').length")
        return {**found, "nodes": nodes}


def _main_thread(chromium: Any) -> float:
    """Processor seconds that the page's main thread has used."""
    metrics = chromium.call("Performance.getMetrics")["metrics"]
    return next(float(one["value"]) for one in metrics if one["name"] == "TaskDuration")


def decide(address: str, build: Build, profile: Path) -> float:
    """Seconds for 50 decisions by keys alone; all are in the file."""
    with tab(profile) as chromium:
        chromium.open(f"{address}#q=status:kept&sort=random")
        _wait(chromium, "document.querySelector('#wall .tile:not(.waiting)') !== null")
        begun = time.perf_counter()
        for at in range(50):
            chromium.press("a" if at % 5 else "r")
            if not at % 5:
                _wait(chromium, "document.querySelector('#dialog').open")
                chromium.press("2")
            _wait(chromium, f"document.querySelector('#decided').textContent === '{at + 1} decided'")
        seconds = time.perf_counter() - begun
    assert len(read(build)) == 50
    return seconds


def accessibility(address: str, axe: Path, profile: Path) -> list[str]:
    """What axe finds in any view, by width: nothing is right."""
    found = []
    with tab(profile) as chromium:
        chromium.open(address)
        for width in (1280, 390):
            chromium.call(
                "Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=False
            )
            for view in VIEWS:
                chromium.run(f"location.hash = 'view={view}'")
                _wait(chromium, f"document.body.dataset.shown === '{view}'")
                chromium.run(axe.read_text(encoding="utf-8"))
                script = "axe.run().then((result) => result.violations.map((one) => `${one.id}: ${one.nodes[0].html}`))"
                result = chromium.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
                found += [f"{view} at {width}: {one}"[:300] for one in result["result"]["value"]]
    return found


def _wait(chromium: Any, script: str) -> None:
    end = time.monotonic() + 60
    while not chromium.run(script):
        assert time.monotonic() < end, script
        time.sleep(0.01)


def measure(folder: Path, size: int, hostile: int, axe: Path | None = None) -> dict[str, Any]:
    """Every figure over a build in ``folder``, which is made where it does not exist."""
    build = Build(str(folder / str(size)))
    if not build.exists("build.json"):
        write_view_build(folder / str(size), size)
    build.remove("decisions.jsonl")
    figures: dict[str, Any] = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1), "records": size}
    with started(folder / str(size)) as (address, process, ready), tempfile.TemporaryDirectory() as profile:
        figures |= {"ready_s": round(ready, 2), "ready_processor_s": round(_processor_seconds(process), 2)}
        for name in ("page", "facets"):
            found = latencies(address, name)
            figures[f"{name}_median_ms"] = round(sorted(found)[len(found) // 2], 1)
            figures[f"{name}_p95_ms"] = round(p95(found), 1)
        if program():
            figures |= frames(address, Path(profile) / "scroll")
            if axe:
                figures["axe"] = accessibility(address, axe, Path(profile) / "axe")
            figures["decisions_50_s"] = round(decide(address, build, Path(profile) / "decide"), 1)
        # Not getrusage: its peak includes the memory of the parent process.
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
        assert peak
        figures["memory_mb"] = round(int(peak.group(1)) / 1024)
    if program() and hostile:
        from tests.pipeline.view.test_browser import check_hostile

        with tempfile.TemporaryDirectory() as temporary:
            figures["hostile"] = {"texts": hostile, **check_hostile(Path(temporary), hostile)}
    return figures


def misses(figures: dict[str, Any]) -> list[str]:
    """The goals that are missed."""
    missed = [f"{name} {figures[name]} > {most}" for name, most in GOALS.items() if figures.get(name, 0) > most]
    missed += [
        f"{name} {figures.get(name)} < {FRAMES}"
        for name in ("frames_slow", "frames_fast")
        if not figures.get(name, 0) >= FRAMES
    ]
    hostile = figures.get("hostile", {})
    missed += [f"hostile texts: {what} {hostile[what]}" for what in ("ran", "left", "broken") if hostile.get(what)]
    return missed + [f"axe: {one}" for one in figures.get("axe", [])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=50_000)
    parser.add_argument("--hostile", type=int, default=500, help="records with hostile texts in every field; 0: none")
    parser.add_argument("--axe", type=Path, help="axe.min.js of axe-core; else accessibility is not checked")
    parser.add_argument("--folder", type=Path, help="where the build is written and stays; else a temporary one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        figures = measure(args.folder or Path(temporary), args.size, args.hostile, args.axe)
    missed = misses(figures)
    for miss in missed:
        print(miss)
    print(json.dumps(figures | {"missed": missed}))
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
