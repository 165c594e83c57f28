"""Datasets that others published become records: the authors' SURD, DiffusionDB, Hugging Face folders and parquet."""

from __future__ import annotations

import datetime
import io
import json
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from surd.pipeline.build.folder import Build
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.sources import open_source
from surd.pipeline.stages import BY_NAME
from surd.schemas import BuildConfig, Pair, Reason, SourceRecord, SurdError


def png(shade: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (32, 32), (shade, 0, 0)).save(data, "PNG")
    return data.getvalue()


def records_of(kind: str, root: Path, **fields) -> dict[str, SourceRecord]:
    with open_source(BuildConfig(source=f"{kind}:{root}", **fields)) as source:
        return {record.source_id: record for record in source.page(None).records}


def write(root: Path, **files: bytes | str) -> Path:
    for name, content in files.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def fetched(kind: str, root: Path, build: Path) -> list[Pair]:
    config = BuildConfig(source=f"{kind}:{root}")
    run_unit(BY_NAME["collect"], 0, str(build), config)
    run_unit(BY_NAME["fetch"], 0, str(build), config)
    return Build(str(build)).read_rows("fetch", 0, Pair)


class Bomb:
    """What must never be unpickled."""

    def __reduce__(self):
        return (Path("/tmp/surd-was-unpickled").touch, ())


def surd(root: Path) -> Path:
    rows = [
        {"file_name": "a.png", "text": "a colourful animal", "prompt": "close up of cute creature, 3d icon"},
        {"file_name": "gone.png", "text": "t", "prompt": "p"},
        {"file_name": "../../outside.png", "text": "t", "prompt": "p"},
        {"text": "no file", "prompt": "p"},
    ]
    lines = "\n".join(json.dumps(row) for row in rows) + "\nnot json\n"
    vectors = pickle.dumps(Bomb())
    return write(
        root, train__a_DOT_png=png(1), train__b_DOT_png=png(2), train__metadata_DOT_jsonl=lines,
        prompt2vec__13B__39_DOT_pt=vectors,
    )  # fmt: skip


def test_the_authors_surd_gives_the_painted_prompt_and_keeps_their_simple_one(tmp_path, caplog):
    caplog.set_level("INFO")
    records = records_of("authors", surd(tmp_path / "SURD"))
    first = records["train/a.png"]
    assert first.kept and first.prompt == "close up of cute creature, 3d icon" and first.source == "authors:SURD"
    assert json.loads(first.extra) == {"simple": "a colourful animal"} and "Lexica, Civitai" in first.terms
    assert records["train/b.png"].kept and records["train/b.png"].prompt is None
    reasons = {name: record.reason for name, record in records.items() if not record.kept}
    assert reasons == {
        "train/gone.png": Reason.NO_IMAGE,
        "train/../../outside.png": Reason.NO_IMAGE,
        "train/metadata.jsonl:4": Reason.NO_IMAGE,
        "train/metadata.jsonl:5": Reason.UNREADABLE_ROW,
    }


def test_the_authors_vectors_are_named_and_never_opened(tmp_path, caplog):
    caplog.set_level("INFO")
    root = surd(tmp_path / "SURD")
    (root / "prompt2vec" / "13B" / "39.pt").chmod(0)
    records_of("authors", root)
    assert "vectors of 13B, layer 39, are at prompt2vec/13B/39.pt" in caplog.text
    assert not Path("/tmp/surd-was-unpickled").exists()


def test_a_folder_without_metadata_is_no_surd(tmp_path):
    with pytest.raises(SurdError, match=r"holds no metadata\.jsonl"):
        records_of("authors", write(tmp_path / "x", a_DOT_png=png(1)))


@pytest.mark.parametrize("kind", ["authors", "huggingface", "diffusiondb"])
def test_a_missing_folder_and_a_way_out_of_it_are_refused(tmp_path, kind):
    with pytest.raises(SurdError, match="no folder is there"):
        open_source(BuildConfig(source=f"{kind}:{tmp_path / 'gone'}"))
    source = open_source(BuildConfig(source=f"{kind}:{tmp_path}"))
    for url in ("../x.png", "/etc/passwd", "a/../../x.png"):
        with pytest.raises(ValueError, match="leaves the folder"):
            source.location(url)


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_a_hugging_face_image_folder_is_read_with_its_cards_licence(tmp_path, form):
    rows = [
        {"file_name": f"{n}.png", "caption": f"cat {n}", "style": "oil", "license": "MIT" if n == 1 else ""}
        for n in range(2)
    ]
    root = write(tmp_path / "d", **{f"train__{n}_DOT_png": png(n) for n in range(2)}, loose_DOT_webp=b"")
    write(root, README_DOT_md="---\nlicense: cc-by-4.0\n---\n# A dataset")
    target = root / "train" / f"metadata.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), target)
    elif form == "jsonl":
        target.write_text("\n".join(json.dumps(row) for row in rows))
    else:
        target.write_text("\n".join(",".join(row) for row in [[*rows[0]], *([*row.values()] for row in rows)]))
    records = records_of("huggingface", root)
    assert [*records] == ["train/0.png", "train/1.png", "loose.webp"]
    assert [record.prompt for record in records.values()] == ["cat 0", "cat 1", None]
    assert [record.licence for record in records.values()] == ["cc-by-4.0", "MIT", "cc-by-4.0"]
    assert json.loads(records["train/0.png"].extra) == {"style": "oil"}
    with pytest.raises(SurdError, match=r"'urls\.prompt_column'.*caption"):
        records_of("huggingface", root, urls={"prompt_column": "gone"})


def test_metadata_without_file_names_names_its_columns(tmp_path):
    with pytest.raises(SurdError, match="no column file_name; its columns: what; name"):
        records_of("huggingface", write(tmp_path / "d", metadata_DOT_jsonl='{"what": 1}'))


def test_images_inside_parquet_are_fetched_byte_for_byte(tmp_path):
    root = tmp_path / "d"
    (root / "data").mkdir(parents=True)
    rows = [
        {"image": {"bytes": png(n), "path": f"{n}.png"}, "prompt": f"p{n}", "url": f"http://x.example/{n}"}
        for n in range(40)
    ]
    rows[7]["image"] = None
    pq.write_table(pa.Table.from_pylist(rows), root / "data" / "train-00000.parquet", row_group_size=9)
    flat = [{"jpg": png(100), "text": "flat"}]
    pq.write_table(pa.Table.from_pylist(flat), root / "data" / "validation.parquet")
    write(root, data__urls_DOT_parquet=b"")
    pq.write_table(pa.table({"url": ["http://x.example"]}), root / "data" / "urls.parquet")
    write(root, data__broken_DOT_parquet=b"PAR1 no")
    records = records_of("huggingface", root)
    assert records["data/train-00000.parquet/3"].prompt == "p3"
    assert records["data/train-00000.parquet/3"].page_url == "http://x.example/3"
    assert (
        records["data/urls.parquet"].reason is Reason.UNREADABLE_FILE and "urls:" in records["data/urls.parquet"].detail
    )
    assert records["data/broken.parquet"].reason is Reason.UNREADABLE_FILE
    pairs = fetched("huggingface", root, tmp_path / "build")
    assert sum(pair.kept for pair in pairs) == 40
    (empty,) = [pair for pair in pairs if pair.rejected_by == "fetch"]
    assert empty.reason is Reason.UNREADABLE_FILE and "row 7 holds no image bytes" in empty.detail
    build = Build(str(tmp_path / "build"))
    kept = [pair for pair in pairs if pair.kept]
    assert {*build.images(0, kept)} == {png(n) for n in [*range(7), *range(8, 40), 100]}


def test_diffusiondb_parts_are_read_with_what_the_table_says(tmp_path):
    root = tmp_path / "ddb"
    entries = {
        "a-1.png": {"p": "a castle, oil", "se": 3, "c": 7.0, "st": 50, "sa": "k_lms"},
        "a-2.png": {"p": "hidden"},
        "gone.png": {"p": "x"},
        "../a.png": {"p": "x"},
        "odd.png": 5,
    }
    write(
        root,
        **{
            "images__part-000001__part-000001_DOT_json": json.dumps(entries),
            "images__part-000001__a-1_DOT_png": png(1),
        },
    )
    write(root, **{"images__part-000001__a-2_DOT_png": png(2), "images__part-000002__part-000002_DOT_json": "[1]"})
    when = datetime.datetime(2022, 8, 20, 10, tzinfo=datetime.UTC)
    table = [
        {"image_name": "a-1.png", "part_id": 1, "user_name": "f0a", "timestamp": when, "image_nsfw": 0.1, "width": 512},
        {"image_name": "a-2.png", "part_id": 1, "user_name": "f0b", "timestamp": None, "image_nsfw": 2.0, "width": 512},
        {"image_name": "a-1.png", "part_id": 2, "user_name": "wrong", "timestamp": None, "image_nsfw": 2.0, "width": 1},
    ]
    pq.write_table(pa.Table.from_pylist(table), root / "metadata.parquet")
    records = records_of("diffusiondb", root)
    first, hidden = records["a-1.png"], records["a-2.png"]
    assert (first.prompt, first.author, first.licence) == ("a castle, oil", "f0a", "CC0-1.0")
    assert json.loads(first.params) == {"seed": 3, "cfg_scale": 7.0, "steps": 50, "sampler": "k_lms"}
    assert first.created_at.startswith("2022-08-20T10") and json.loads(first.extra) == {"image_nsfw": 0.1, "width": 512}
    assert first.nsfw_level is None and hidden.nsfw_level == "true" and "poloclub" in first.terms
    assert {name: record.reason for name, record in records.items() if not record.kept} == {
        "gone.png": Reason.NO_IMAGE,
        "../a.png": Reason.NO_IMAGE,
        "odd.png": Reason.NO_IMAGE,
        "part-000002.json": Reason.UNREADABLE_FILE,
    }
    assert sum(pair.kept for pair in fetched("diffusiondb", root, tmp_path / "build")) == 2


def test_diffusiondb_without_its_table_and_as_one_part_is_read_and_zips_are_named(tmp_path):
    part = write(tmp_path / "part-000007", **{"part-000007_DOT_json": '{"x.png": {"p": "a fox"}}', "x_DOT_png": png(1)})
    (record,) = records_of("diffusiondb", part).values()
    assert record.kept and record.prompt == "a fox" and record.author is None
    with pytest.raises(SurdError, match="unpack each"):
        records_of("diffusiondb", write(tmp_path / "zips", **{"part-000001_DOT_zip": b"PK"}))
    with pytest.raises(SurdError, match="holds no folder like"):
        records_of("diffusiondb", write(tmp_path / "empty", a_DOT_txt=b""))
