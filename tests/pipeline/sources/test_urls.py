"""A list of URLs becomes records, whatever its columns are called and whatever is wrong with its rows."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surd.pipeline.build.folder import Build
from surd.pipeline.models import Models
from surd.pipeline.net.urls import redact_secrets
from surd.pipeline.sources import open_source
from surd.pipeline.sources.table_reader import read_table
from surd.pipeline.stages.collect import BARREN, END, collect
from surd.schemas import BuildConfig, Reason, SourceRecord, SurdError, to_table
from surd.schemas.config import ModelsConfig

ROOT = Path(__file__).parents[3]


def records_of(path: Path | str, **fields) -> list[SourceRecord]:
    """Every record, page by page, as collect asks for them."""
    found, cursor = [], None
    with open_source(BuildConfig(source=f"urls:{path}", **fields)) as source:
        while True:
            page = source.page(cursor)
            found += page.records
            cursor = page.next_cursor
            if cursor is None:
                return found


def written(path: Path, rows: list[dict]) -> Path:
    """The rows in the format that the suffix names."""
    names = [*rows[0]]
    match path.suffix:
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
        case ".jsonl":
            path.write_text("\n".join(json.dumps(row) for row in rows))
        case suffix:
            mark = "\t" if suffix == ".tsv" else ","
            lines = [names, *([str(cell) for cell in row.values()] for row in rows)]
            path.write_text("\n".join(mark.join(line) for line in lines))
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv", ".jsonl"])
@pytest.mark.parametrize(
    ("url", "prompt"),
    [("url", "prompt"), ("URL", "TEXT"), ("image_url", "caption"), ("Image URL", "text"), ("src", "alt_text")],
)
def test_columns_are_known_by_their_names_in_every_format(tmp_path, suffix, url, prompt):
    rows = [{"width": 3, prompt: f"a cat {n}", url: f"https://x.example/{n}.png", "license": "CC0"} for n in range(20)]
    records = records_of(written(tmp_path / f"list{suffix}", rows))
    assert [record.url for record in records] == [row[url] for row in rows]
    assert [record.prompt for record in records] == [row[prompt] for row in rows]
    assert all(record.kept and record.licence == "CC0" and "width" in record.extra for record in records)
    assert {record.source for record in records} == {f"urls:list{suffix}"}


def test_a_csv_of_semicolons_is_read_by_its_header(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("url;prompt\nhttps://x.example/1.png;a cat, a hat\n", encoding="utf-8")
    (record,) = records_of(path)
    assert (record.url, record.prompt) == ("https://x.example/1.png", "a cat, a hat")


def test_columns_of_any_name_are_taken_from_the_config(tmp_path):
    path = written(
        tmp_path / "l.csv", [{"wo": "https://x.example/1.png", "was": "ein Hund", "url": "http://no.example"}]
    )
    (record,) = records_of(path, urls={"url_column": "wo", "prompt_column": "was"})
    assert (record.url, record.prompt) == ("https://x.example/1.png", "ein Hund")
    assert json.loads(record.extra) == {"url": "http://no.example"}


def test_what_a_row_says_of_rights_and_origin_is_carried(tmp_path):
    row = {
        "url": "https://x.example/1.png", "caption": "a cat", "author": "Ann", "licence": "CC-BY-4.0", "nsfw": True,
        "page_url": "https://x.example/1", "terms_of_use": "no resale", "created_at": "2024-01-02", "punsafe": 0.5,
        "negative_prompt": "dog",
    }  # fmt: skip
    (record,) = records_of(written(tmp_path / "l.parquet", [row]))
    assert (record.author, record.licence, record.terms) == ("Ann", "CC-BY-4.0", "no resale")
    assert (record.page_url, record.created_at, record.nsfw_level) == ("https://x.example/1", "2024-01-02", "true")
    assert record.negative_prompt == "dog" and json.loads(record.extra) == {"punsafe": 0.5}


@pytest.mark.parametrize(
    ("stated", "level"),
    [("UNLIKELY", "unlikely"), ("NSFW", "nsfw"), ("", None), (False, "false"), (3, "3"), (0.0012, None), (1e-7, None)],
)
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_a_level_is_the_lists_own_word_and_a_score_is_none(tmp_path, suffix, stated, level):
    (record,) = records_of(written(tmp_path / f"l{suffix}", [{"url": "https://x.example/1.png", "NSFW": stated}]))
    assert record.nsfw_level == level
    assert bool(record.extra) == isinstance(stated, float)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_a_list_without_a_url_column_is_the_users_to_mend_and_its_columns_are_named(tmp_path, suffix):
    path = written(tmp_path / f"l{suffix}", [{"ident": "1", "what": "a cat"}])
    with pytest.raises(SurdError, match=r"urls\.url_column.*ident, what") as raised:
        records_of(path)
    assert "\n" not in str(raised.value)
    with pytest.raises(SurdError, match=r"'urls\.prompt_column' is 'wat'.*ident, what"):
        records_of(path, urls={"url_column": "what", "prompt_column": "wat"})


def test_rows_without_a_usable_url_are_rows_with_a_reason_and_the_others_stay(tmp_path):
    good = [f"https://x.example/{n}.png" for n in range(90)]
    bad = ["", "x.png", "file:///etc/passwd", "http://[::1", "ftp://x/1.png", "javascript:1", "http://x /", "///"]
    huge = "https://x.example/" + "a" * 1_000_000
    rows = [{"url": url, "prompt": "p"} for url in [*good, *bad, huge]]
    records = records_of(written(tmp_path / "l.csv", rows))
    assert [record.url for record in records if record.kept] == good
    rejected = [record for record in records if not record.kept]
    assert {(record.reason, record.rejected_by) for record in rejected} == {(Reason.NO_IMAGE, "collect")}
    assert len(rejected) == 9 and "1,000,018 characters" in rejected[-1].detail and rejected[-1].url is None
    assert rejected[0].detail == "l.csv:91: the row has no URL" and "not an http(s) URL: x.png" in rejected[1].detail
    assert max(len(record.model_dump_json()) for record in records) < 1000


def test_rows_in_the_wrong_encoding_or_shape_are_rows_with_a_reason(tmp_path):
    lines = [
        b"url,pr\xe4mbel,prompt", b"https://x.example/1.png,,fine", b"https://x.example/2.png,,caf\xe9",
        b"https://x.example/3.png", b'https://x.example/4.png,,"never closed', b"https://x.example/5.png,,fine",
        b'https://x.example/6.png,,"two', b'lines, closed"', b"x" * 8_000_001, b"https://x.example/7.png,,fine",
    ]  # fmt: skip
    (tmp_path / "l.csv").write_bytes(b"\n".join(lines))
    records = records_of(tmp_path / "l.csv")
    assert [r.url[-5] for r in records if r.kept] == ["1", "3", "5", "6", "7"]
    assert records[4].prompt == "fine" and records[5].prompt == "two\nlines, closed"
    assert records[2].prompt is None and "empty" in records[2].detail
    assert [(r.reason, r.detail[:9]) for r in records if not r.kept] == [
        (Reason.UNREADABLE_ROW, f"l.csv:{number}: ") for number in (2, 4, 7)
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_unicode_is_read_in_each_of_its_encodings(tmp_path, encoding, suffix):
    path = written(tmp_path / f"l{suffix}", [{"url": "https://x.example/1.png", "prompt": "café 猫"}])
    path.write_bytes(path.read_text().encode(encoding))
    assert [record.prompt for record in records_of(path)] == ["café 猫"]


def test_lines_that_are_no_json_objects_are_rows_with_a_reason(tmp_path):
    path = tmp_path / "l.jsonl"
    good = b'{"url": "https://x.example/1.png", "text": "a"}'
    path.write_bytes(b'[1]\n%s\n{"url"\n\xff\n{"text": "b"}\n{"url": [2]}\n' % good)
    records = records_of(path)
    assert [record.reason for record in records] == [
        Reason.UNREADABLE_ROW, None, Reason.UNREADABLE_ROW, Reason.UNREADABLE_ROW, Reason.NO_IMAGE, Reason.NO_IMAGE,
    ]  # fmt: skip


def test_of_a_list_without_a_header_the_first_row_is_a_row_like_any(tmp_path):
    path = tmp_path / "l.jsonl"
    path.write_bytes(b'{"url": "https://x.example/1.png", "prompt": "caf\xe9"}\n{"url": "https://x.example/2.png"}')
    records = records_of(path)
    assert [record.reason for record in records] == [Reason.UNREADABLE_ROW, None]
    assert "save the list as UTF-8" in records[0].detail


def test_parquet_text_that_is_not_utf8_is_a_row_with_a_reason_and_bytes_and_nested_columns_are_left_out(tmp_path):
    text = pa.array([b"good", b"\xff", b"fine"]).view(pa.binary())
    table = pa.table({
        "url": [f"https://x.example/{n}.png" for n in range(3)],
        "prompt": pa.StringArray.from_buffers(3, text.buffers()[1], text.buffers()[2]),
        "raw": [b"\0"] * 3,
        "nested": [{"a": 1}] * 3,
    })  # fmt: skip
    pq.write_table(table, tmp_path / "l.parquet")
    records = records_of(tmp_path / "l.parquet")
    assert [record.reason for record in records] == [None, Reason.UNREADABLE_ROW, None]
    assert records[2].prompt == "fine" and records[2].extra is None


def test_a_url_listed_twice_is_one_record_and_bad_rows_stay_apart(tmp_path):
    urls = ["https://x.example/1", "https://x.example/1", "", ""]
    rows = [{"url": url, "text": text} for url, text in zip(urls, "abcd", strict=True)]
    config = BuildConfig(source=f"urls:{written(tmp_path / 'l.csv', rows)}", partition_size=2)
    parts = [*collect(Build(str(tmp_path / "build")), config, Models(ModelsConfig()))]
    assert [[record.prompt for record in part] for part in parts] == [["a", "c"], ["d"]]


def test_what_follows_a_long_run_of_repeated_rows_is_not_lost(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("url\n" + "https://x.example/1\n" * 1000 * (BARREN + 2) + "https://x.example/2\n")
    config = BuildConfig(source=f"urls:{path}")
    (part,) = collect(Build(str(tmp_path / "build")), config, Models(ModelsConfig()))
    assert [record.url[-1] for record in part] == ["1", "2"]
    assert json.loads((tmp_path / "build" / END).read_text())["repeated"] == 1000 * (BARREN + 2) - 1


def test_a_folder_of_lists_compressed_or_not_is_one_list(tmp_path):
    for number, name in enumerate(["a.csv", "b.csv"]):
        written(tmp_path / name, [{"url": f"https://x.example/{number}.png", "text": "t"}])
    whole = gzip.compress((tmp_path / "b.csv").read_bytes())
    (tmp_path / "b.csv").unlink()
    (tmp_path / "b.csv.gz").write_bytes(whole)
    (tmp_path / "notes.md").write_text("no list")
    assert [record.url[-5] for record in records_of(tmp_path)] == ["0", "1"]


def test_a_compressed_list_that_breaks_off_ends_in_a_row_that_says_so(tmp_path):
    rows = [{"url": f"https://x.example/{hash(str(n))}/{n}.png", "text": "t"} for n in range(20_000)]
    whole = gzip.compress(written(tmp_path / "l.csv", rows).read_bytes())
    path = tmp_path / "l.csv.gz"
    path.write_bytes(whole[: len(whole) // 2])
    records = records_of(path)
    assert all(record.kept for record in records[:-1]) and 5_000 < len(records) < 15_000
    assert records[-1].reason is Reason.UNREADABLE_ROW and "damaged after row" in records[-1].detail


def test_a_list_is_read_from_any_file_system():
    fsspec.filesystem("memory").pipe("/lists/l.csv", b"url,text\nhttps://x.example/1.png,a\n")
    assert [record.url for record in records_of("memory://lists/l.csv")] == ["https://x.example/1.png"]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("gone.csv", None, "is not there"),
        ("l.xlsx", b"PK", "unknown kind"),
        ("l.parquet", b"PAR1 no", "no parquet file"),
        ("l.csv", b"", "no column"),
        ("l.csv.gz", b"not gzip", "cannot be read"),
        ("", None, "holds no list"),
    ],
)
def test_a_list_that_is_none_is_one_sentence(tmp_path, name, content, sentence):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SurdError, match=sentence) as raised:
        records_of(tmp_path / name)
    assert "\n" not in str(raised.value)


def test_only_http_addresses_are_ever_fetched(tmp_path):
    source = open_source(BuildConfig(source=f"urls:{tmp_path}/l.csv"))
    assert source.location("https://x.example/1.png") == "https://x.example/1.png"
    with pytest.raises(ValueError, match="not an http"):
        source.location("file:///etc/passwd")


def test_a_changed_list_and_other_columns_are_another_list(tmp_path):
    path = written(tmp_path / "l.csv", [{"url": "https://x.example/1.png", "a": "1"}])

    def mark(**urls):
        return open_source(BuildConfig(source=f"urls:{path}", urls=urls)).fingerprint()

    before = mark()
    assert mark() == before != mark(prompt_column="a")
    path.write_text("url\n")
    assert mark() != before


def test_a_page_is_the_same_whether_it_is_reached_or_gone_back_to(tmp_path):
    rows = [{"url": f"https://x.example/{n}.png", "text": str(n)} for n in range(2500)]
    config = BuildConfig(source=f"urls:{written(tmp_path / 'l.parquet', rows)}")
    with open_source(config) as source:
        first = source.page(None)
        second = source.page(first.next_cursor)
        third = source.page(second.next_cursor)
    with open_source(config) as source:
        assert source.page(second.next_cursor) == third
        assert source.page(None) == first
    assert [len(page.records) for page in (first, second, third)] == [1000, 1000, 500] and third.next_cursor is None


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["csv", "tsv", "jsonl"]))
def test_no_bytes_crash_a_reader_and_every_row_is_values_or_a_reason(data, kind):
    import io

    columns, rows = read_table(io.BytesIO(data), kind)
    assert all(isinstance(name, str) for name in columns)
    assert all(isinstance(row, dict | str) for row in rows)


_MEASURE = """
import resource, sys
from surd.pipeline.build.folder import Build
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.stages import BY_NAME
from surd.schemas import BuildConfig
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run_unit(BY_NAME["collect"], 0, sys.argv[2] + "/warm", BuildConfig(source=sys.argv[1], limit=3000))
before = peak()
run_unit(BY_NAME["collect"], 0, sys.argv[2] + "/full", BuildConfig(source=sys.argv[1]))
print(peak() - before)
"""


def test_memory_does_not_grow_with_the_list(tmp_path):
    """30,000 rows with prompts of 1,000 characters, 30 MB of text, cost no more memory than 3,000 do."""
    path = tmp_path / "long.csv"
    with path.open("w") as file:
        file.write("url,text\n")
        file.writelines(f"https://x.example/{n}.png,{n} {'word ' * 200}\n" for n in range(30_000))
    command = [sys.executable, "-c", _MEASURE, f"urls:{path}", str(tmp_path / "build")]
    grown = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert int(grown) < 16_000  # KB


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://x.example/a?sort=new&token=abc&limit=3", "https://x.example/a?sort=new&limit=3"),
        ("https://x.example/a?API_KEY=abc#x", "https://x.example/a#x"),
        ("gallery:http://ann:pw@x.example/a?b=%20&c", "gallery:http://x.example/a?b=%20&c"),
        ("https://x.example/a?%6bey=1&monkey=2", "https://x.example/a?monkey=2"),
        ("folder:photos", "folder:photos"),
    ],
)
def test_secrets_are_taken_out_of_an_address_and_nothing_else(url, shown):
    assert redact_secrets(url) == shown


def test_every_record_can_be_stored(tmp_path):
    path = tmp_path / "l.jsonl"
    path.write_text('{"url": "https://x.example/\\ud800.png", "text": "\\u0000\\ud800", "n": 1e400, "b": true}\n')
    assert to_table(SourceRecord, records_of(path)).num_rows == 1


def test_a_list_that_cannot_be_read_to_its_end_does_not_look_finished_when_asked_again(tmp_path):
    for name in ("a.csv", "b.csv"):
        written(tmp_path / name, [{"url": f"https://x.example/{name}{n}", "text": "t"} for n in range(1000)])
    with open_source(BuildConfig(source=f"urls:{tmp_path}")) as source:
        (tmp_path / "b.csv").write_text("no,columns\n1,2\n")
        for _ in range(2):
            with pytest.raises(SurdError, match="no column"):
                source.page(None)
