"""make bench-vision: the client of vision servers beside bare httpx loops, and what it asks again when it is killed.

One local server speaks the protocol and answers each request after a fixed time. In every round the client captions
SIZE pictures through it, from files to kept answers, and bare loops post the same bytes: one over httpx's pool of
connections, as is usual, and one over a client for each of the requests under way. They run one after the other in
this process, so that both meet the same load of the machine; ratios are medians over the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import httpx
from rich.console import Console

from surd.pipeline.models.caption_model import CaptionPrompt
from surd.pipeline.models.openai_request import Dialect
from surd.pipeline.models.sent_picture import SentPicture
from surd.pipeline.models.vision_server import VisionServer
from surd.schemas.config import ServerConfig
from surd.schemas.model_ref import ServerRef
from tests.bench.chat_server import chat_server
from tests.bench.fetch_server import photograph
from tests.bench.figures import Figure
from tests.bench.vision_kill import CONCURRENCY as KILLED_CONCURRENCY
from tests.bench.vision_kill import killed

CONCURRENCY = 64
MOST_RATIO = 1.1
PICTURES = 25  # different ones; the others differ in a comment
SIDE = 512
PROMPT = CaptionPrompt(name="short", text="Describe the picture in one sentence.")
_JSON = {"Content-Type": "application/json"}


def files(seed: int, size: int) -> list[bytes]:
    """JPEGs of about 85 kB, no two alike."""
    made = []
    for number in range(PICTURES):
        buffer = io.BytesIO()
        photograph(seed * PICTURES + number, SIDE, SIDE).save(buffer, "JPEG", quality=80)
        made.append(buffer.getvalue())
    named = [(made[number % PICTURES], f"{number:08}".encode()) for number in range(size)]
    return [b"".join((data[:2], b"\xff\xfe\x00\x0a", name, data[2:])) for data, name in named]


def ours(url: str, cache: Path, images: Sequence[bytes]) -> float:
    """Seconds in which our client captions ``images``."""
    started = time.perf_counter()
    settings = ServerConfig(concurrency=CONCURRENCY, cache=str(cache))
    server = VisionServer(ServerRef(url=f"{url}/v1", model="m"), settings, "captioner")
    captions = server.caption(images, k=1, num_beams=1, max_new_tokens=40, seed=0, prompts=[[PROMPT]] * len(images))
    assert all(of_one[0].text for of_one in captions)
    return time.perf_counter() - started


def bare(loop: Callable[[str, Sequence[bytes]], Awaitable[list[str]]], url: str, bodies: Sequence[bytes]) -> float:
    """Seconds in which a bare loop posts ``bodies`` and reads the captions."""
    started = time.perf_counter()
    texts = asyncio.run(loop(url, bodies))
    assert len(texts) == len(bodies) and all(texts)
    return time.perf_counter() - started


async def pooled(url: str, bodies: Sequence[bytes]) -> list[str]:
    """Over one client, whose pool holds as many connections as requests are under way."""
    limits = httpx.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY)
    async with httpx.AsyncClient(timeout=60, limits=limits, trust_env=False) as client:
        return await _post_all([client] * CONCURRENCY, url, bodies)


async def single(url: str, bodies: Sequence[bytes]) -> list[str]:
    """Over a client of one connection for each request under way."""
    context = httpx.create_ssl_context()
    clients = [httpx.AsyncClient(timeout=60, verify=context, trust_env=False) for _ in range(CONCURRENCY)]
    try:
        return await _post_all(clients, url, bodies)
    finally:
        for client in clients:
            await client.aclose()


async def _post_all(clients: Sequence[httpx.AsyncClient], url: str, bodies: Sequence[bytes]) -> list[str]:
    texts, left = [], iter(bodies)

    async def post(client: httpx.AsyncClient) -> None:
        for body in left:
            response = await client.post(f"{url}/v1/chat/completions", content=body, headers=_JSON)
            response.raise_for_status()
            texts.append(response.json()["choices"][0]["message"]["content"])

    await asyncio.gather(*map(post, clients))
    return texts


def bodies_of(url: str, images: Sequence[bytes]) -> list[bytes]:
    """The bytes of our client's requests; that the server gets the same from both is checked by its log."""
    server = VisionServer(ServerRef(url=f"{url}/v1", model="m"), ServerConfig(), "captioner")
    pictures = (SentPicture(image, ServerConfig().image_size) for image in images)

    async def made() -> list[bytes]:
        request = Dialect(True).request()
        return [await request.body(server._caption_question(picture, PROMPT, 40, 0, 0)) for picture in pictures]

    return asyncio.run(made())


def asked(log: Path) -> list[str]:
    """Hashes of the bodies that the server got since the last call, sorted."""
    names = sorted(line.split()[1] for line in log.read_text().splitlines() if line.startswith("asked"))
    log.write_text("")
    return names


def measure_speed(args: argparse.Namespace, console: Console) -> list[Figure]:
    images = files(args.seed, args.size)
    rounds: list[tuple[float, float, float]] = []
    with tempfile.TemporaryDirectory() as folder, chat_server(Path(folder), args.delay) as (url, log):
        bodies = bodies_of(url, images)
        for number in range(args.rounds):
            cache, same, walls = Path(folder) / f"{number}.sqlite", [], {}
            works = {
                "ours": lambda cache=cache: ours(url, cache, images),
                "pooled": lambda: bare(pooled, url, bodies),
                "single": lambda: bare(single, url, bodies),
            }
            for name in sorted(works, reverse=bool(number % 2)):
                walls[name] = works[name]()
                same.append(asked(log))
            if not same[0] == same[1] == same[2]:
                raise SystemExit("the bare loops did not send what our client sends")
            again = ours(url, cache, images)
            if asked(log):
                raise SystemExit("what was answered was asked again")
            console.print(
                f"round {number + 1}: {args.size} pictures in {walls['ours']:.2f} s, from the cache {again:.2f} s;"
                f" bare httpx {walls['pooled']:.2f} s, with a client each {walls['single']:.2f} s",
                highlight=False,
            )
            rounds.append((walls["ours"] / walls["pooled"], walls["ours"] / walls["single"], again / walls["ours"]))
    pool, each, cached = (statistics.median(column) for column in zip(*rounds, strict=True))
    console.print(f"of the loop with a client for each request under way: {each:.2f} times its time", highlight=False)
    return [
        Figure("time_of_bare_httpx", pool, "<=", MOST_RATIO),
        Figure("time_from_the_cache", cached, "<=", 0.2),
    ]


def measure_kills(args: argparse.Namespace, console: Console) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        found = killed(Path(folder), args.kills, args.kill_size, args.seed, args.delay)
    console.print(
        f"killed {found.kills} times: {found.questions} questions, {found.asked} requests; {found.again} asked again,"
        f" which were under way when the process was killed ({KILLED_CONCURRENCY} at most each time); of these"
        f" {found.answered} had been answered, {found.age * 1000:.0f} ms before or less",
        highlight=False,
    )
    most = found.kills * KILLED_CONCURRENCY
    return [
        Figure("questions_asked_twice", float(found.twice), "<=", 0.0),
        Figure("under_way_asked_again", found.again / most if most else 0.0, "<=", 1.0),
        Figure("questions_lost", float(3 * args.kill_size - found.questions), "<=", 0.0),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=10_001)
    parser.add_argument("--size", type=int, default=1000, help="pictures a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--delay", type=float, default=0.02, help="seconds in which the server answers")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--kill-size", type=int, default=400, help="pictures of the process that is killed")
    args = parser.parse_args()
    console = Console(width=120)
    figures = [*measure_speed(args, console), *measure_kills(args, console)]
    missed = [figure.name for figure in figures if not figure.met]
    for figure in figures:
        console.print(f"{figure.name:40} {figure.value or 0:8.3f}  {figure.goal}", highlight=False)
    print(json.dumps({figure.name: figure.document() for figure in figures} | {"missed": missed}))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
