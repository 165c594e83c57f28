"""A real S3-speaking server on loopback (moto), which counts its requests and the bytes that it sends."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cached_property
from typing import Any

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from s3fs import S3FileSystem
from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET = "bucket"


@dataclass(frozen=True)
class StoreRequest:
    """One HTTP request: what it asked for and what came back."""

    method: str
    path: str
    query: str
    status: int
    sent: int


@dataclass
class ObjectStore:
    """The server while it runs. ``refuse``: given a method and a path, the XML error code to answer with, or None."""

    url: str
    requests: list[StoreRequest] = field(default_factory=list)
    refuse: Callable[[str, str], str | None] = lambda method, path: None

    @property
    def env(self) -> dict[str, str]:
        """The variables that lead every AWS client here."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @cached_property
    def client(self) -> Any:
        """A client that is not that of the code under test."""
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        return boto3.client("s3", endpoint_url=self.url, region_name="us-east-1", **keys)

    def names(self, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def read(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read())

    @contextmanager
    def counting(self) -> Iterator[list[StoreRequest]]:
        """The requests that arrive while the block lasts."""
        start, seen = len(self.requests), list[StoreRequest]()
        yield seen
        seen += self.requests[start:]


def by_method(requests: Iterable[StoreRequest]) -> Counter[str]:
    return Counter(request.method for request in requests)


@contextmanager
def serve_objects() -> Iterator[ObjectStore]:
    """Serve an empty bucket until the block ends."""
    application = DomainDispatcherApplication(create_backend_app)
    store = ObjectStore("")

    def counted(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        code = store.refuse(method, path)
        if code:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            body = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode() if method != "HEAD" else b""
            store.requests.append(StoreRequest(method, path, environ["QUERY_STRING"], 403, len(body)))
            now = datetime.now(UTC) + (timedelta(hours=1) if code == "RequestTimeTooSkewed" else timedelta())
            headers = {"Content-Type": "text/xml", "Content-Length": str(len(body)), "Date": format_datetime(now, True)}
            start_response("403 Forbidden", [*headers.items()])
            return [body]

        def note(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            size = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
            sent = size if method != "HEAD" else 0
            store.requests.append(StoreRequest(method, path, environ["QUERY_STRING"], int(status[:3]), sent))
            return start_response(status, headers, *rest)

        return application(environ, note)

    server = make_server("127.0.0.1", 0, counted, threaded=True, request_handler=_Quiet)
    store.url = f"http://127.0.0.1:{server.server_port}"
    S3FileSystem.clear_instance_cache()  # it would lead to a server of before: the address is no part of its keys
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        store.client.create_bucket(Bucket=BUCKET)
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: Any) -> None:
        pass
