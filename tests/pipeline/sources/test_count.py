"""Records are counted before a build without reading them, and what cannot be counted in time is a least number."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from surd.pipeline.sources import open_source
from surd.pipeline.sources.count import count_records
from surd.schemas import BuildConfig, SurdError

PLENTY = 60.0


def count(source: str, seconds: float = PLENTY, **fields):
    found = count_records(BuildConfig(source=source, **fields), seconds)
    return found.records, found.complete


def collected(source: str) -> int:
    """What collect would be given."""
    total, cursor = 0, None
    with open_source(BuildConfig(source=source)) as opened:
        while True:
            page = opened.page(cursor)
            total, cursor = total + len(page.records), page.next_cursor
            if cursor is None:
                return total


def picture(path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pictures"
    for name in ("a.png", "b.jpg", "below/c.webp"):
        picture(root / name)
    (root / "a.txt").write_text("a cat")  # a sidecar
    (root / "notes.txt").write_text("a file of no picture is a record, which fetch rejects")
    (root / ".hidden").mkdir()
    picture(root / ".hidden" / "d.png")
    (root / "pairs.jsonl").write_text('{"image": "a.png", "prompt": "a cat"}\n')
    return root


def test_a_folder_has_as_many_records_as_collect_makes(folder):
    assert count(f"folder:{folder}") == (collected(f"folder:{folder}"), True) == (4, True)


def test_the_limit_counts(folder):
    assert count(f"folder:{folder}", limit=2) == (2, True)
    assert count(f"folder:{folder}", limit=9) == (4, True)


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl", "list.tsv", "list.parquet"])
def test_lists_are_counted_by_row(name, tmp_path):
    rows = [{"url": f"https://example.org/{at}.png", "prompt": f"cat\n{at}"} for at in range(120)]
    path = tmp_path / name
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif name.endswith("jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["url", "prompt"], delimiter="\t" if name.endswith("tsv") else ",")
            writer.writeheader()
            writer.writerows([row | {"prompt": row["prompt"].replace("\n", " ")} for row in rows])
    assert count(f"urls:{path}") == (collected(f"urls:{path}"), True) == (120, True)


def test_a_list_that_states_the_bytes_of_each_picture_tells_their_sum(tmp_path):
    path = tmp_path / "danbooru.parquet"
    pq.write_table(
        pa.table({"url": [f"https://e.org/{at}.png" for at in range(4)], "file_size": [10, 20, 30, 40]}), path
    )
    assert count_records(BuildConfig(source=f"urls:{path}"), PLENTY).size == 100
    assert count_records(BuildConfig(source=f"urls:{path}", limit=2), PLENTY).size == 50


def test_tables_of_pictures_are_counted_by_their_footers(tmp_path):
    cells = pa.array([{"bytes": b"x", "path": None}] * 30, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"image": cells, "text": ["a cat"] * 30}), tmp_path / "data/train-00000.parquet")
    source = f"huggingface:{tmp_path}"
    assert count(source) == (collected(source), True) == (30, True)
    shards = tmp_path / "shards"
    shards.mkdir()
    pq.write_table(
        pa.table({"key": ["1", "2"], "url": ["u", "v"], "status": ["failed_to_download"] * 2}), shards / "00000.parquet"
    )
    assert count(f"img2dataset:{shards}") == (collected(f"img2dataset:{shards}"), True) == (2, True)


def test_pictures_with_metadata_are_counted_as_collect_reads_them(tmp_path):
    picture(tmp_path / "one.png")
    picture(tmp_path / "two.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "one.png", "text": "a cat"}\n')
    assert count(f"huggingface:{tmp_path}") == (collected(f"huggingface:{tmp_path}"), True) == (2, True)


def test_what_is_not_counted_in_time_is_a_least_number(folder, tmp_path):
    records, complete = count(f"folder:{folder}", seconds=0.0)
    assert records is not None and records <= 4 and not complete


def test_of_a_source_on_the_network_nothing_is_known_before(tmp_path):
    assert count("gallery:http://127.0.0.1:9/api") == (None, False)
    assert count("urls:http://127.0.0.1:9/list.csv") == (None, False)


def test_a_source_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(SurdError, match="not there"):
        count(f"urls:{tmp_path}/nothing.csv")
    with pytest.raises(SurdError, match="no folder is there"):
        count(f"folder:{tmp_path}/nothing")
