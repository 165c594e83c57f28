"""What img2dataset wrote is taken over with its bytes, and what it failed at with its error."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from surd.pipeline.build.folder import Build
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.sources import Readable, open_source
from surd.pipeline.sources.stored_bytes import Cells
from surd.pipeline.stages import BY_NAME
from surd.schemas import BuildConfig, Pair, Reason, SourceRecord, SurdError

_ERRORS = {
    3: ("failed_to_download", "HTTP Error 404: Not Found", Reason.HTTP_ERROR),
    5: ("failed_to_download", "<urlopen error timed out>", Reason.FETCH_FAILED),
    7: ("failed_to_resize", "Image decoding error", Reason.BROKEN_IMAGE),
    8: ("failed_to_download", "Use of image disallowed by X-Robots-Tag directive", Reason.OPTED_OUT),
}


def picture(number: int) -> bytes:
    data = io.BytesIO()
    Image.effect_noise((40 + number, 40), 50).convert("RGB").save(data, "JPEG", quality=90)
    return data.getvalue()


def meta(shard: int, number: int, data: bytes) -> dict:
    """The row that img2dataset 1.47 writes for one URL."""
    status, error, _ = _ERRORS.get(number, ("success", None, None))
    return {
        "url": f"https://x.example/{shard}/{number}.jpg", "caption": f"a cat, number {number}", "license": "CC0",
        "key": f"{shard:05d}{number:04d}", "status": status, "error_message": error,
        "width": None if error else 40 + number, "height": None if error else 40, "original_width": None,
        "original_height": None, "exif": None if error else "{}",
        "sha256": None if error else hashlib.sha256(data).hexdigest(),
    }  # fmt: skip


def write_output(root: Path, layout: str, shards: int = 2, count: int = 10, table: bool = True) -> dict[str, bytes]:
    """An output folder as img2dataset leaves it; returns the bytes by URL of what it got."""
    root.mkdir(parents=True)
    got = {}
    for shard in range(shards):
        rows, files = [], {}
        for number in range(count):
            data = picture(number)
            row = meta(shard, number, data)
            if row["status"] == "success":
                got[row["url"]] = data
                files |= {f"{row['key']}.jpg": data, f"{row['key']}.txt": row["caption"].encode()}
                files[f"{row['key']}.json"] = json.dumps(row, indent=4).encode()
            if layout == "parquet":
                row |= {"jpg": data if row["status"] == "success" else None, "txt": row["caption"]}
            rows.append(row)
        if table:
            pq.write_table(pa.Table.from_pylist(rows), root / f"{shard:05d}.parquet", row_group_size=4)
        (root / f"{shard:05d}_stats.json").write_text("{}")
        if layout == "webdataset":
            with tarfile.open(root / f"{shard:05d}.tar", "w") as tar:
                for name, data in files.items():
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        elif layout == "files":
            (root / f"{shard:05d}").mkdir()
            for name, data in files.items():
                (root / f"{shard:05d}" / name).write_bytes(data)
    return got


def records_of(root: Path) -> list[SourceRecord]:
    with open_source(BuildConfig(source=f"img2dataset:{root}")) as source:
        return source.page(None).records


def bytes_of(root: Path, record: SourceRecord) -> bytes:
    with open_source(BuildConfig(source=f"img2dataset:{root}")) as source:
        place = source.location(record.url)
        assert not isinstance(place, str)
        with place.open("rb") as file:
            return file.read()


@pytest.mark.parametrize("layout", ["webdataset", "files", "parquet"])
def test_what_it_got_is_a_record_with_its_bytes_and_what_it_failed_at_one_with_its_error(tmp_path, layout):
    got = write_output(tmp_path / "out", layout)
    records = records_of(tmp_path / "out")
    assert len(records) == 20 and len({record.key for record in records}) == 20
    assert {r.page_url: bytes_of(tmp_path / "out", r) for r in records if r.kept} == got
    for record, number in zip(records, [*range(10), *range(10)], strict=True):
        assert record.prompt == f"a cat, number {number}" and record.licence == "CC0"
        assert record.page_url.endswith(f"/{number}.jpg") and record.source == "img2dataset:out"
        status, error, reason = _ERRORS.get(number, ("success", None, None))
        assert record.reason is reason
        if error:
            assert status in record.detail and error in record.detail and record.page_url in record.detail
        else:
            extra = json.loads(record.extra)
            assert extra["sha256"] == hashlib.sha256(got[record.page_url]).hexdigest() and extra["width"] == 40 + number


@pytest.mark.parametrize("layout", ["webdataset", "files"])
def test_a_shard_whose_table_was_never_written_is_read_from_the_json_beside_the_images(tmp_path, layout):
    got = write_output(tmp_path / "out", layout, shards=1, table=False)
    records = records_of(tmp_path / "out")
    assert {r.page_url: bytes_of(tmp_path / "out", r) for r in records} == got
    assert all(record.prompt.startswith("a cat, number") and record.licence == "CC0" for record in records)


def test_fetch_takes_the_very_bytes_out_of_tars_and_tables(tmp_path):
    for layout in ("webdataset", "parquet"):
        got = write_output(tmp_path / layout, layout)
        config = BuildConfig(source=f"img2dataset:{tmp_path / layout}", partition_size=7)
        root = str(tmp_path / f"build-{layout}")
        parts = run_unit(BY_NAME["collect"], 0, root, config)
        assert parts.rows == 20 and parts.rejected == {
            "http_error": 2, "fetch_failed": 2, "broken_image": 2, "opted_out": 2,
        }  # fmt: skip
        build, shas = Build(root), set()
        for unit in range(build.part_count()):
            run_unit(BY_NAME["fetch"], unit, root, config)
            shas |= {pair.sha256 for pair in build.read_rows("fetch", unit, Pair) if pair.kept}
        assert shas == {hashlib.sha256(data).hexdigest() for data in got.values()}


def test_a_tar_that_breaks_off_or_is_none_costs_only_what_it_lost(tmp_path):
    write_output(tmp_path / "out", "webdataset")
    whole = (tmp_path / "out" / "00000.tar").read_bytes()
    (tmp_path / "out" / "00000.tar").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "out" / "00001.tar").write_bytes(b"<html>" * 1000)
    records = {record.source_id: record for record in records_of(tmp_path / "out")}
    first = [record for name, record in records.items() if name.startswith("00000/")]
    assert any(record.kept for record in first)
    lost = [record for record in first if record.reason is Reason.NO_IMAGE]
    assert lost and all("not in shard 00000" in record.detail for record in lost)
    assert records["00001.tar"].reason is Reason.UNREADABLE_FILE
    assert not any(record.kept for name, record in records.items() if name.startswith("00001/"))


def test_a_table_that_is_none_is_a_row_with_a_reason(tmp_path):
    write_output(tmp_path / "out", "webdataset")
    (tmp_path / "out" / "00000.parquet").write_bytes(b"PAR1 no")
    records = records_of(tmp_path / "out")
    assert records[0].reason is Reason.UNREADABLE_FILE and "no parquet file" in records[0].detail
    assert len(records) == 11


def test_a_folder_that_is_no_output_is_the_users_to_mend(tmp_path):
    with pytest.raises(SurdError, match="no folder is there"):
        open_source(BuildConfig(source=f"img2dataset:{tmp_path / 'gone'}"))
    (tmp_path / "00000.tfrecord").touch()
    with pytest.raises(SurdError, match="holds no shard"):
        records_of(tmp_path)


@pytest.mark.parametrize("url", ["../x.jpg", "/etc/passwd", "00000/../../x", "00000.tar/gone.jpg", "secret/x", "00000"])
def test_it_never_gives_a_place_outside_its_shards(tmp_path, url):
    write_output(tmp_path / "out", "webdataset", shards=1)
    source = open_source(BuildConfig(source=f"img2dataset:{tmp_path / 'out'}"))
    with pytest.raises(ValueError):
        source.location(url)


def test_cells_of_a_table_are_read_in_any_order_and_their_absence_is_an_os_error(tmp_path):
    path = tmp_path / "t.parquet"
    rows = [{"image": {"bytes": bytes([n]) * 3, "path": None}, "n": n} for n in range(100)] + [{"image": None, "n": 1}]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=30)
    cells = Cells(path, "image")
    for row in (0, 1, 50, 49, 99, 3, 3):
        assert cells.read(row) == bytes([row]) * 3
    for column, row in (("image", 100), ("image", 101), ("image", -1), ("n", 2), ("gone", 1)):
        with pytest.raises(OSError):
            Cells(path, column).read(row)


def test_a_member_reads_no_byte_beyond_its_end(tmp_path):
    write_output(tmp_path / "out", "webdataset", shards=1)
    record = records_of(tmp_path / "out")[0]
    with open_source(BuildConfig(source=f"img2dataset:{tmp_path / 'out'}")) as source:
        place = source.location(record.url)
        assert not isinstance(place, str)
        member: Readable = place
        with member.open("rb") as file:
            assert file.read(10) + file.read(1_000_000) == picture_of(tmp_path / "out", record)
            assert file.read(5) == b""


def picture_of(root: Path, record: SourceRecord) -> bytes:
    with tarfile.open(root / "00000.tar") as tar:
        file = tar.extractfile(record.url.partition("/")[2])
        assert file
        return file.read()
