"""Shards that lie elsewhere: copied once, verified, and nothing a server does leaves more than a sentence behind."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from torch import Tensor

from sur_adapter.data.shard_cache import ShardCache
from sur_adapter.data.shard_dataset import ShardDataset
from surd.schemas.errors import SurdError
from surd.schemas.manifest import ShardInfo
from tests.sur_adapter.data.test_shard_dataset import keys, stream, write_index


class Host(ThreadingHTTPServer):
    """A plain web server of a folder; ``requests`` counts what it was asked for, ``ill`` how often it fails first.

    The file named ``endless`` never ends, the one named ``slow`` makes its reader wait, the one named ``trickling``
    comes in drops for seconds, of which the first sets ``dripped``.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(Files, directory=str(folder)))
        self.requests: Counter[str] = Counter()
        self.ill: Counter[str] = Counter()
        self.endless = self.slow = self.trickling = "none"
        self.dripped = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Files(SimpleHTTPRequestHandler):
    server: Host

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[-1]
        self.server.requests[name] += 1
        if self.server.ill[name] > 0:
            self.server.ill[name] -= 1
            self.send_error(503)
        elif name == self.server.endless:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                while True:
                    self.wfile.write(bytes(1 << 16))
        else:
            super().do_GET()

    def copyfile(self, source: Any, outputfile: Any) -> None:
        data = source.read()
        outputfile.write(data[:1])
        if self.path.endswith(self.server.slow):
            time.sleep(0.5)
        if self.path.endswith(self.server.trickling):
            with contextlib.suppress(ConnectionError):
                for place in range(1, 101):
                    self.server.dripped.set()
                    time.sleep(0.05)
                    outputfile.write(data[place : place + 1])
                outputfile.write(data[101:])
            return
        outputfile.write(data[1:])

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def host(build: Any) -> Iterator[Host]:
    with Host(build.root) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def pattern(host: Host) -> str:
    return f"{host.url}/shards/surd-{{00000..00001}}.tar"


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_are_streamed_over_http_and_copied_once(
    build: Any, host: Host, pattern: str, tmp_path: Path, workers: int
) -> None:
    near = stream(ShardDataset(build.pattern, columns=["llm"]))
    far = stream(ShardDataset(pattern, columns=["llm"], cache=tmp_path / "cache"), workers=workers)
    assert keys(islice(far, 9)) == keys(islice(near, 9))
    assert host.requests["surd-00000.tar"] == host.requests["surd-00001.tar"] == 2  # shard and column
    again = stream(ShardDataset(pattern, columns=["llm"], cache=tmp_path / "cache"))
    assert len(keys(islice(again, 3))) == 12
    assert host.requests["surd-00000.tar"] == 2


def test_without_images_no_shard_is_copied(build: Any, host: Host, pattern: str, tmp_path: Path) -> None:
    write_index(build)
    data = ShardDataset(pattern, columns=["llm"], image=False, cache=tmp_path / "cache")
    batch = next(iter(stream(data)))
    assert batch.simple == [f"simple {key}" for key in batch.keys]
    assert host.requests["surd-00000.tar"] + host.requests["surd-00001.tar"] == 2


def test_the_empty_prompt_is_copied_once_too(build: Any, host: Host, pattern: str, tmp_path: Path) -> None:
    build.add_columns("clip-simple")

    def empty_prompt(pattern: str) -> Tensor:
        data = ShardDataset(pattern, columns=["clip-simple"], image=False, cache=tmp_path / "cache")
        states = data.empty_prompt().clip_simple_BTD
        assert states is not None
        return states

    assert torch.equal(empty_prompt(pattern), empty_prompt(build.pattern))
    assert torch.equal(empty_prompt(pattern), empty_prompt(pattern)) and host.requests["empty.tar"] == 1


def test_a_protocol_of_fsspec_serves(build: Any, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(build.root), "/bucket/build", recursive=True)
    data = ShardDataset("memory://bucket/build/shards/surd-{00000..00001}.tar", columns=["llm"], cache=tmp_path / "c")
    assert keys(stream(data, epochs=1)) == keys(stream(ShardDataset(build.pattern), epochs=1))


def test_a_server_that_is_ill_for_a_moment_is_asked_again(host: Host, pattern: str, tmp_path: Path) -> None:
    host.ill["surd-00000.tar"] = 1
    assert len(keys(stream(ShardDataset(pattern, cache=tmp_path / "cache"), epochs=1))) == 12
    assert host.requests["surd-00000.tar"] == 2


def test_a_host_that_does_not_answer_is_named_in_one_sentence(host: Host, pattern: str) -> None:
    host.ill["manifest.json"] = 1
    with pytest.raises(SurdError, match=r"shards/manifest\.json: cannot be read \(ClientResponseError: 503"):
        ShardDataset(pattern)
    with pytest.raises(SurdError, match=r"http://127\.0\.0\.1:1/.*cannot be read \(ClientConnectorError"):
        ShardDataset("http://127.0.0.1:1/shards/surd-{00000..00001}.tar")


def refusal(pattern: str, folder: Path) -> str:
    with pytest.raises(SurdError) as error:
        keys(stream(ShardDataset(pattern, cache=folder), epochs=1))
    assert [file.name for file in folder.iterdir() if file.suffix == ".part"] == []
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_copy_that_is_not_what_the_manifest_says_is_refused(build: Any, pattern: str, tmp_path: Path) -> None:
    shard = build.root / "shards/surd-00001.tar"
    data = bytearray(shard.read_bytes())
    data[600] ^= 1
    shard.write_bytes(data)
    assert "shards/surd-00001.tar: is not the file its manifest describes" in refusal(pattern, tmp_path / "cache")


@pytest.mark.parametrize("number", [0, 1])
def test_a_server_that_sends_without_end_is_cut_off(host: Host, pattern: str, tmp_path: Path, number: int) -> None:
    host.endless, host.slow = f"surd-0000{number}.tar", f"surd-0000{1 - number}.tar"
    assert "bytes in its manifest" in refusal(pattern, tmp_path / "cache")


def test_what_nobody_wants_any_more_is_not_waited_for(host: Host, pattern: str, tmp_path: Path) -> None:
    data = ShardDataset(pattern, cache=tmp_path / "cache")
    (first, _), *_ = data.order(seed=0).locations(0, 1)
    host.trickling = f"surd-0000{1 - first}.tar"
    batches = iter(data.loader(batch_size=1, seed=0, image_size=8))
    next(batches)
    assert host.dripped.wait(60)
    batches.close()  # type: ignore[attr-defined]  # a generator
    assert [file.stem for file in (tmp_path / "cache").glob("*.*[rt]")] == [data.layout.infos[first].sha256]
    host.trickling = "none"
    assert len(keys(stream(data, epochs=1))) == 12


def test_a_shard_that_is_gone_is_named(build: Any, pattern: str, tmp_path: Path) -> None:
    (build.root / "shards/surd-00001.tar").unlink()
    assert "shards/surd-00001.tar: the file is missing" in refusal(pattern, tmp_path / "cache")


def test_a_manifest_cannot_name_a_file_outside_the_cache(tmp_path: Path) -> None:
    info = ShardInfo(name="surd-00000.tar", count=1, bytes=1, sha256="../../evil")
    with pytest.raises(SurdError, match=r"sha256 '../../evil' is not a sha256"):
        ShardCache(tmp_path / "cache").open("memory://x/surd-00000.tar", info)
    assert not (tmp_path / "cache").exists()


def test_a_cache_folder_that_cannot_be_is_named(pattern: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SurdError, match=r"surd-0000[01]\.tar: cannot be read \(.*cache folder"):
        next(iter(stream(ShardDataset(pattern, cache=tmp_path / "file" / "cache"))))


def test_copies_unused_for_longest_make_room(build: Any, pattern: str, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    size = max(shard.stat().st_size for shard in build.root.glob("shards/*.tar"))
    data = ShardDataset(pattern, cache=folder, cache_bytes=size)
    assert len(keys(stream(data, epochs=1))) == 12
    assert len(list(folder.glob("*.tar"))) == 1
