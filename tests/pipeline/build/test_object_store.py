"""A build on an object store: whole files or none, and no more requests and bytes than they need."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

import pyarrow as pa
import pytest

from surd.pipeline.build.folder import Build, part_tar
from surd.pipeline.build.object_store import READ_AHEAD, SMALL
from surd.schemas import Pair, SurdError
from tests.object_store import BUCKET, ObjectStore, StoreRequest, by_method

pytest_plugins = ["tests.object_fixtures"]
ROOT = f"s3://{BUCKET}/build"


def read_bytes(requests: list[StoreRequest]) -> int:
    return sum(request.sent for request in requests if request.method == "GET")


def test_a_file_is_written_and_read_by_one_request_each(objects):
    build = Build(ROOT)
    with objects.counting() as seen, build.recording() as outputs:
        sha256 = build.write_bytes("a/file", b"bytes")
        build.write_bytes("a/empty", b"")
    assert by_method(seen) == {"PUT": 2} and outputs["a/file"] == sha256
    with objects.counting() as seen:
        assert build.read_bytes("a/file") == b"bytes" and build.read_bytes("a/empty") == b""
    assert by_method(seen) == {"GET": 2}
    with objects.counting() as seen, build.open("a/file") as file:
        assert file.read(2) == b"by" and file.read() == b"tes" and file.read() == b""
    assert by_method(seen) == {"GET": 1}
    assert build.listdir("a") == ["empty", "file"] and build.listdir("b") == [] == build.listdir("a/file/b")
    build.remove("a")
    assert not build.exists("a") and objects.names() == []


def test_names_that_would_be_patterns_are_names(objects):
    build = Build(f"{ROOT} [v1]*")
    build.write_bytes("a/file", b"1")
    Build(f"{ROOT} v").write_bytes("a/file", b"1")
    assert build.listdir("a") == ["file"]
    build.remove("a")
    assert objects.names() == ["build v/a/file"]


@pytest.mark.parametrize("size", [1000, 40 << 20], ids=["by one PUT", "in parts"])
def test_a_write_that_fails_leaves_what_was_there_and_nothing_of_its_own(objects, size):
    build = Build(ROOT)
    build.write_bytes("file", b"old")
    with pytest.raises(RuntimeError), build.writing("file") as file:
        file.write(bytes(size))
        raise RuntimeError
    assert objects.read("build/file") == b"old" and objects.names() == ["build/file"]
    refused = iter([None, None, "AccessDenied"])  # the second part
    objects.refuse = lambda method, path: next(refused, None) if size > 1000 else "AccessDenied"
    with pytest.raises(SurdError, match="AccessDenied"):
        build.write_bytes("file", bytes(size))
    objects.refuse = ObjectStore.refuse
    assert objects.read("build/file") == b"old" and objects.names() == ["build/file"]
    assert not objects.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads")
    build.write_bytes("file", bytes(size))
    assert objects.read("build/file") == bytes(size)


def test_what_another_process_writes_is_seen_at_once(objects):
    build = Build(ROOT)
    assert not build.exists("a/file") and build.listdir("a") == []
    objects.client.put_object(Bucket=BUCKET, Key="build/a/file", Body=b"1")
    assert build.exists("a/file") and build.listdir("a") == ["file"] and build.size("a/file") == 1
    objects.client.put_object(Bucket=BUCKET, Key="build/a/file", Body=b"22")
    objects.client.put_object(Bucket=BUCKET, Key="build/a/other", Body=b"")
    assert build.read_bytes("a/file") == b"22" and build.listdir("a") == ["file", "other"]


def test_a_folder_is_replaced_file_by_file_and_its_manifest_last(objects):
    build = Build(ROOT)
    for name in ("one", "two", "manifest.json"):
        build.write_bytes(f"set/{name}", b"old")
    with pytest.raises(RuntimeError), build.replacing("set") as folder:
        build.write_bytes(f"{folder}/one", b"new")
        raise RuntimeError
    assert objects.names() == [f"build/set/{name}" for name in ("manifest.json", "one", "two")]
    with objects.counting() as seen, build.replacing("set") as folder:
        for name in ("one", "manifest.json"):
            build.write_bytes(f"{folder}/{name}", b"new")
        assert objects.read("build/set/one") == b"old"
    assert objects.names() == ["build/set/manifest.json", "build/set/one"] and objects.read("build/set/one") == b"new"
    copied = [
        request.path.rpartition("/")[2] for request in seen if "/set/" in request.path and request.method == "PUT"
    ]
    assert copied == ["one", "manifest.json"]


@pytest.fixture
def fetched(objects) -> Iterator[tuple[Build, list[tuple[int, Pair]], dict[str, bytes]]]:
    """Two partitions with the tars of forty images each, as (partition, pair), and the images by key."""
    build, pairs, images, chance = Build(ROOT), [], {}, random.Random(0)
    for part in range(2):
        tar = b""
        for number in range(40):
            data = chance.randbytes(20_000 + 100 * number)
            key = f"{part:08x}{number:08x}"
            tar += bytes(512)
            sha256 = hashlib.sha256(data).hexdigest()
            pairs.append((part, Pair(key=key, offset=len(tar), size=len(data), sha256=sha256)))
            images[key] = data
            tar += data + bytes(-len(data) % 512)
        build.write_bytes(part_tar("fetch", part), tar)
    yield build, pairs, images


def test_neighbours_are_read_together_and_nothing_twice(objects, fetched):
    build, pairs, images = fetched
    with objects.counting() as seen:
        assert [*build.images(0, [pair for part, pair in pairs if not part])] == [*images.values()][:40]
    assert len(seen) == 1 and read_bytes(seen) < 1.1 * sum(map(len, [*images.values()][:40]))


def test_chosen_images_of_several_partitions_cost_little_more_than_their_bytes(objects, fetched):
    build, pairs, images = fetched
    chosen = random.Random(1).sample(pairs, 30)
    with objects.counting() as seen:
        assert [*build.images_of(chosen)] == [images[pair.key] for _, pair in chosen]
    assert len(seen) <= 30 and read_bytes(seen) < 1.1 * sum(pair.size for _, pair in chosen)
    reader = build.image_reader(1)
    with objects.counting() as seen:
        assert reader.read(pairs[50][1]) == images[pairs[50][1].key]
    assert len(seen) == 1 and read_bytes(seen) == pairs[50][1].size


def test_images_that_are_cut_off_or_gone_are_said_so(objects, fetched):
    build, pairs, _ = fetched
    part, last = pairs[-1]
    whole = objects.read("build/fetch/part-00001.tar")
    for end in (last.offset + 10, last.offset - 600, 0):
        build.write_bytes(part_tar("fetch", 1), whole[:end])
        with pytest.raises(SurdError, match=r"is not as fetch wrote it: the image of .* ends after"):
            [*build.images_of([(part, last)])]
        with pytest.raises(SurdError, match=r"is not as fetch wrote it: the image of .* ends after"):
            build.image_reader(part).read(last)
    build.remove(part_tar("fetch", 1))
    with pytest.raises(FileNotFoundError) as raised:
        [*build.images_of([(part, last)])]
    assert raised.value.filename.endswith("build/fetch/part-00001.tar")


def test_columns_of_a_large_table_are_read_alone_and_a_small_one_whole(objects):
    build, chance = Build(ROOT), random.Random(0)
    large = pa.table({"key": [*map(str, range(1000))], "wide": [chance.randbytes(16_000) for _ in range(1000)]})
    build.write_table("large.parquet", large)
    build.write_table("small.parquet", large.slice(0, 10))
    with objects.counting() as seen:
        assert build.read_table("small.parquet", ["key"]) == large.slice(0, 10).select(["key"])
    assert by_method(seen) == {"GET": 1}
    with objects.counting() as seen:
        assert build.read_table("large.parquet", ["key"]) == large.select(["key"])
    assert len(seen) <= 5 and read_bytes(seen) < SMALL + (3 << 20) < build.size("large.parquet") // 2
    with objects.counting() as seen, build.open("large.parquet") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    assert len(seen) <= build.size("large.parquet") // READ_AHEAD + 2
    assert sha256 == hashlib.sha256(objects.read("build/large.parquet")).hexdigest()
