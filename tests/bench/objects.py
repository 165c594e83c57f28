"""What a build on an object store costs in requests and bytes: `python -m tests.bench.objects`.

Every HTTP request at a real S3 server (moto) on loopback is counted, but those for the records of what is done (markers
or ledger): their number is measured by `python -m tests.bench.ledger`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from surd.pipeline.build.folder import Build
from surd.pipeline.models import Models
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.sources import open_source
from surd.pipeline.stages import BY_NAME
from surd.pipeline.stages.pack import pack
from surd.schemas import (
    BuildConfig,
    Cleaned,
    Corrected,
    Marker,
    Pair,
    Reason,
    Row,
    Safe,
    Scored,
    Selected,
    SourceRecord,
)
from tests.bench.figures import Figure
from tests.object_store import BUCKET, ObjectStore, StoreRequest, serve_objects
from tests.pipeline.fetching import picture
from tests.pipeline.served import Request, Server

SELECTED = 0.6  # of the pictures
DISTINCT = 20  # pictures; 45 KB each


@contextmanager
def serve_pictures() -> Iterator[Server]:
    pictures = [picture(size=(150, 100), seed=seed) for seed in range(DISTINCT)]

    def answer(request: Request) -> None:
        number = int(request.path[1:])
        request.send(200, pictures[number % DISTINCT] + number.to_bytes(8, "big"), "image/png")

    server = Server(answer)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def collect(build: Build, server: Server, partitions: int, size: int) -> BuildConfig:
    """A build of which stage collect is done."""
    config = BuildConfig(source=f"gallery:{server.url}/api", partition_size=size)
    with open_source(config) as source, build.recording() as outputs:
        for part in range(partitions):
            numbers = range(part * size, part * size + size)
            records = [source._record({"id": number, "url": f"/{number}", "prompt": "a cat"}) for number in numbers]
            build.write_rows("collect", part, SourceRecord, records)
    rows = partitions * size
    marker = Marker(stage="collect", part=0, parts=partitions, fingerprint="-", outputs=outputs, rows=rows, seconds=0)
    build.write_json("collect/part-00000.done.json", marker)
    return config


def is_counted(request: StoreRequest) -> bool:
    """Whether a request is not for a record of what is done, and does not ask whether an output of collect is there."""
    of_record = ".done.json" in request.path + request.query or "ledger" in request.path + request.query
    return not of_record and not (request.method == "HEAD" and "/collect/" in request.path)


def is_segment(request: StoreRequest) -> bool:
    """Whether a request sends a part of a journal: how many there are depends on how fast images come."""
    return ".journal/" in request.path and not request.path.endswith("/00000")


def fetch_requests(store: ObjectStore, server: Server, partitions: int, size: int) -> tuple[int, int]:
    """Requests of one unit of fetch in a build of so many partitions: all, and without those for segments."""
    root = f"s3://{BUCKET}/fetch-{partitions}"
    config = collect(Build(root), server, partitions, size)
    run_unit(BY_NAME["fetch"], 0, root, config)  # what a process asks for once is not the unit's
    with store.counting() as seen:
        run_unit(BY_NAME["fetch"], partitions - 1, root, config)
    counted = [request for request in seen if is_counted(request)]
    return len(counted), sum(not is_segment(request) for request in counted)


def pack_bytes(store: ObjectStore, server: Server, partitions: int, size: int) -> tuple[int, int, int, int]:
    """Bytes that pack reads of the fetched tars, those of the packed pictures, its requests for them, and pictures."""
    build = Build(f"s3://{BUCKET}/pack")
    config = collect(build, server, partitions, size)
    chance, packed = random.Random(0), list[Pair]()
    for part in range(partitions):
        run_unit(BY_NAME["fetch"], part, build.root, config)
        pairs = build.read_rows("fetch", part, Pair)
        chosen = [chance.random() < SELECTED for _ in pairs]
        packed += [pair for pair, is_chosen in zip(pairs, chosen, strict=True) if is_chosen]
        write_rows(build, part, pairs, chosen)
    with store.counting() as seen:
        pack(build, config, Models(config.models))
    of_tars = [request for request in seen if request.method == "GET" and "/fetch/part-" in request.path]
    of_tars = [request for request in of_tars if request.path.endswith(".tar")]
    return sum(one.sent for one in of_tars), sum(pair.size or 0 for pair in packed), len(of_tars), len(packed)


def write_rows(build: Build, part: int, pairs: list[Pair], chosen: list[bool]) -> None:
    """The rows that pack reads, as the stages between fetch and it would leave them."""
    keys = [pair.key for pair in pairs]
    build.write_rows("clean", part, Cleaned, [Cleaned(key=key, complex="a cat, 8k") for key in keys])
    build.write_rows("safety", part, Safe, [Safe(key=key) for key in keys])
    build.write_rows("score", part, Scored, [Scored(key=key, sharpness=1.0) for key in keys])
    corrected = [Corrected(key=key, simple="A cat.", method="caption") for key in keys]
    build.write_rows("correct", part, Corrected, corrected)
    rows: list[Row] = [Selected(key=key) for key in keys]
    rejected = [row.reject("select", Reason.BELOW_THRESHOLD) for row in rows]
    verdicts = zip(chosen, rows, rejected, strict=True)
    build.write_rows("select", part, Selected, [row if is_in else out for is_in, row, out in verdicts])


def measure(few: int, many: int, size: int) -> list[Figure]:
    """The figures, at ``few`` and ``many`` partitions of ``size`` pictures."""
    with serve_objects() as store, serve_pictures() as server, tempfile.TemporaryDirectory() as home:
        os.environ.update(store.env | {"HOME": home, "AWS_CONFIG_FILE": str(Path(home) / "none")})
        _, at_few = fetch_requests(store, server, few, size)
        total, at_many = fetch_requests(store, server, many, size)
        read, needed, requests, pictures = pack_bytes(store, server, few, size)
    return [
        Figure("fetch_unit_requests", total, "<=", 20),
        Figure("fetch_unit_requests_many_to_few", at_many / at_few, "<=", 1.0),
        Figure("pack_bytes_read_to_needed", read / needed, "<=", 1.2),
        Figure("pack_requests_a_picture", requests / pictures, "<=", 1.0),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=10, help="partitions of the smaller build")
    parser.add_argument("--many", type=int, default=40, help="partitions of the larger build")
    parser.add_argument("--size", type=int, default=25, help="pictures a partition")
    options = parser.parse_args()
    figures = measure(options.few, options.many, options.size)
    table = Table("figure", "value", "goal", "met", box=None, pad_edge=False)
    for figure in figures:
        table.add_row(figure.name, f"{figure.value:.3g}", figure.goal, "yes" if figure.met else "NO")
    Console(stderr=True).print(table)
    met = all(figure.met for figure in figures)
    print(json.dumps({"met": met, "figures": {figure.name: figure.document() for figure in figures}}))
    sys.exit(not met)


if __name__ == "__main__":
    main()
