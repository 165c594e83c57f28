"""URLs as people write them into lists: how many images surd gets from them, and how many curl does."""

from __future__ import annotations

import shutil
import subprocess
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from surd.pipeline import untrusted_json
from surd.pipeline.build.folder import Build
from surd.pipeline.runner.plan import units
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.stages import BY_NAME
from surd.schemas import BuildConfig, Pair
from tests.pipeline.fetching import picture
from tests.pipeline.served import Request, Server

#: Kind -> the URL as a list has it, and the path and query that a browser asks for, unquoted. ``{n}`` is its number.
KINDS = {
    "space": ("http://{host}/{n} my image.png", "/{n} my image.png"),
    "unicode": ("http://{host}/{n}-größe-猫.png", "/{n}-größe-猫.png"),
    "backslash": ("http://{host}\\{n}\\a.png", "/{n}/a.png"),
    "blanks around": ("  http://{host}/{n}.png \t", "/{n}.png"),
    "no scheme": ("//{host}/{n}.png", "/{n}.png"),
    "escaped": ("http://{host}/{n}.png?a=1&amp;b=2", "/{n}.png?a=1&b=2"),
    "fragment": ("http://{host}/{n}.png#top of page", "/{n}.png"),
    "brackets": ("http://{host}/{n}[1]{{a}}|^.png", "/{n}[1]{{a}}|^.png"),
    "percent": ("http://{host}/{n}-100%.png", "/{n}-100%.png"),
}


def kind_of(number: int) -> str:
    return [*KINDS][number % len(KINDS)]


def image_of(number: int) -> bytes:
    return picture(size=(8, 8), seed=number)


@contextmanager
def server_of(size: int) -> Iterator[Server]:
    """A server with the images of the first ``size`` numbers, each at the path that its URL means."""
    images = {KINDS[kind_of(n)][1].format(n=n): n for n in range(size)}

    def answer(request: Request) -> None:
        number = images.get(unquote(request.path))
        request.send(404) if number is None else request.send(200, image_of(number), "image/png")

    server = Server(answer)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def urls(server: Server, size: int) -> list[str]:
    return [KINDS[kind_of(n)][0].format(n=n, host=f"127.0.0.1:{server.server_port}") for n in range(size)]


def got_by_surd(addresses: list[str], folder: Path) -> Counter[str]:
    """Kind -> images, through collect and fetch."""
    rows = [untrusted_json.dump({"url": url, "prompt": f"picture {n}"}) for n, url in enumerate(addresses)]
    (folder / "odd.jsonl").write_text("\n".join(rows), encoding="utf-8")
    fetch = {"allow_hosts": ["127.0.0.1"], "per_host_rate": 1000.0, "per_host_concurrency": 16, "retries": 0}
    config, root = BuildConfig(source=f"urls:{folder / 'odd.jsonl'}", fetch=fetch), str(folder / "odd")
    run_unit(BY_NAME["collect"], 0, root, config)
    build, bodies = Build(root), list[bytes]()
    for unit in range(units(BY_NAME["fetch"], build)):
        run_unit(BY_NAME["fetch"], unit, root, config)
        bodies += build.images(unit, [pair for pair in build.read_rows("fetch", unit, Pair) if pair.kept])
    return _kinds_of(bodies, len(addresses))


def got_by_curl(addresses: list[str], folder: Path) -> Counter[str]:
    """The same by curl, one process for all; by urllib where there is no curl."""
    curl = shutil.which("curl")
    if curl is None:
        return _kinds_of(filter(None, map(_read_by_urllib, addresses)), len(addresses))
    target = folder / "curl"
    target.mkdir()
    lines = []
    for number, url in enumerate(addresses):
        quoted = url.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t")
        lines.append(f'url = "{quoted}"\noutput = "{target / str(number)}"\n')
    (folder / "curl.cfg").write_text("".join(lines), encoding="utf-8")
    subprocess.run([curl, "-q", "-s", "-f", "-g", "-K", str(folder / "curl.cfg")], check=False)
    return _kinds_of((path.read_bytes() for path in target.iterdir()), len(addresses))


def _read_by_urllib(url: str) -> bytes | None:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return bytes(response.read())
    except (OSError, ValueError):
        return None


def _kinds_of(bodies: Iterable[bytes], size: int) -> Counter[str]:
    kinds = {image_of(number): kind_of(number) for number in range(size)}
    return Counter(kinds[body] for body in bodies if body in kinds)
