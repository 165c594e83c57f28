"""A server on this machine that speaks the Hugging Face hub's protocol as far as a push to a dataset repo uses it.

Repos with branches, pre-upload, git-lfs batch, single and multipart uploads, commits, tree listings in pages.
Paths and answers as huggingface_hub 2.4 asks and expects them; https://github.com/git-lfs/git-lfs/tree/main/docs/api.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

WRITER, READER, EXPIRED = "hf_writer", "hf_reader", "hf_expired"
_IN_LFS = (".tar", ".parquet")
_PAGE = 5  # entries of a tree listing


@dataclass
class Repo:
    """Branch -> path -> (kind, sha256 or bytes); ``commits``: the files of each commit of any branch."""

    private: bool
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {".gitattributes": b"*.tar lfs\n"}})
    commits: list[dict[str, bytes]] = field(default_factory=list)
    heads: dict[str, str] = field(default_factory=lambda: {"main": "0" * 40})


@dataclass
class Hub:
    """What the server knows. ``uploads``: sha256 -> how often an object was stored whole; ``on_upload`` is called with
    the number of objects stored so far, before the answer."""

    url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, bytes] = field(default_factory=dict)
    uploads: Counter[str] = field(default_factory=Counter)
    requests: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    chunk_size: int | None = None
    ignored: str | None = None
    on_upload: Callable[[int], None] = lambda count: None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def files(self, repo: str, branch: str = "main") -> dict[str, bytes]:
        """Path -> bytes of a branch, without .gitattributes."""
        there = self.repos[repo].branches[branch]
        return {path: self.content(data) for path, data in there.items() if path != ".gitattributes"}

    def content(self, stored: bytes) -> bytes:
        return self.objects[stored[4:].decode()] if stored.startswith(b"lfs:") else stored


@contextmanager
def serve_hub() -> Iterator[Hub]:
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Refused(Exception):
    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        self.status, self.message, self.code = status, message, code


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        body = self._body()
        if body is None:
            return
        self.hub.requests.append(f"{self.command} {url.path}")
        try:
            for method, pattern, act in _ROUTES:
                if method == self.command and (match := re.fullmatch(pattern, url.path)):
                    if act not in (_put, _put_part, _complete):  # these addresses are signed
                        self._check_token(write=method == "POST" and act is not _validate)
                    self._send(200, *act(self, body, {name: unquote(text) for name, text in match.groupdict().items()}))
                    return
            raise _Refused(404, f"no route {self.command} {url.path}")
        except _Refused as error:
            headers = {"X-Error-Message": error.message} | ({"X-Error-Code": error.code} if error.code else {})
            self._send(error.status, {"error": error.message}, headers)

    def _body(self) -> bytes | None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        size = int(self.headers.get("Content-Length") or 0)
        data = self.rfile.read(size)
        return data if len(data) == size else None  # the client was killed

    def _check_token(self, *, write: bool) -> None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        self.hub.tokens.add(token)
        if token == EXPIRED:
            raise _Refused(401, "Invalid credentials in Authorization header")
        if token == READER and write:
            raise _Refused(403, "you must use a write token to upload to a repository")
        if token not in (READER, WRITER):
            raise _Refused(401, "Invalid username or password.")

    def _send(self, status: int, document: Any = None, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def repo(self, name: str) -> Repo:
        if name not in self.hub.repos:
            raise _Refused(404, "Repository not found", "RepoNotFound")
        return self.hub.repos[name]

    def branch(self, match: dict[str, str]) -> dict[str, bytes]:
        branches = self.repo(match["repo"]).branches
        if match["revision"] not in branches:
            raise _Refused(404, f"Invalid rev id: {match['revision']}", "RevisionNotFound")
        return branches[match["revision"]]


Answer = tuple[Any] | tuple[Any, dict[str, str]]


def _whoami(http: _Handler, body: bytes, match: dict[str, str]) -> Answer:
    return ({"type": "user", "name": "me", "orgs": [], "auth": {"accessToken": {"role": "write"}}},)


def _create(http: _Handler, body: bytes, match: dict[str, str]) -> Answer:
    asked = json.loads(body)
    name = f"{asked['organization']}/{asked['name']}"
    if asked["organization"] != "me":
        raise _Refused(403, "You don't have the rights to create a dataset under this namespace")
    if name in http.hub.repos:
        raise _Refused(409, "You already created this dataset repo")
    http.hub.repos[name] = Repo(private=asked.get("visibility") == "private" or asked.get("private") is True)
    return ({"url": f"{http.hub.url}/datasets/{name}", "name": name},)


def _info(http: _Handler, body: bytes, match: dict[str, str]) -> Answer:
    repo = http.repo(match["repo"])
    revision = match.get("revision") or "main"
    http.branch({"repo": match["repo"], "revision": revision})
    private = repo.private
    return ({"_id": "1", "id": match["repo"], "private": private, "sha": repo.heads[revision], "siblings": []},)


def _make_branch(http: _Handler, body: bytes, match: dict[str, str]) -> Answer:
    repo = http.repo(match["repo"])
    if match["revision"] in repo.branches:
        raise _Refused(409, "Reference already exists")
    repo.branches[match["revision"]] = dict(repo.branches["main"])
    repo.heads[match["revision"]] = repo.heads["main"]
    return ({},)


def _tree(http: _Handler, body: bytes, match: dict[str, str]) -> Answer:
    files = sorted(http.branch(match).items())
    query = parse_qs(urlsplit(http.path).query)
    assert query["recursive"][0].lower() == "true"
    start = int(query.get("cursor", ["0"])[0])
    entries = [_entry(http.hub, path, stored) for path, stored in files[start : start + _PAGE]]
    if start + _PAGE < len(files):
        there = f"{http.hub.url}{urlsplit(http.path).path}?recursive=true&cursor={start + _PAGE}"
        return entries, {"Link": f'<{there}>; rel="next"'}
    return (entries,)


def _entry(hub: Hub, path: str, stored: bytes) -> dict[str, Any]:
    data = hub.content(stored)
    git_oid = hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": git_oid}
    if stored.startswith(b"lfs:"):
        entry["lfs"] = {"oid": stored[4:].decode(), "size": len(data), "pointerSize": 130}
    return entry


def _preupload(http: _Handler, body: bytes, match: dict[str, str]) -> Answer:
    there = http.branch(match)
    files = []
    for file in json.loads(body)["files"]:
        path = file["path"]
        mode = "lfs" if path.endswith(_IN_LFS) or file["size"] > 10_000_000 else "regular"
        oid = _entry(http.hub, path, there[path])["oid"] if path in there and mode == "regular" else None
        ignored = http.hub.ignored is not None and path.endswith(http.hub.ignored)
        files.append({"path": path, "uploadMode": mode, "shouldIgnore": ignored, "oid": oid})
    return ({"files": files},)


def _batch(http: _Handler, body: bytes, match: dict[str, str]) -> Answer:
    http.repo(match["repo"])
    asked = json.loads(body)
    assert asked["operation"] == "upload" and asked["hash_algo"] == "sha256"
    objects = []
    for one in asked["objects"]:
        answer: dict[str, Any] = {"oid": one["oid"], "size": one["size"]}
        if one["oid"] not in http.hub.objects:
            href = f"{http.hub.url}/lfs/{one['oid']}"
            header: dict[str, str] = {}
            if size := http.hub.chunk_size:
                header = {f"{number:05d}": f"{href}/{number}" for number in range(1, -(-one["size"] // size) + 1)}
                header["chunk_size"] = str(size)
                href = f"{http.hub.url}/complete/{one['oid']}"
            verify = {"href": f"{http.hub.url}/verify"}
            answer["actions"] = {"upload": {"href": href, "header": header}, "verify": verify}
        objects.append(answer)
    return ({"transfer": "multipart" if http.hub.chunk_size else "basic", "objects": objects},)


def _put(http: _Handler, body: bytes, match: dict[str, str]) -> Answer:
    _store(http, match["oid"], body)
    return ({},)


def _put_part(http: _Handler, body: bytes, match: dict[str, str]) -> Answer:
    http.hub.parts[f"{match['oid']}/{match['number']}"] = body
    return {}, {"ETag": f'"{hashlib.md5(body).hexdigest()}"'}


def _complete(http: _Handler, body: bytes, match: dict[str, str]) -> Answer:
    numbers = [part["partNumber"] for part in json.loads(body)["parts"]]
    _store(http, match["oid"], b"".join(http.hub.parts[f"{match['oid']}/{number}"] for number in numbers))
    return ({},)


def _store(http: _Handler, oid: str, data: bytes) -> None:
    if hashlib.sha256(data).hexdigest() != oid:
        raise _Refused(400, "the sha256 differs")
    with http.hub.lock:
        http.hub.objects[oid] = data
        http.hub.uploads[oid] += 1
        http.hub.on_upload(http.hub.uploads.total())


def _verify(http: _Handler, body: bytes, match: dict[str, str]) -> Answer:
    asked = json.loads(body)
    if len(http.hub.objects.get(asked["oid"], b"")) != asked["size"]:
        raise _Refused(404, "no such object")
    return ({},)


def _validate(http: _Handler, body: bytes, match: dict[str, str]) -> Answer:
    head = yaml.safe_load(json.loads(body)["content"].split("---\n")[1])
    if not isinstance(head, dict):
        raise _Refused(400, "the metadata is not a mapping")
    return ({"warnings": [], "errors": []},)


def _commit(http: _Handler, body: bytes, where: dict[str, str]) -> Answer:
    repo, files = http.repo(where["repo"]), dict(http.branch(where))
    for line in body.splitlines():
        item = json.loads(line)
        value = item["value"]
        match item["key"]:
            case "header":
                if value.get("parentCommit") not in (None, repo.heads[where["revision"]]):
                    raise _Refused(412, "A commit has happened since. Please refresh and try again.")
            case "file":
                files[value["path"]] = base64.b64decode(value["content"])
            case "lfsFile":
                if value["oid"] not in http.hub.objects:
                    raise _Refused(400, f"no object {value['oid']}")
                files[value["path"]] = b"lfs:" + value["oid"].encode()
            case "deletedFile":
                del files[value["path"]]
            case other:
                raise _Refused(400, f"unknown key {other}")
    repo.branches[where["revision"]] = files
    repo.commits.append(files)
    repo.heads[where["revision"]] = head = hashlib.sha1(f"{len(repo.commits)}".encode()).hexdigest()
    return ({"commitUrl": f"{http.hub.url}/datasets/{where['repo']}/commit/{head}", "commitOid": head},)


def _squash(http: _Handler, body: bytes, match: dict[str, str]) -> Answer:
    repo = http.repo(match["repo"])
    repo.commits = [repo.branches[match["revision"]]]
    return ({},)


_REPO, _REVISION = r"(?P<repo>[^/]+/[^/]+?)", r"(?P<revision>[^/]+)"
_ROUTES: list[tuple[str, str, Callable[[_Handler, bytes, dict[str, str]], Answer]]] = [
    ("GET", "/api/whoami-v2", _whoami),
    ("POST", "/api/repos/create", _create),
    ("POST", "/api/validate-yaml", _validate),
    ("GET", f"/api/datasets/{_REPO}", _info),
    ("GET", f"/api/datasets/{_REPO}/revision/{_REVISION}", _info),
    ("GET", f"/api/datasets/{_REPO}/tree/{_REVISION}", _tree),
    ("POST", f"/api/datasets/{_REPO}/branch/{_REVISION}", _make_branch),
    ("POST", f"/api/datasets/{_REPO}/preupload/{_REVISION}", _preupload),
    ("POST", f"/api/datasets/{_REPO}/commit/{_REVISION}", _commit),
    ("POST", f"/api/datasets/{_REPO}/super-squash/{_REVISION}", _squash),
    ("POST", rf"/datasets/{_REPO}\.git/info/lfs/objects/batch", _batch),
    ("PUT", "/lfs/(?P<oid>[0-9a-f]{64})", _put),
    ("PUT", "/lfs/(?P<oid>[0-9a-f]{64})/(?P<number>[0-9]+)", _put_part),
    ("POST", "/complete/(?P<oid>[0-9a-f]{64})", _complete),
    ("POST", "/verify", _verify),
]
