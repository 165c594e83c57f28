"""The demo gallery: every picture once, every file with its prompt, nothing left behind, the truth kept back."""

import io
import json
import sys
import threading
import urllib.error
import urllib.request

import pytest
from PIL import Image

from surd.pipeline.demo.server import main, serve_gallery
from surd.pipeline.demo.world.files import demo_file, identity, write_folder, write_truth
from surd.pipeline.demo.world.scenes import scene
from surd.pipeline.metadata.reader import read_metadata

COUNT, SEED = 25, 11


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read()


@pytest.fixture(scope="module")
def items():
    """Every item the API lists, paged by seven."""
    found, cursor = [], ""
    with serve_gallery(COUNT, SEED) as gallery:
        while cursor is not None:
            page = json.loads(fetched(f"{gallery.url}?limit=7" + (f"&cursor={cursor}" if cursor else "")))
            for item in page["items"]:
                item["bytes"] = fetched(item["url"])
            found += page["items"]
            cursor = page["metadata"].get("nextCursor")
            assert ("nextPage" in page["metadata"]) == (cursor is not None)
    return found


def test_paging_visits_every_item_once(items):
    assert [item["id"] for item in items] == [identity(SEED, index) for index in range(COUNT)]


def test_every_file_is_an_image_that_carries_its_prompt_in_one_of_three_formats(items):
    formats = set()
    for index, item in enumerate(items):
        with Image.open(io.BytesIO(item["bytes"])) as picture:
            picture.load()
            formats.add(picture.format)
            assert picture.size == (item["width"], item["height"])
        found = read_metadata(item["bytes"])
        assert found is not None and found.prompt == demo_file(SEED, index).prompt
    assert formats == {"PNG", "JPEG", "WEBP"}


def test_the_api_says_the_same_prompt_or_leaves_it_to_the_file(items):
    silent = [item for item in items if item["meta"] is None]
    assert 0 < len(silent) < COUNT / 2
    for item in items:
        if item["meta"]:
            assert item["meta"]["prompt"] == read_metadata(item["bytes"]).prompt


def test_bytes_are_the_same_at_every_call(items):
    demo_file.cache_clear()
    assert [item["bytes"] for item in items] == [demo_file(SEED, index).data for index in range(COUNT)]


def test_what_is_not_there_is_a_404_and_a_broken_cursor_a_400():
    with serve_gallery(2, SEED) as gallery:
        base = gallery.url.removesuffix("/api/v1/images")
        for path, status in (
            (f"/images/{identity(SEED, 2)}.png", 404), ("/images/x.png", 404), ("/truth", 404),
            ("/api/v1/images?cursor=x", 400), ("/api/v1/images?limit=x", 400),
        ):  # fmt: skip
            with pytest.raises(urllib.error.HTTPError) as refused:
                fetched(base + path)
            assert refused.value.code == status


def test_a_gallery_leaves_no_thread_and_no_port_behind():
    before = threading.active_count()
    with serve_gallery(1, SEED) as gallery:
        fetched(gallery.url)
    assert threading.active_count() == before
    with pytest.raises(urllib.error.URLError):
        fetched(gallery.url)


def test_the_truth_lies_in_its_own_file_only(items, tmp_path):
    write_truth(tmp_path / "truth.jsonl", COUNT, SEED)
    rows = [json.loads(line) for line in (tmp_path / "truth.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [item["id"] for item in items]
    assert rows[3]["background"] == scene(SEED, 3).background
    assert not any(row["narrative"].encode() in item["bytes"] for row, item in zip(rows, items, strict=True))


def test_a_folder_of_pictures_is_the_gallery_without_its_api(items, tmp_path):
    written = write_folder(tmp_path / "pictures", COUNT, SEED)
    assert [path.read_bytes() for path in written] == [item["bytes"] for item in items]


@pytest.mark.parametrize("port", ["taken", 99999, -1])
def test_a_port_that_cannot_be_used_is_one_sentence(port, monkeypatch, capsys):
    with serve_gallery(1, SEED) as gallery:
        number = gallery.port if port == "taken" else port
        monkeypatch.setattr(sys, "argv", ["server", f"--port={number}"])
        with pytest.raises(SystemExit) as ended:
            main()
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.startswith(f"error: --port is {number}: it cannot be used (")
    assert error.endswith("; give another, or 0 for any free one\n") and error.count("\n") == 1
