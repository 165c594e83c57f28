"""Fixtures of the flow tests: one Prefect test server, a folder of pictures, and one small build of it."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from prefect.testing.utilities import prefect_test_harness

from tests.flows.pictures import draw_pictures
from tests.flows.tiny_llm import save_tiny_llm

# Captions are the only candidates: rewriting is tested in tests/pipeline, and takes most of a build's time.
SMALL = {"partition_size": 3, "rewrite": {"enabled": False}, "caption": {"k": 1}, "correct": {"tolerance": 1.0}}


@pytest.fixture(scope="session", autouse=True)
def prefect_server():
    """One temporary Prefect server for all flow tests; never nested."""
    with prefect_test_harness(server_startup_timeout=300):
        yield


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """Five pictures with prompts, and one with none."""
    folder = draw_pictures(tmp_path_factory.mktemp("pictures") / "images", 5)
    Image.new("RGB", (64, 64), "black").save(folder / "no-prompt.png")
    return folder


@pytest.fixture(scope="session")
def parameters(pictures, tmp_path_factory) -> dict[str, Any]:
    """Parameters of a small build."""
    llm = save_tiny_llm(tmp_path_factory.mktemp("llm"))
    return {"source": f"folder:{pictures}", "models": {"llm": str(llm)}, "embed": {"layers": [1]}, **SMALL}


@pytest.fixture(scope="session")
def built(parameters, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """The folder of a finished build, and its summary."""
    from surd.flows.build import build_surd

    out = tmp_path_factory.mktemp("built") / "build"
    return out, build_surd(out=str(out), **parameters)
