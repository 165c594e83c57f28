"""The demo world as a gallery with Civitai's paged JSON API: `python -m surd.pipeline.demo.server`."""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from urllib.parse import parse_qs, urlsplit

from surd.pipeline.demo.world.files import DemoFile, demo_file, identity
from surd.schemas import SurdError

API, MAX_LIMIT = "/api/v1/images", 200
_TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}
#: One in this many items has no `meta`: its prompt has to be read from the file.
_WITHOUT_META = 4
#: Civitai's browsing level for each word.
_LEVELS = {"None": 1, "Mature": 8, "X": 16}


@dataclass(frozen=True)
class ServedGallery:
    """A gallery while it is served; `url` is its API."""

    url: str
    port: int


@contextmanager
def serve_gallery(count: int, seed: int = 0, port: int = 0, defects: float = 0.0) -> Iterator[ServedGallery]:
    """Serve the first `count` pictures of world `seed`, a share of `defects` of them defective, on 127.0.0.1 (port 0:
    any free one) until the block ends."""
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), _handler(count, seed, defects))
    except (OSError, OverflowError) as error:  # taken, reserved for root, or no port number
        why = getattr(error, "strerror", None) or error
        raise SurdError(f"--port is {port}: it cannot be used ({why}); give another, or 0 for any free one") from None
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield ServedGallery(f"http://127.0.0.1:{server.server_port}{API}", server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(count: int, seed: int, defects: float) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """Answer the API, an image, or 404."""
            parts = urlsplit(self.path)
            if parts.path == API:
                self._page({name: values[-1] for name, values in parse_qs(parts.query).items()})
            elif file := self._file(parts.path):
                self._answer(HTTPStatus.OK, file.content_type or _TYPES[file.ext], file.data)
            else:
                self._json(HTTPStatus.NOT_FOUND, {"error": "Not found"})

        def _file(self, path: str) -> DemoFile | None:
            match = re.fullmatch(r"/images/([0-9]{1,12})\.[a-z]+", path)
            index = int(match.group(1)) - identity(seed, 0) if match else -1
            file = demo_file(seed, index, defects) if 0 <= index < count else None
            return file if file and path == f"/images/{file.name}" else None

        def _page(self, query: dict[str, str]) -> None:
            try:
                limit = int(query.get("limit", "100"))
                start = _start_of(query["cursor"]) if "cursor" in query else 0
            except ValueError:
                self._json(HTTPStatus.BAD_REQUEST, {"error": "Invalid limit or cursor"})
                return
            end = min(start + max(1, min(limit, MAX_LIMIT)), count)
            base = f"http://{self.headers['Host']}"
            metadata: dict[str, str | int] = {"pageSize": end - start}
            if end < count:
                cursor = _cursor(seed, end)
                metadata |= {"nextCursor": cursor, "nextPage": f"{base}{API}?limit={limit}&cursor={cursor}"}
            items = [_item(demo_file(seed, index, defects), base, index) for index in range(start, end)]
            self._json(HTTPStatus.OK, {"items": items, "metadata": metadata})

        def _json(self, status: HTTPStatus, value: object) -> None:
            self._answer(status, "application/json", json.dumps(value).encode())

        def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: a scrape makes hundreds of requests."""

    return Handler


def _item(file: DemoFile, base: str, index: int) -> dict[str, object]:
    """The API's entry for one picture. The truth is never sent."""
    level = _LEVELS[file.nsfw_level]
    meta: dict[str, object] = {"prompt": file.prompt, "negativePrompt": file.negative_prompt, **file.params}
    return {
        "id": file.id, "url": f"{base}/images/{file.name}", "hash": None, "width": file.width, "height": file.height,
        "nsfwLevel": file.nsfw_level, "nsfw": level > 1, "type": "image", "browsingLevel": level,
        "createdAt": f"2024-01-{1 + index % 28:02d}T12:00:00.000Z", "postId": file.id // 10, "username": "demo_world",
        "baseModel": "SD 1.5", "stats": {"likeCount": index % 97, "heartCount": index % 31},
        "meta": None if file.silent or index % _WITHOUT_META == _WITHOUT_META - 1 else meta,
    }  # fmt: skip


def _cursor(seed: int, start: int) -> str:
    """A cursor as opaque as Civitai's: `id|time`."""
    return f"{identity(seed, start)}|{1704067200000 + start}"


def _start_of(cursor: str) -> int:
    return max(0, int(cursor.partition("|")[2]) - 1704067200000)


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m surd.pipeline.demo.server", description=__doc__)
    parser.add_argument("--count", type=int, default=480, help="pictures in the gallery (480)")
    parser.add_argument("--seed", type=int, default=0, help="which demo world (0)")
    parser.add_argument("--defects", type=float, default=0.0, help="share of defective records, 0 to 1 (0)")
    parser.add_argument("--port", type=int, default=8765, help="port on 127.0.0.1; 0 takes any free one (8765)")
    args = parser.parse_args()
    try:
        _serve(args)
    except SurdError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _serve(args: argparse.Namespace) -> None:
    with serve_gallery(args.count, args.seed, args.port, args.defects) as gallery:
        print(f"serving {args.count} pictures at {gallery.url} (Ctrl-C to stop)", flush=True)
        try:
            Event().wait()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
