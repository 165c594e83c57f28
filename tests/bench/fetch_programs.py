"""Programs measured by the benchmark of fetch, a process each: python -m tests.bench.fetch_programs PROGRAM FOLDER.

``stage``: the stage fetch on a collected build; ``decode``: the stage decode on a fetched one; ``plain``: an asyncio
loop with aiohttp that hashes, reads the header and writes a tar; ``smaller``: the same loop, which decodes, resizes and
encodes on every core before it writes; ``bare``: that codec on files in memory, nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

CONCURRENCY = 32
SIZE, QUALITY = 512, 95


def stage(folder: Path) -> None:
    """Fetch every partition of a build that is not done yet, in as many processes as ``surd build`` would."""
    from surd.pipeline.build.folder import Build
    from surd.pipeline.runner.process_pool import FetchProcesses, processes
    from surd.pipeline.runner.process_setup import set_up_process
    from surd.pipeline.runner.run_unit import run_unit
    from surd.pipeline.stages import BY_NAME
    from surd.schemas import load_config

    set_up_process()
    config = load_config(json.loads((folder / "config.json").read_text()))
    count = Build(str(folder)).part_count()
    if (number := processes(config, count)) == 1:
        for unit in range(count):
            run_unit(BY_NAME["fetch"], unit, str(folder), config)
        return
    with FetchProcesses(number) as pool, ThreadPoolExecutor(number) as threads:
        list(threads.map(lambda unit: pool.run_unit(unit, str(folder), config), range(count)))


def decode(folder: Path) -> None:
    """Decode every partition of a fetched build."""
    from surd.pipeline.build.folder import Build
    from surd.pipeline.runner.process_setup import set_up_process
    from surd.pipeline.runner.run_unit import run_unit
    from surd.pipeline.stages import BY_NAME
    from surd.schemas import load_config

    set_up_process()
    config = load_config(json.loads((folder / "config.json").read_text()))
    for unit in range(Build(str(folder)).part_count()):
        run_unit(BY_NAME["decode"], unit, str(folder), config)


def plain(folder: Path, *, smaller: bool = False) -> None:
    """Download a list of URLs without checks, limits or retries."""
    import aiohttp
    from PIL import Image

    urls = iter((folder / "urls.txt").read_text().splitlines())

    async def work(session: aiohttp.ClientSession, tar: tarfile.TarFile) -> None:
        for url in urls:
            async with session.get(url) as response:
                data = await response.read()
            hashlib.sha256(data).hexdigest()
            with Image.open(io.BytesIO(data)) as image:
                assert image.size
            if smaller:
                data = await asyncio.to_thread(recode, data)
            info = tarfile.TarInfo(url.rpartition("/")[2])
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))

    async def run() -> None:
        with tarfile.open(folder / "plain.tar", "w") as tar:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENCY)) as session:
                await asyncio.gather(*(work(session, tar) for _ in range(CONCURRENCY)))

    asyncio.run(run())


def recode(data: bytes) -> bytes:
    """The fastest known way to a JPEG of 512 pixels: libjpeg-turbo itself decodes at half the size or less."""
    import numpy as np
    import simplejpeg
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        scale = min(1.0, SIZE / max(image.size))
        width, height = (round(side * scale) for side in image.size)
        if image.format == "JPEG":
            pixels = simplejpeg.decode_jpeg(data, min_width=width, min_height=height)
        else:
            pixels = np.asarray(image.convert("RGB"))
    if pixels.shape[:2] != (height, width):
        pixels = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX))
    return bytes(simplejpeg.encode_jpeg(pixels, QUALITY, colorsubsampling="420", fastdct=False))


def bare(folder: Path) -> None:
    """Recode as many images as the list has URLs; their files are in memory."""
    files = [path.read_bytes() for path in sorted((folder.parents[1] / "www" / "photos").iterdir())]
    count = len((folder / "urls.txt").read_text().splitlines())
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for size in threads.map(lambda number: len(recode(files[number % len(files)])), range(count)):
            assert size


if __name__ == "__main__":
    programs = {"stage": stage, "decode": decode, "plain": plain, "smaller": partial(plain, smaller=True), "bare": bare}
    programs[sys.argv[1]](Path(sys.argv[2]))
