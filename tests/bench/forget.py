"""What a takedown of 5 of 10,000 records costs: shards that change, model calls, requests, seconds.

    python -m tests.bench.forget [--records 10000]

Small pictures with prompts are imported as a build; five records go. Model loads and connections are counted, and
refused. Then the import runs again, which must find everything done, and every file is searched for what was removed.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import socket
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from surd.flows.import_dataset import Import, import_dataset
from surd.flows.listener import SILENT
from surd.pipeline.build.folder import Build
from surd.pipeline.forget.forget import RemovalRequest, forget, plan_removal
from surd.pipeline.forget.leftovers import find_leftovers
from surd.pipeline.models import Models
from tests.bench.figures import Figure

GONE = 5
FIELDS = {"partition_size": 1000, "pack.max_count": 100, "models.llm": "none", "models.embed_llm": "none"}


def write_set(root: Path, count: int) -> None:
    """Pictures of 32 x 32 noise with prompts, in the layout of an image folder."""
    (root / "train").mkdir(parents=True)
    random = np.random.default_rng(0)
    with (root / "train" / "metadata.jsonl").open("w") as lines:
        for number in range(count):
            data = io.BytesIO()
            Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8)).save(data, "PNG")
            (root / "train" / f"{number}.png").write_bytes(data.getvalue())
            row = {"file_name": f"{number}.png", "text": f"Picture {number}.", "prompt": f"noise, number {number}"}
            lines.write(json.dumps(row) + "\n")


def hashes(root: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (root / "shards").glob("*.tar")}


def measure(folder: Path, count: int) -> tuple[list[Figure], dict[str, float]]:
    write_set(folder / "set", count)
    out = folder / "build"
    request = Import(layout=f"imagefolder:{folder / 'set'}", out=str(out), fields=FIELDS)
    started = time.perf_counter()
    import_dataset(request, SILENT)
    seconds = {"build": time.perf_counter() - started}
    build, before = Build(str(out)), hashes(out)
    keys = sorted(build.read_table("selection.parquet", ["key"])["key"].to_pylist())[:: max(1, count // GONE)][:GONE]
    calls, connections = [], []

    def no_model(self: Models, make: object, role: str) -> object:
        calls.append(role)
        raise AssertionError(f"{role} was loaded")

    def no_connection(self: socket.socket, address: object) -> None:
        connections.append(address)
        raise OSError("no network here")

    with ExitStack() as stack:
        stack.enter_context(patch.object(Models, "_loaded", no_model))
        stack.enter_context(patch.object(socket.socket, "connect", no_connection))
        started = time.perf_counter()
        forget(build, plan_removal(build, RemovalRequest(records=keys)))
        seconds["forget"] = time.perf_counter() - started
        summary = import_dataset(request, SILENT)
        started = time.perf_counter()
        left = list(find_leftovers(build))
        seconds["proof"] = time.perf_counter() - started
    after = hashes(out)
    changed = sum(after.get(name) != sha256 for name, sha256 in before.items())
    figures = [
        Figure("shards_changed", changed, "<=", GONE),
        Figure("model_calls", len(calls), "<=", 0),
        Figure("requests", len(connections), "<=", 0),
        Figure("units_redone_by_the_next_run", summary["run_units"], "<=", 0),
        Figure("leftovers", len(left), "<=", 0),
        Figure("seconds_beside_the_build", seconds["forget"] / seconds["build"], "<=", 0.5),
    ]
    return figures, seconds | {"shards": float(len(before))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures, seconds = measure(Path(folder), arguments.records)
    table = Table("figure", "value", "goal", "met", box=None, pad_edge=False)
    for figure in figures:
        table.add_row(figure.name, f"{figure.value:g}", figure.goal, "yes" if figure.met else "no")
    console = Console()
    console.print(table)
    console.print(", ".join(f"{name} {value:.1f}" for name, value in seconds.items()), highlight=False)
    met = all(figure.met for figure in figures)
    print(json.dumps({"met": met, "figures": {figure.name: figure.document() for figure in figures}}))
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
