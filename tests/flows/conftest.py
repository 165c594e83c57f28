"""What the flow tests share: one Prefect test server, a folder of pictures, and one small build of it."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo
from prefect.testing.utilities import prefect_test_harness

# The captions alone are candidates: an LLM's rewriting is the pipeline's affair, and takes most of a build's time.
SMALL = {"models": {"captioner": "/tmp/tinycap", "diffusion": "/tmp/fakem"}, "partition_size": 3, "rewrite": {"enabled": False}, "caption": {"k": 1}, "correct": {"tolerance": 1.0}}


@pytest.fixture(scope="session", autouse=True)
def prefect_server():
    """One temporary Prefect server for all flow tests; never nested."""
    with prefect_test_harness(server_startup_timeout=120):
        yield


def draw_pictures(folder: Path, count: int) -> Path:
    """``count`` different PNGs, each with the prompt that a web UI would have put in."""
    folder.mkdir(parents=True)
    colours = ["red", "green", "blue", "yellow", "purple", "orange", "pink", "gray"]
    for number in range(count):
        image = Image.new("RGB", (64, 64), colours[number % len(colours)])
        ImageDraw.Draw(image).rectangle((8 * (number % 5), 8, 40 + 3 * number, 20 + 5 * number), fill="white")
        info = PngInfo()
        prompt = f"a white box on a {colours[number % len(colours)]} table, masterpiece, (best quality:1.2)"
        info.add_text("parameters", f"{prompt}\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, Seed: {number}")
        image.save(folder / f"picture-{number}.png", pnginfo=info)
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """Five pictures with prompts, and one with none."""
    folder = draw_pictures(tmp_path_factory.mktemp("pictures") / "images", 5)
    Image.new("RGB", (64, 64), "black").save(folder / "no-prompt.png")
    return folder


@pytest.fixture(scope="session")
def asked(pictures) -> dict[str, Any]:
    """Parameters of a small build."""
    return {"source": f"folder:{pictures}", **SMALL}


@pytest.fixture(scope="session")
def built(asked, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """The folder of a finished build, and its summary."""
    from flows.build import build_surd

    out = tmp_path_factory.mktemp("built") / "build"
    return out, build_surd(out=str(out), **asked)
