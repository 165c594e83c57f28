"""What was removed does not come back: collect and fetch obey the tombstones, whatever a source says later."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from surd.pipeline.acquisition.tombstones import FORGOTTEN, Tombstones
from surd.pipeline.build.folder import Build
from surd.pipeline.forget.forget import RemovalRequest, forget, plan_removal
from surd.pipeline.forget.leftovers import find_leftovers
from surd.pipeline.forget.lists import read_list
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.stages import BY_NAME
from surd.pipeline.stages.collect import PAGES
from surd.schemas import BuildConfig, BuildRecord, Pair, Reason, SourceRecord, SurdError, Tombstone
from tests.pipeline.fetching import picture

pytest_plugins = ["tests.pipeline.served"]


class Gallery:
    """A site: pictures by path, and its API, whose answer ``rows`` may change. ``broken``: what its answers lack."""

    def __init__(self, serve, rows, pictures):
        self.rows, self.pictures, self.broken = rows, pictures, False
        self.server = serve(self)

    def __call__(self, request):
        if request.path.startswith("/api"):
            items = [{"url": f"{self.server.url}{path}", **fields} for path, fields in self.rows]
            page = int(request.path.partition("cursor=")[2] or 0)
            if self.broken and page:
                request.send(400)
                return
            document = {"items": items[2 * page : 2 * page + 2]}
            if len(items) > 2 * page + 2:
                document["metadata"] = {"nextCursor": str(page + 1)}
            request.send(200, json.dumps(document).encode())
        else:
            request.send(200, self.pictures[request.path], "image/png")

    def requested(self) -> Counter[str]:
        counts = Counter(path for path in self.server.requests if not path.startswith(("/api", "/robots", "/.well")))
        self.server.requests.clear()
        return counts


PATHS = ["/a.png", "/b.png", "/c.png", "/d.png", "/e.png"]


@pytest.fixture
def gallery(serve) -> Gallery:
    people = ["Ann", "Bob", "Cid", "Bob", "Eve"]
    rows = [
        (path, {"id": number, "username": name, "prompt": f"a {name} thing"})
        for number, (path, name) in enumerate(zip(PATHS, people, strict=True))
    ]
    return Gallery(serve, rows, {path: picture(seed=number) for number, path in enumerate([*PATHS, "/f.png"])})


def config_of(gallery: Gallery, **fields) -> BuildConfig:
    source = f"gallery:{gallery.server.url}/api"
    return BuildConfig(source=source, fetch={"retries": 0}, **{"partition_size": 3, **fields})


def acquire(root: Path, config: BuildConfig) -> dict[str, Pair]:
    """Collect and fetch; rows by the path of the picture, of removed ones by their key."""
    run_unit(BY_NAME["collect"], 0, str(root), config)
    build, found = Build(str(root)), {}
    build.write_json("build.json", BuildRecord(config=config.model_dump(mode="json"), versions={}, models={}))
    for part in range(build.part_count()):
        run_unit(BY_NAME["fetch"], part, str(root), config)
        sources = build.read_rows("collect", part, SourceRecord)
        for record, pair in zip(sources, build.read_rows("fetch", part, Pair), strict=True):
            found["/" + record.url.rpartition("/")[2] if record.url else record.key] = pair
    return found


def remove(root: Path, *records: str, **request) -> None:
    build = Build(str(root))
    forget(build, plan_removal(build, RemovalRequest(records=records, **request)))


def test_a_grown_source_does_not_bring_it_back_and_asks_for_the_new_alone(tmp_path, gallery):
    config = config_of(gallery, partition_size=5)
    key = acquire(tmp_path, config)["/b.png"].key
    assert gallery.requested() == dict.fromkeys(PATHS, 1)
    remove(tmp_path, key)
    assert not gallery.server.requests
    gallery.rows.append(("/f.png", {"id": 5, "prompt": "new"}))
    grown = config.model_copy(update={"limit": 6})  # another limit: collect runs again
    pairs = acquire(tmp_path, grown)
    assert gallery.requested() == {"/f.png": 1}
    assert pairs[key].reason is Reason.FORGOTTEN and pairs["/f.png"].kept
    assert list(find_leftovers(Build(str(tmp_path)))) == []


def test_nothing_is_redone_and_nothing_requested_after_a_removal(tmp_path, gallery):
    config = config_of(gallery)
    acquire(tmp_path, config)
    gallery.requested()
    remove(tmp_path, f"{gallery.server.url}/b.png")
    assert run_unit(BY_NAME["collect"], 0, str(tmp_path), config).skipped
    assert all(run_unit(BY_NAME["fetch"], part, str(tmp_path), config).skipped for part in range(2))
    assert not gallery.server.requests


def test_passing_failures_are_tried_again_and_only_those(tmp_path, gallery):
    config = config_of(gallery)
    answer = gallery.server.RequestHandlerClass
    gallery.pictures["/c.png"], whole = b"", gallery.pictures["/c.png"]
    original = Gallery.__call__

    def failing(self, request):
        return request.send(503) if request.path == "/c.png" and not whole_again else original(self, request)

    whole_again = False
    Gallery.__call__ = failing
    try:
        pairs = acquire(tmp_path, config)
        assert pairs["/c.png"].transient and answer
        gallery.requested()
        remove(tmp_path, pairs["/b.png"].key)
        gallery.pictures["/c.png"], whole_again = whole, True
        pairs = acquire(tmp_path, config)
    finally:
        Gallery.__call__ = original
    assert pairs["/c.png"].kept and pairs["/a.png"].kept
    assert gallery.requested() == {"/c.png": 1}


@pytest.mark.parametrize(
    ("request_", "gone"),
    [
        ({"authors": ["  bob "]}, {"/b.png", "/d.png"}),
        ({"hosts": ["127.0.0.1"]}, set(PATHS)),
        ({"records": ["/c.png"]}, {"/c.png"}),
    ],
)
def test_a_rule_holds_for_records_that_come_later(tmp_path, gallery, request_, gone):
    first, later = tmp_path / "first", tmp_path / "later"
    acquire(first, config_of(gallery))
    records = [f"{gallery.server.url}{path}" for path in request_.get("records", ())]
    remove(first, *records, **{name: value for name, value in request_.items() if name != "records"})
    later.mkdir()
    (later / FORGOTTEN).write_bytes((first / FORGOTTEN).read_bytes())  # another source, with other keys
    gallery.requested()
    for number, (_, fields) in enumerate(gallery.rows):
        fields["id"] = 100 + number
    pairs = acquire(later, config_of(gallery))
    assert set(PATHS) - pairs.keys() == gone
    assert set(gallery.requested()) == set(PATHS) - gone


def test_a_removed_picture_is_refused_at_another_address(tmp_path, gallery):
    config = config_of(gallery)
    remove(tmp_path, acquire(tmp_path, config)["/b.png"].key)
    gallery.pictures["/f.png"] = gallery.pictures["/b.png"]
    gallery.rows.append(("/f.png", {"id": 5}))
    pairs = acquire(tmp_path, config.model_copy(update={"limit": 6}))
    assert (pairs["/f.png"].reason, pairs["/f.png"].rejected_by) == (Reason.FORGOTTEN, "fetch")
    assert list(find_leftovers(Build(str(tmp_path)))) == []


def test_pages_and_journals_of_work_that_is_not_done_are_cleaned(tmp_path, gallery):
    gallery.broken = True
    with pytest.raises(SurdError):
        run_unit(BY_NAME["collect"], 0, str(tmp_path), config_of(gallery))
    build = Build(str(tmp_path))
    remove(tmp_path, authors=["Bob"])
    saved = "".join(build.read_bytes(f"{PAGES}/{name}").decode() for name in build.listdir(PAGES))
    assert "Bob" not in saved and "Ann" in saved
    gallery.broken = False
    pairs = acquire(tmp_path, config_of(gallery))
    assert set(gallery.requested()) == {"/a.png", "/c.png", "/e.png"} and len(pairs) == 5
    journal = (tmp_path / "fetch/part-00000.journal").read_text()
    assert pairs["/a.png"].key in journal
    remove(tmp_path, pairs["/a.png"].key)
    assert pairs["/a.png"].key not in (tmp_path / "fetch/part-00000.journal").read_text()


def test_hashes_do_not_tell_spellings_apart_that_mean_the_same():
    stones = Tombstones("salt")
    assert stones.of_url("https://A.example:443/x.png?a=1") == stones.of_url("http://a.example/x.png?a=1")
    assert stones.of_url("http://a.example/x.png?sig=1&X-Amz-Signature=2") == stones.of_url("http://a.example/x.png")
    assert stones.of_url("http://a.example/x.png") != stones.of_url("http://a.example/y.png")
    assert stones.of_author("ＡＮＮ  Lee ") == stones.of_author("ann lee")
    hosts = stones.adding([Tombstone(host=stones.of_host("A.example"), when="now")])
    assert any(hosts.matches("k", "https://img.a.example/1.png", None, None, None))
    assert not any(hosts.matches("k", "https://nota.example/1.png", None, None, None))
    assert any(hosts.matches("k", None, "https://a.example./page", None, None))
    address = stones.adding([Tombstone(host=stones.of_host("0.0.1"), when="now")])
    assert not any(address.matches("k", "http://127.0.0.1/x", None, None, None))


@pytest.mark.parametrize("text", ["", "{}", '{"salt": "s"}\nnonsense', '{"salt": "s"}\n{"key": "x"}'])
def test_damaged_tombstones_stop_a_build_in_one_sentence(tmp_path, text):
    (tmp_path / FORGOTTEN).write_text(text)
    with pytest.raises(SurdError, match=r"forgotten\.jsonl is not valid in line \d: .*restore it from a backup"):
        Tombstones.read(Build(str(tmp_path)))


def test_a_list_is_read_line_by_line_and_hostile_ones_are_refused(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbf# request 12\r\n0123456789abcdef\r\n\nhttp://a.example/x#part\n0123456789abcdef\n")
    assert read_list(path) == ["0123456789abcdef", "http://a.example/x#part"]
    for data, why in [
        (b"\xff\xfe", "line 1 is not UTF-8"),
        (b"# nothing\n", "it names nothing"),
        (b"x" * 9000, "line 1 is neither a key nor a URL"),
        (b"a\n\0b", "line 2 is neither"),
    ]:
        path.write_bytes(data)
        with pytest.raises(SurdError, match=why):
            read_list(path)
    wrong_files = [
        (tmp_path, "it is not a file"),
        (tmp_path / "none", "cannot be read"),
        (Path("/dev/zero"), "not a file"),
    ]
    for wrong, why in wrong_files:
        with pytest.raises(SurdError, match=why):
            read_list(wrong)


def test_keys_are_the_hashes_that_the_tombstones_hold(tmp_path, gallery):
    pairs = acquire(tmp_path, config_of(gallery))
    remove(tmp_path, pairs["/e.png"].key)
    (stone,) = Tombstones.read(Build(str(tmp_path))).stones
    assert stone.pictures == [hashlib.sha256(gallery.pictures["/e.png"]).hexdigest()]
