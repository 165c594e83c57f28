"""Fixtures: a real S3 server with an empty bucket, which the environment leads to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from s3fs import S3FileSystem

from tests.object_store import BUCKET, ObjectStore, serve_objects


@pytest.fixture(scope="session")
def object_server() -> Iterator[ObjectStore]:
    """One server for all tests of a process."""
    with serve_objects() as store:
        yield store


@pytest.fixture
def objects(object_server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """An S3 server with an empty bucket, which the environment leads to."""
    for name, value in object_server.env.items():
        monkeypatch.setenv(name, value)
    S3FileSystem.clear_instance_cache()  # one of another server may be kept: the address is no part of its keys
    object_server.refuse = ObjectStore.refuse
    for name in object_server.names():
        object_server.client.delete_object(Bucket=BUCKET, Key=name)
    object_server.requests.clear()
    return object_server
