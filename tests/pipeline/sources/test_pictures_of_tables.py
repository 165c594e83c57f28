"""Which picture belongs to a row: the column that is meant, the file that is named, the sample of a tar."""

from __future__ import annotations

import io
import json
import tarfile
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surd.pipeline.sources import open_source
from surd.pipeline.sources.local_files import FolderListing
from surd.pipeline.sources.sample_files import samples
from surd.schemas import BuildConfig, Reason, SourceRecord, SurdError
from tests.fuzz import FUZZED
from tests.pipeline.sources.test_datasets import fetched, png, records_of


def table(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def cell(shade: int) -> dict:
    return {"bytes": png(shade), "path": f"{shade}.png"}


@pytest.mark.parametrize("other", ["conditioning_image", "mask", "original_image", "control", "Image_2"])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_the_column_image_is_the_picture_whatever_stands_before_it(tmp_path, other, as_bytes):
    image = (lambda shade: png(shade)) if as_bytes else cell
    table(tmp_path / "d" / "t.parquet", [{other: image(200), "image": image(n), "text": "a fox"} for n in range(3)])
    assert {record.url.split("/")[1] for record in records_of("huggingface", tmp_path / "d").values()} == {"image"}


@pytest.mark.parametrize(
    "names", [("original_image", "edited_image"), ("mask",), ("left", "right"), ("image_1", "image_2")]
)
def test_of_pictures_under_odd_names_it_is_asked_which(tmp_path, names):
    table(tmp_path / "d" / "t.parquet", [{name: cell(n) for n, name in enumerate(names)} | {"text": "a fox"}])
    with pytest.raises(SurdError, match=rf"urls\.image_column \(its columns: {', '.join(names)}, text"):
        records_of("huggingface", tmp_path / "d")
    records = records_of("huggingface", tmp_path / "d", urls={"image_column": names[-1]})
    assert [record.url for record in records.values()] == [f"t.parquet/{names[-1]}/0"]
    with pytest.raises(SurdError, match=r"'urls\.image_column' is 'gone'"):
        records_of("huggingface", tmp_path / "d", urls={"image_column": "gone"})


def test_one_column_of_pictures_of_any_plain_name_is_the_pictures(tmp_path):
    table(tmp_path / "d" / "t.parquet", [{"scan": cell(1), "text": "a fox"}])
    table(tmp_path / "d" / "u.parquet", [{"image": cell(2)}])
    records = records_of("huggingface", tmp_path / "d")
    assert [record.prompt for record in records.values()] == ["a fox", None] and all(r.kept for r in records.values())


@pytest.mark.parametrize("column", [lambda path: {"bytes": None, "path": path}, lambda path: path])
def test_a_path_instead_of_bytes_is_read_below_the_folder_and_nowhere_else(tmp_path, column):
    root = tmp_path / "d"
    (root / "data" / "images").mkdir(parents=True)
    (root / "images").mkdir()
    (root / "data" / "images" / "0.png").write_bytes(png(0))
    (root / "images" / "1.png").write_bytes(png(1))
    (tmp_path / "secret.png").write_bytes(png(9))
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    paths = [
        "images/0.png", "images/1.png", "images\\0.png", "../../secret.png", str(tmp_path / "secret.png"), "link.png",
        None, "gone.png",
    ]  # fmt: skip
    name = "image" if isinstance(column("x"), dict) else "image_path"
    table(root / "data" / "t.parquet", [{name: column(path), "text": f"fox {n}"} for n, path in enumerate(paths)])
    records = [*records_of("huggingface", root).values()]
    assert [record.url for record in records[:3]] == ["data/images/0.png", "images/1.png", "data/images/0.png"]
    assert [record.prompt for record in records[:2]] == ["fox 0", "fox 1"]
    assert {record.reason for record in records[3:6]} == {Reason.NO_IMAGE} and records[7].reason is Reason.NO_IMAGE
    pairs = fetched("huggingface", root, tmp_path / "build")
    assert sum(pair.kept for pair in pairs) == 3


def test_paths_of_windows_and_macos_and_with_dots_are_the_files_they_mean(tmp_path):
    root = tmp_path / "d"
    (root / "img").mkdir(parents=True)
    composed = unicodedata.normalize("NFC", "größe é.png")
    for name in (
        "a.png",
        unicodedata.normalize("NFD", composed),
        "UP.PNG",
        "late.png",
        "100% #1 (v2.0).png",
        "Both.png",
        "both.png",
    ):
        (root / "img" / name).write_bytes(png(1))
    stated = [
        "img\\a.png",
        f"img/{composed}",
        "img/UP.png",
        "./img//late.png",
        "img/late.png",
        "img/100% #1 (v2.0).png",
        "img/BOTH.png",
    ]
    for kind, file, field in (("huggingface", "metadata.jsonl", "file_name"), ("folder", "pairs.jsonl", "image")):
        lines = [json.dumps({field: path, "prompt": f"fox {n}"}) for n, path in enumerate(stated)]
        (root / file).write_text("\n".join(lines))
        records = records_of(kind, root)
        with_prompt = {record.prompt for record in records.values() if record.kept and record.prompt}
        assert with_prompt >= {"fox 0", "fox 1", "fox 2", "fox 5"} and len(with_prompt) == 5
        assert records["img/BOTH.png"].reason is Reason.NO_IMAGE, "two files come into question"
        assert sum(record.kept and record.prompt is None for record in records.values()) == 2
        (root / file).unlink()


@pytest.mark.parametrize("name", ["a.txt", "a.caption", "a.png.txt", "a.json"])
def test_a_sidecar_that_is_not_read_is_named(tmp_path, name):
    root = tmp_path / "d"
    root.mkdir()
    (root / "a.png").write_bytes(png(1))
    (root / "b.png").write_bytes(png(2))
    (root / name).write_text("a fox")
    for kind in ("folder", "huggingface") if name == "a.json" else ("huggingface",):
        records = records_of(kind, root)
        assert (
            name in records["a.png"].detail
            and "not read" in records["a.png"].detail
            and records["b.png"].detail is None
        )


def shard(root: Path, files: dict[str, bytes]) -> list[SourceRecord]:
    root.mkdir()
    with tarfile.open(root / "00000.tar", "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with open_source(BuildConfig(source=f"img2dataset:{root}")) as source:
        return source.page(None).records


def caption(text: str) -> bytes:
    return json.dumps({"caption": text}).encode()


def test_samples_of_a_tar_are_told_apart_by_their_full_path(tmp_path):
    files = {
        "a/1.jpg": png(1),
        "b/1.jpg": png(2),
        "b/1.json": caption("a crow"),
        "a/1.json": caption("a fox"),
        "2.png": png(3),
    }
    records = shard(tmp_path / "s", files)
    assert {record.source_id: (record.url, record.prompt) for record in records} == {
        "00000/2": ("00000.tar/2.png", None),
        "00000/a/1": ("00000.tar/a/1.jpg", "a fox"),
        "00000/b/1": ("00000.tar/b/1.jpg", "a crow"),
    }


def test_a_mask_is_not_the_picture_and_of_two_pictures_it_is_said_that_they_are_two(tmp_path):
    files = {
        "1.mask.png": png(9), "1.png": png(1), "1.json": caption("a fox"),
        "2.jpg": png(2), "2.png": png(3), "2.txt": b"a crow",
        "3.conditioning.jpg": png(4), "3.target.jpg": png(5), "3.json": caption("a cat"),
        "p.v2.jpg": png(6), "p.v2.json": caption("a boat"), "q.v1.JPG": png(7), "q.v2.jpg": png(8),
        "q.v1.txt": b"a dog",
    }  # fmt: skip
    records = {record.source_id: record for record in shard(tmp_path / "s", files)}
    assert (records["00000/1"].url, records["00000/1"].prompt) == ("00000.tar/1.png", "a fox")
    for key in ("00000/2", "00000/3"):
        assert records[key].reason is Reason.NO_IMAGE and "holds 2 pictures" in records[key].detail
    assert (records["00000/p.v2"].url, records["00000/p.v2"].prompt) == ("00000.tar/p.v2.jpg", "a boat")
    assert (records["00000/q.v1"].prompt, records["00000/q.v2"].prompt) == ("a dog", None)


@pytest.mark.parametrize(
    ("document", "text", "prompt"),
    [
        ({"caption": "a fox"}, "a fox", "a fox"), ({}, "a fox", "a fox"), (None, "a fox", "a fox"),
        ({"caption": "a fox"}, "a crow", None), ({"prompt": "a fox"}, None, "a fox"),
        ({"caption": ["a fox", "an animal"]}, None, "a fox"), ({"caption": "a fox", "text": "a crow"}, None, None),
    ],
)  # fmt: skip
def test_the_text_beside_a_picture_in_a_tar_is_its_caption_unless_the_json_says_otherwise(
    tmp_path, document, text, prompt
):
    files = {"1.jpg": png(1)} | ({"1.txt": text.encode()} if text else {})
    files |= {"1.json": json.dumps(document).encode()} if document is not None else {}
    (record,) = shard(tmp_path / "s", files)
    assert record.prompt == prompt and record.kept and (prompt is not None or "urls.prompt_column" in record.detail)


TAR_NAMES = st.lists(
    st.sampled_from(["a", "b", "/", ".", "1", ".png", ".jpg", ".mask.png", ".json", ".txt", "é", " "]), max_size=8
)


@pytest.mark.fuzz
@FUZZED
@given(st.lists(TAR_NAMES.map("".join), max_size=12, unique=True))
def test_every_picture_of_a_tar_is_one_samples_or_is_left_for_a_reason(names):
    found = samples(names)
    pictures = [sample.image for sample in found.values() if sample.image]
    assert len(pictures) == len({*pictures}) and {*pictures} <= {*names}
    plain = [name for name in names if name.rpartition("/")[2].partition(".")[2] in ("png", "jpg")]
    held = {name for sample in found.values() for name in sample.others} | {*pictures}
    assert {*plain} <= held


@pytest.mark.fuzz
@FUZZED
@given(st.lists(st.text(st.sampled_from("aAé/\\.. \u0301"), max_size=8), max_size=6), st.text(max_size=12))
def test_no_stated_path_crashes_the_search_for_its_file(names, stated):
    listing = FolderListing(sorted({*names}))
    assert isinstance(listing.find(stated), str)
    for name in names:
        listing.unread_beside(name)


@pytest.mark.fuzz
@FUZZED
@given(st.binary(max_size=1500), st.integers(0, 1024))
def test_no_damaged_tar_crashes_the_source(tmp_path_factory, damage, at):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in {"1.jpg": png(1), "1.json": caption("a fox"), "a/2.png": png(2)}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    whole = bytearray(buffer.getvalue())
    whole[at : at + len(damage)] = damage
    root = tmp_path_factory.getbasetemp() / "damaged"
    root.mkdir(exist_ok=True)
    (root / "00000.tar").write_bytes(whole)
    with open_source(BuildConfig(source=f"img2dataset:{root}")) as source:
        for record in source.page(None).records:
            assert record.kept or record.detail
