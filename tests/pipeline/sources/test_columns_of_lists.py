"""Of several columns, captions or levels the first never wins silently: it is clear which is meant, or it is asked."""

from __future__ import annotations

import gzip
import io
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surd.pipeline.sources import open_source
from surd.pipeline.sources.captions import captions_of
from surd.pipeline.sources.column_mapping import guess_columns, url_fault
from surd.pipeline.sources.levels import strictest_level
from surd.pipeline.sources.table_reader import read_table, sampled
from surd.schemas import BuildConfig, Reason, SourceRecord, SurdError, to_table
from surd.schemas.config import UrlsConfig
from surd.schemas.printable import printable
from tests.fuzz import FUZZED
from tests.pipeline.sources.test_urls import records_of, written

URL = "https://x.example/{}.png"
FOX = ["a red fox in the snow", "an animal"]


def rows_of(**columns) -> list[dict]:
    return [{"url": URL.format(n), **columns} for n in range(3)]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
@pytest.mark.parametrize("cell", [FOX, [*FOX, "x"]])
def test_of_a_list_of_captions_the_first_is_the_prompt_and_all_are_kept(tmp_path, suffix, cell):
    rows = rows_of(caption=json.dumps(cell).replace(", ", " ") if suffix == ".csv" else cell, title="fox.png")
    if suffix == ".csv":
        (tmp_path / "l.csv").write_text(
            "url,caption,title\n" + f'{URL.format(0)},"{cell!s}",fox.png\n'.replace("'", '""')
        )
        records = records_of(tmp_path / "l.csv")
    else:
        records = records_of(written(tmp_path / f"l{suffix}", rows))
    assert {record.prompt for record in records} == {FOX[0]}
    assert json.loads(records[0].extra)["caption"] == cell and all(record.kept for record in records)


@pytest.mark.parametrize(
    ("cell", "first", "further"),
    [
        (str(FOX), FOX[0], 1),
        ("['a red fox'\n 'an animal']", "a red fox", 1),
        ('["it\\u0027s a fox", "b"]', "it's a fox", 1),
        ('["it\'s a fox"]', "it's a fox", 0),
        ("['cat':'dog':0.5]", "['cat':'dog':0.5]", 0),
        ("[a fox]", "[a fox]", 0),
        ([{"raw": "a fox", "sentid": 3}, {"raw": "b"}], "a fox", 1),
        ([["a fox"], "b"], "a fox", 1),
        (["", None, "a fox"], "a fox", 0),
        ({"text": "a fox"}, "a fox", 0),
        (b"a fox", "a fox", 0),
        ({"en": "a fox", "de": "ein Fuchs"}, None, 0),
        ([], None, 0),
        (b"\xff", None, 0),
    ],
)
def test_the_captions_of_a_cell(cell, first, further):
    captions = captions_of(cell)
    assert (captions.first, len(captions.further)) == (first, further)


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
@pytest.mark.parametrize("cell", [{"en": "a fox", "de": "ein Fuchs"}, {"a": 1}, [{"a": 1}]])
def test_a_caption_that_cannot_be_read_is_said_and_no_other_column_takes_its_place(tmp_path, suffix, cell):
    records = records_of(written(tmp_path / f"l{suffix}", rows_of(caption=cell, title="IMG_0001")))
    assert [(record.kept, record.prompt) for record in records] == [(True, None)] * 3
    assert "the column caption holds" in records[0].detail


def test_a_field_of_an_object_is_read_by_its_dotted_name(tmp_path):
    path = written(tmp_path / "l.jsonl", rows_of(meta={"prompt": "a red fox"}))
    assert {record.prompt for record in records_of(path)} == {None}
    assert "urls.prompt_column" in records_of(path)[0].detail
    assert {record.prompt for record in records_of(path, urls={"prompt_column": "meta.prompt"})} == {"a red fox"}


@pytest.mark.parametrize("wrap", [lambda data: data, gzip.compress])
def test_a_column_that_first_comes_late_in_the_list_is_known_from_its_first_row(tmp_path, wrap):
    lines = [
        json.dumps({"url": URL.format(n), "title": "x"} | ({"caption": "a fox"} if n > 1500 else {}))
        for n in range(2000)
    ]
    path = tmp_path / ("l.jsonl" if wrap(b"a") == b"a" else "l.jsonl.gz")
    path.write_bytes(wrap("\n".join(lines).encode()))
    with open_source(BuildConfig(source=f"urls:{path}")) as source:
        records = [*source.page(None).records, *source.page("1000").records]
    assert {record.prompt for record in records[:1501]} == {None} and records[-1].prompt == "a fox"
    assert "caption is empty" in records[0].detail


class Once(io.BytesIO):
    """A stream that cannot be read twice."""

    def seek(self, *_: object) -> int:
        raise io.UnsupportedOperation("seek")


def test_of_a_stream_a_row_with_a_column_that_the_first_thousand_have_not_has_no_prompt():
    lines = [
        json.dumps({"url": URL.format(n), "title": "x"} | ({"caption": "a fox"} if n == 1500 else {}))
        for n in range(1600)
    ]
    names, rows = read_table(Once("\n".join(lines).encode()), "jsonl")
    columns = guess_columns(names, UrlsConfig(), "the list", need_url=True)
    prompts = [columns.fields(row) for row in rows if isinstance(row, dict)]
    assert len(prompts) == 1600 and prompts[0]["prompt"] == "x"
    assert prompts[1500]["prompt"] is None and "title and caption" in prompts[1500]["detail"]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv", ".tsv"])
@pytest.mark.parametrize(
    ("columns", "option"),
    [
        ({"caption": "a fox", "text": "a crow"}, "urls.prompt_column"),
        ({"Caption": "a fox", "caption": "a crow"}, "urls.prompt_column"),
        ({"caption_0": "a fox", "caption_1": "a crow"}, "urls.prompt_column"),
        ({"src": "https://y.example/1.png", "prompt": "a fox"}, "urls.url_column"),
        ({"image": "https://y.example/1.png", "prompt": "a fox"}, "urls.url_column"),
    ],
)
def test_of_columns_as_likely_as_each_other_it_is_asked_which(tmp_path, suffix, columns, option):
    path = written(tmp_path / f"l{suffix}", rows_of(**columns))
    with pytest.raises(SurdError, match=rf"{option} \(its columns: url, {', '.join(columns)}"):
        records_of(path)
    chosen = next(iter(columns))
    (first, *_) = records_of(path, urls={option.partition(".")[2]: chosen})
    assert columns[chosen] in (first.prompt, first.url)


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv", ".tsv"])
@pytest.mark.parametrize(
    ("columns", "prompt", "url"),
    [
        ({"title": "IMG 1", "caption": "a fox"}, "a fox", URL.format(0)),
        ({"text": "x", "prompt": "a fox"}, "a fox", URL.format(0)),
        ({"caption": "a fox", "text": "a fox"}, "a fox", URL.format(0)),
        ({"image_url": "https://y.example/1.png", "caption": "a fox"}, "a fox", "https://y.example/1.png"),
        ({"image": "000.jpg", "caption": "a fox"}, "a fox", URL.format(0)),
        ({"caption_0": "a fox", "caption": "b"}, "b", URL.format(0)),
    ],
)
def test_a_likelier_column_is_taken_wherever_it_stands(tmp_path, suffix, columns, prompt, url):
    for order in (columns, dict(reversed(columns.items()))):
        first = records_of(written(tmp_path / f"l{suffix}", rows_of(**order)))[0]
        assert (first.prompt, first.url) == (prompt, url)


def test_a_row_in_which_equal_columns_differ_has_no_prompt(tmp_path):
    rows = [{"url": URL.format(n), "caption": "a fox", "text": "a fox" if n < 200 else "a crow"} for n in range(201)]
    records = records_of(written(tmp_path / "l.jsonl", rows))
    assert records[0].prompt == "a fox" and records[-1].prompt is None and "differ" in records[-1].detail


def test_a_header_that_has_a_name_twice_is_asked_about(tmp_path):
    (tmp_path / "l.csv").write_text(f"url,caption,caption\n{URL.format(1)},a fox,a crow\n")
    with pytest.raises(SurdError, match="the column caption twice"):
        records_of(tmp_path / "l.csv")


def test_control_characters_of_a_header_do_not_reach_the_terminal(tmp_path):
    (tmp_path / "l.csv").write_text("\x1b]0;owned\x07,\x1b[31mred\n1,2\n")
    with pytest.raises(SurdError) as raised:
        records_of(tmp_path / "l.csv")
    assert str(raised.value).isprintable() and "\\x1b" in str(raised.value)


@pytest.mark.parametrize("name", ["l.tsv", "l.csv", "l.tsv.gz"])
def test_in_a_table_of_tabs_a_quote_is_a_letter_and_a_row_is_a_line(tmp_path, name):
    captions = [
        "a fox",
        '"A fox at dawn',
        "a crow",
        'a monitor of 15"',
        '"Morning" is its name',
        'say "open"',
        '"a" "b"',
    ]
    lines = "".join(f"{URL.format(n)}\t{caption}\n" for n, caption in enumerate(captions))
    data = f"url\tcaption\n{lines}{URL.format(7)}\n".encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    records = records_of(tmp_path / name)
    assert [record.prompt for record in records] == [*captions, None] and all(record.kept for record in records)


def test_a_table_of_tabs_with_all_names_in_quotes_is_one_of_quotes(tmp_path):
    (tmp_path / "l.tsv").write_text(f'"url"\t"caption"\n"{URL.format(1)}"\t"a ""red"" fox"\n')
    assert [record.prompt for record in records_of(tmp_path / "l.tsv")] == ['a "red" fox']


@pytest.mark.parametrize("order", ["{url},{text}", "{text},{url}"])
def test_a_quote_that_opens_by_chance_does_not_swallow_the_rows_after_it(tmp_path, order):
    texts = ["a fox", '"A fox at dawn', "a crow", 'a monitor of 15"', "a cat", '"two\nlines, of text"']
    lines = [order.format(url="url", text="caption")]
    lines += [order.format(url=URL.format(n), text=text) for n, text in enumerate(texts)]
    (tmp_path / "l.csv").write_text("\n".join(lines))
    records = records_of(tmp_path / "l.csv")
    assert [record.prompt for record in records if record.kept] == [
        "a fox",
        "a crow",
        'a monitor of 15"',
        "a cat",
        "two\nlines, of text",
    ]
    assert [record.reason for record in records if not record.kept] == [Reason.UNREADABLE_ROW]


@pytest.mark.parametrize(
    ("statements", "level"),
    [
        ([None, True], "true"), ([None, "X"], "x"), (["None", True], "true"), (["None", False, None, 16], "16"),
        ([0, False], "0"), (["Soft", True], "soft"), ([1, "None"], "1"), (["", {}, []], None), (["PG", "R"], "r"),
        (["explicit", False], "explicit"), (["9" * 5000, 2], "9" * 5000),
    ],
)  # fmt: skip
def test_of_several_statements_the_strictest_counts(statements, level):
    assert strictest_level(statements) == level


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_a_list_states_its_level_in_any_of_its_columns(tmp_path, suffix):
    for columns, level in (
        ({"nsfw": False, "nsfwLevel": 8}, "8"), ({"nsfw": True, "nsfw_level": "None"}, "true"),
        ({"nsfw": False, "browsingLevel": 16}, "16"), ({"nsfw": False, "level": "X"}, "x"), ({"level": 7}, None),
    ):  # fmt: skip
        assert {r.nsfw_level for r in records_of(written(tmp_path / f"l{suffix}", rows_of(prompt="a", **columns)))} == {
            level
        }


def test_secrets_of_urls_stay_in_the_column_that_is_fetched_from(tmp_path):
    urls = [
        URL.format(1) + "?X-Amz-Signature=S3CRET",
        "https://ann:S3CRET@x.example/2.png",
        URL.format(3) + "?token=S3CRET",
    ]
    records = records_of(written(tmp_path / "l.jsonl", [{"url": url, "text": "t"} for url in urls]))
    assert [record.url for record in records] == urls
    assert "S3CRET" not in "".join(record.source_id for record in records)
    assert records[0].source_id == URL.format(1) and len({record.key for record in records}) == 3


CELLS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=5)
    | st.sampled_from(["http://x.example/a b.png", "['a'", '["a", "b"]', "\ud800", "\0", "[" * 200, "9" * 5000]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["text", "x", "bytes"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
NAMES = st.sampled_from(
    ["url", "URL", "image_url", "caption", "caption_1", "text", "prompt", "nsfw", "level", "", "x", "\x1b[m"]
)
_TEXTS = [
    "url",
    "caption",
    "http://x/1.png",
    '"',
    "\t",
    ",",
    ";",
    "\n",
    "\r\n",
    "{",
    "}",
    '"url":',
    "[",
    "\\ud800",
    "9" * 99,
    "\0",
    "é",
]
TEXTS = st.lists(st.sampled_from(_TEXTS) | st.text(max_size=4), max_size=60)


@pytest.mark.fuzz
@FUZZED
@given(st.lists(st.dictionaries(NAMES, CELLS, max_size=5), min_size=1, max_size=5))
def test_no_row_crashes_the_mapping_and_every_record_can_be_stored(rows):
    names = [*dict.fromkeys(name for row in rows for name in row)]
    try:
        columns = guess_columns(names, UrlsConfig(), "the list", need_url=False, sample=rows)
    except SurdError as error:
        assert printable(str(error)) == str(error)
        return
    fields = [columns.fields(row) for row in rows]
    records = [SourceRecord(key="0" * 16, source="s", source_id="i", **each) for each in fields]
    assert to_table(SourceRecord, records).num_rows == len(rows)
    for row in rows:
        url_fault(row.get("url"))


@pytest.mark.fuzz
@FUZZED
@given(TEXTS.map("".join), st.sampled_from(["csv", "tsv", "jsonl"]), st.sampled_from(["utf-8", "utf-16", "latin-1"]))
def test_no_list_crashes_its_reader(text, kind, encoding):
    names, rows = read_table(io.BytesIO(text.encode(encoding, "replace")), kind)
    sample, rows = sampled(rows)
    assert all(isinstance(row, dict | str) for row in rows)
    try:
        columns = guess_columns(names, UrlsConfig(), "the list", need_url=True, sample=sample)
    except SurdError as error:
        assert printable(str(error)) == str(error)
        return
    for row in sample:
        if isinstance(row, dict):
            columns.fields(row)


@pytest.mark.fuzz
@FUZZED
@given(st.integers(0, 2**32), st.integers(0, 12))
def test_no_damaged_parquet_crashes_its_reader(seed, damage):
    source, data = random.Random(seed), bytearray(_parquet())
    for _ in range(damage):
        data[source.randrange(len(data))] = source.randrange(256)
    try:
        _, rows = read_table(io.BytesIO(bytes(data)), "parquet")
    except ValueError:
        return
    assert all(isinstance(row, dict | str) for row in rows)


def _parquet() -> bytes:
    buffer = io.BytesIO()
    rows = [{"url": URL.format(n), "caption": FOX, "nsfw": n % 2 == 0, "n": n / 3} for n in range(20)]
    pq.write_table(pa.Table.from_pylist(rows), buffer, row_group_size=7)
    return buffer.getvalue()


def test_odd_values_of_a_list_are_rows_with_a_reason(tmp_path: Path):
    rests = [
        '"caption": "a fox", "n": ' + "9" * 5000,
        '"caption": ' + "[" * 5000,
        '"caption": "a\\ud800 \\u0000fox"',
        '"caption": ' + "[" * 99 + '"a"' + "]" * 99,
    ]
    lines = [f'{{"url": "{URL.format(number)}", {rest}}}' for number, rest in enumerate(rests)]
    (tmp_path / "l.jsonl").write_text("\n".join(lines))
    records = records_of(tmp_path / "l.jsonl")
    assert [record.reason for record in records] == [None, Reason.UNREADABLE_ROW, None, Reason.UNREADABLE_ROW]
    assert records[0].prompt == "a fox", "a number that nobody can use is null"
    assert records[2].prompt == "a? fox"
