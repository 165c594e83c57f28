"""What decode and clean add to the time of a fetch that the network limits: python -m tests.bench.overlap.

A server in a process of its own serves photographs of 1024 x 768, of which fetch may ask for 40 a second. Timed are
fetch alone, fetch with decode and clean beside it (as a build runs them), and the three one after the other. The last
line is JSON; exit code 1 if the goal is missed.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import httpx
import pandas as pd
import stamina
from prefect.testing.utilities import prefect_test_harness
from rich.console import Console

import surd.flows.build as build_module
from surd.flows.build import build_surd
from surd.flows.chains import chains
from surd.pipeline.runner.process_setup import set_up_process
from surd.pipeline.stages import BY_NAME, Stage
from surd.schemas import BuildConfig
from tests.bench.fetch_server import PICTURES, path_of, write_pictures
from tests.bench.figures import Figure

RATE = 40.0  # images a second
COLLECT = (BY_NAME["collect"],)
FETCH, DECODE, CLEAN = (BY_NAME[name] for name in ("fetch", "decode", "clean"))
#: A way to run -> the chains of stages.
WAYS: dict[str, list[tuple[Stage, ...]]] = {
    "fetch alone": [COLLECT, (FETCH,)],
    "beside each other": [COLLECT, *(chain for chain in chains(BuildConfig()) if FETCH in chain)],
    "one after the other": [COLLECT, (FETCH,), (DECODE,), (CLEAN,)],
}


@contextmanager
def serve(folder: Path, size: int) -> Iterator[list[str]]:
    """URLs of so many pictures, a hundred of them distinct, each under a name of its own."""
    write_pictures(folder)
    www = folder / "www"
    stored = sorted((www / "photos").iterdir())
    paths = [path_of("photos", number) for number in range(size)]
    for number, path in enumerate(paths):
        os.link(stored[number % PICTURES], www / path[1:])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--protocol", "HTTP/1.1"]
    with subprocess.Popen(command, cwd=www, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            for attempt in stamina.retry_context(on=httpx.ConnectError, wait_initial=0.05):
                with attempt:
                    httpx.get(f"http://127.0.0.1:{port}{paths[0]}", trust_env=False).raise_for_status()
            yield [f"http://127.0.0.1:{port}{path}" for path in paths]
        finally:
            server.terminate()


def seconds(out: Path, listed: Path, way: str) -> float:
    """The wall time of a build's first stages."""
    with (
        patch.object(build_module, "chains", lambda config: WAYS[way]),
        patch.object(build_module, "summarize", lambda *_: {"report": ""}),
        patch.object(build_module, "publish_result", lambda summary: None),
    ):
        began = time.perf_counter()
        build_surd(
            out=str(out),
            profile="demo",
            source=f"urls:{listed}",
            partition_size=50,
            fetch={"per_host_rate": RATE, "allow_hosts": ["127.0.0.1"], "processes": 1},
        )
        return time.perf_counter() - began


def main(argv: Sequence[str] | None = None) -> int:
    """Print the times and one JSON line; 1 if the goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.overlap", description=__doc__)
    parser.add_argument("--size", type=int, default=1000, help="images (1000)")
    size = parser.parse_args(argv).size
    console = Console()
    set_up_process()
    logging.disable(logging.WARNING)
    times = {}
    with tempfile.TemporaryDirectory() as name, prefect_test_harness(server_startup_timeout=300):
        folder = Path(name)
        with serve(folder, size) as urls:
            prompts = [f"a hill with {number} trees under a wide sky" for number in range(size)]
            pd.DataFrame({"url": urls, "prompt": prompts}).to_csv(folder / "list.csv", index=False)
            pd.DataFrame({"url": urls[:50], "prompt": prompts[:50]}).to_csv(folder / "few.csv", index=False)
            seconds(folder / "few", folder / "few.csv", "one after the other")  # what is imported once
            for way in WAYS:
                times[way] = seconds(folder / way.replace(" ", "-"), folder / "list.csv", way)
                console.print(f"{way:20} {times[way]:6.1f} s  {size / times[way]:5.1f} images/s", highlight=False)
    alone = times["fetch alone"]
    figure = Figure("time_beside_fetch_alone", times["beside each other"] / alone, "<=", 1.05)
    console.print(f"one after the other: {times['one after the other'] / alone:.2f} of fetch alone", highlight=False)
    print(json.dumps({"met": figure.met, "figures": {figure.name: figure.document()}}))
    return 0 if figure.met else 1


if __name__ == "__main__":
    raise SystemExit(main())
