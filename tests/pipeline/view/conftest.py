"""A synthetic build and a client of its viewer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from surd.pipeline.build.folder import Build
from surd.pipeline.build.open import open_build, recorded_config
from surd.pipeline.view.app import View, make_app
from surd.pipeline.view.loading import Loading
from tests.bench.view_build import write_view_build

HOST = "127.0.0.1:9"


def client_of(build: Build, beside: Build | None = None) -> TestClient:
    """A client whose addresses begin below the secret path."""
    opened, record = open_build(build.root)
    config = recorded_config(opened, record)
    loading = Loading(opened, config.safety.max_image, beside)
    view = View(opened, record, config, loading, beside.root if beside else None)
    client = TestClient(make_app(view, "secret", {HOST}), base_url=f"http://{HOST}/secret/")
    client.view = view  # type: ignore[attr-defined]
    return client


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A finished build of 300 records; tests leave it as it is."""
    return write_view_build(tmp_path_factory.mktemp("view") / "b", 300)


@pytest.fixture(scope="session")
def client(built: Build) -> Iterator[TestClient]:
    yield client_of(built)
