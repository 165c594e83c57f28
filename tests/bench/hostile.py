"""make bench-hostile: fetch against a hostile server, in two runs: images, contacted addresses, load on each host.

One twentieth each of the addresses answers with 404, 429 with Retry-After, a temporary 500, a stalled body, an endless
body, a wrong Content-Length, HTML as an image, a redirect loop, and a redirect into this machine and its network.
Fetch runs as in a build, in a process of its own in which every connect is recorded. Then it and curl get the images of
a list of URLs as people write them: with spaces, backslashes, without a scheme, escaped for HTML.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from surd.pipeline.build.folder import Build
from surd.pipeline.runner.plan import units
from surd.pipeline.runner.process_setup import set_up_process
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.stages import BY_NAME
from surd.schemas import BuildConfig, Pair, SourceRecord
from tests.bench import hostile_urls
from tests.bench.figures import Figure
from tests.bench.hostile_server import OUTCOMES, PAUSE, HostileServer, Visit, image_of, kind_of

HOSTS = [f"127.0.1.{number}" for number in range(1, 8)]  # seven and twenty are coprime: every host has every kind
NETWORK = "127.0.1.0/24"  # the allow-list; the redirects into this machine lead outside it
PER_HOST, RATE = 4, 20.0
WINDOW = 2.0  # seconds over which a host counts its requests
SLACK = 1.0  # seconds: requests already on their way when a host asks for a pause, on a busy machine
PARTS = 4


def settings(addresses: Path, size: int) -> BuildConfig:
    return BuildConfig(
        source=f"urls:{addresses}",
        partition_size=-(-size // PARTS),
        fetch={
            "allow_hosts": [NETWORK], "concurrency": 32, "per_host_concurrency": PER_HOST, "per_host_rate": RATE,
            "retries": 2, "first_byte_timeout": 1.0, "timeout": 2.0, "max_bytes": 200_000,
        },
    )  # fmt: skip


def fetch_watched(root: str, config: str) -> None:
    """One run of fetch in this process, two partitions at once; prints the addresses it connects to, as JSON."""
    connects: Counter[str] = Counter()

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event == "socket.connect" and isinstance(arguments[1], tuple):
            connects[str(arguments[1][0])] += 1

    sys.addaudithook(watch)
    parsed = BuildConfig.model_validate_json(config)
    with ThreadPoolExecutor(2) as threads:
        numbers = range(units(BY_NAME["fetch"], Build(root)))
        for outcome in threads.map(lambda unit: run_unit(BY_NAME["fetch"], unit, root, parsed), numbers):
            assert outcome.rows
    print(json.dumps(connects))


def one_run(root: Path, config: BuildConfig) -> Counter[str]:
    command = [sys.executable, "-m", "tests.bench.hostile", "--fetch", str(root), config.model_dump_json()]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Counter(json.loads(done.stdout.splitlines()[-1]))


def rows(root: Path, size: int) -> dict[int, Pair]:
    """Number of an address -> its row of fetch."""
    build, by_number = Build(str(root)), {}
    for unit in range(units(BY_NAME["fetch"], build)):
        for record, pair in zip(
            build.read_rows("collect", unit, SourceRecord), build.read_rows("fetch", unit, Pair), strict=True
        ):
            by_number[int((record.url or "").rpartition("/")[2].partition(".")[0])] = pair
    assert len(by_number) == size, "every address is one row"
    return by_number


def is_got(number: int, pair: Pair) -> bool:
    return pair.kept and pair.sha256 == hashlib.sha256(image_of(number)).hexdigest()


def busiest(visits: list[Visit]) -> float:
    """The most requests of one host in a window, relative to the number that the rate allows."""
    allowed, most = RATE * WINDOW + 1, 0
    for host in HOSTS:
        times = [visit.at for visit in visits if visit.host == host]
        most = max([most, *(sum(start <= at < start + WINDOW for at in times) for start in times)])
    return most / allowed


def in_pauses(server: HostileServer) -> int:
    """Requests to a host during a pause that it had asked for."""
    return sum(
        visit.host == host and start + SLACK < visit.at < start + PAUSE
        for start, host in server.pauses
        for visit in server.visits
    )


def figures(size: int, folder: Path, console: Console) -> Iterator[Figure]:
    """Figures of two runs of fetch against the server."""
    with socket.create_server(("127.0.0.1", 0)) as secret, HostileServer(HOSTS, secret.getsockname()[1]) as server:
        secret.setblocking(False)
        addresses, root = folder / "addresses.csv", folder / "build"
        addresses.write_text("url,prompt\n" + "".join(f"{server.url(n)},picture {n}\n" for n in range(size)))
        config = settings(addresses, size)
        run_unit(BY_NAME["collect"], 0, str(root), config)
        connects, after, seconds, counts = Counter[str](), [], [], []
        for server.run in (1, 2):
            begun, started = len(server.visits), time.perf_counter()
            connects += one_run(root, config)
            seconds.append(time.perf_counter() - started)
            after.append(rows(root, size))
            counts.append(Counter(visit.path for visit in server.visits[begun:]))
        contacted = _was_contacted(secret)
    _show(after, seconds, console)
    first, last = after
    recoverable = [number for number in range(size) if not OUTCOMES[kind_of(number)]]
    hopeless = [number for number in range(size) if OUTCOMES[kind_of(number)]]
    settled = [n for n in range(size) if not first[n].transient]
    share = sum(is_got(number, last[number]) for number in recoverable) / len(recoverable)
    right = sum(last[number].reason in OUTCOMES[kind_of(number)] for number in hopeless) / len(hopeless)
    again = sum(any(f"/{number}." in path for path in counts[1]) for number in settled)
    outside = sum(count for host, count in connects.items() if host not in HOSTS)
    yield Figure("recoverable_images_got", share, ">=", 1.0)
    yield Figure("hopeless_with_the_right_reason", right, ">=", 1.0)
    yield Figure("settled_in_run_1_and_asked_for_in_run_2", float(again), "<=", 0)
    yield Figure("connects_outside_the_allow_list", float(outside + contacted), "<=", 0)
    yield Figure("requests_at_once_at_one_host", float(max(visit.at_once for visit in server.visits)), "<=", PER_HOST)
    yield Figure("busiest_window_over_its_rate", busiest(server.visits), "<=", 1.05)
    yield Figure("requests_inside_a_pause", float(in_pauses(server)), "<=", 0)


def odd_urls(size: int, folder: Path, console: Console) -> Iterator[Figure]:
    """How many images of URLs as people write them are got, and how many are lost that curl gets."""
    with hostile_urls.server_of(size) as server:
        addresses = hostile_urls.urls(server, size)
        ours, theirs = hostile_urls.got_by_surd(addresses, folder), hostile_urls.got_by_curl(addresses, folder)
    table = Table("URLs with", "images", "surd", "curl", box=None, pad_edge=False)
    for kind in hostile_urls.KINDS:
        count = sum(hostile_urls.kind_of(number) == kind for number in range(size))
        table.add_row(kind, str(count), str(ours[kind]), str(theirs[kind]))
    console.print(table)
    yield Figure("odd_urls_got", ours.total() / size, ">=", 1.0)
    yield Figure("odd_urls_that_curl_gets_and_surd_does_not", float((theirs - ours).total()), "<=", 0)


def _was_contacted(listener: socket.socket) -> bool:
    try:
        listener.accept()
    except BlockingIOError:
        return False
    return True


def _show(after: list[dict[int, Pair]], seconds: list[float], console: Console) -> None:
    table = Table("kind", "images", "got in run 1", "by run 2", "reasons at the end", box=None, pad_edge=False)
    for kind in OUTCOMES:
        numbers = [number for number in after[0] if kind_of(number) == kind]
        got = [sum(is_got(number, run[number]) for number in numbers) for run in after]
        reasons = Counter(pair.reason.value for n in numbers if (pair := after[-1][n]).reason)
        summary = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        table.add_row(kind, str(len(numbers)), *map(str, got), summary)
    console.print(table)
    console.print(f"\nrun 1 took {seconds[0]:.1f} s, run 2 {seconds[1]:.1f} s", highlight=False)


def main() -> int:
    """Print the outcomes of every kind and one JSON line of every figure beside its goal; 1 if one misses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1000)
    parser.add_argument("--fetch", nargs=2, metavar=("ROOT", "CONFIG"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    set_up_process()
    if args.fetch:
        fetch_watched(*args.fetch)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        results = [*figures(args.size, Path(folder), Console()), *odd_urls(args.size, Path(folder), Console())]
    missed = [figure.name for figure in results if not figure.met]
    print(json.dumps({"figures": {figure.name: figure.document() for figure in results}, "missed": missed}))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
