"""score measures the quality of pictures where it is asked to, and writes what it always wrote where it is not."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import matplotlib
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, ImageFilter

from surd.pipeline.build.folder import Build, part_file, part_tar
from surd.pipeline.demo.world.render import render
from surd.pipeline.demo.world.scenes import scene
from surd.pipeline.images.qualities import _MEASURES
from surd.pipeline.models import Models
from surd.pipeline.report.records import read_qualities
from surd.pipeline.runner.model_check import check_models
from surd.pipeline.stages.score import score
from surd.pretrained.brisque import brisque, load_brisque
from surd.pretrained.clip_iqa import ANTONYMS
from surd.schemas import Cleaned, Pair, Reason, Safe, Scored, SurdError, load_config
from surd.schemas.config import ModelsConfig
from surd.schemas.shard_format.tar import add_member

OLD_COLUMNS = [name for name in Scored.model_fields if name not in Scored.only_if_measured]


def pictures() -> list[Image.Image]:
    """A photograph, a drawing, the photograph blurred, and one colour."""
    with Image.open(Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg") as photo:
        first = photo.convert("RGB").crop((100, 0, 356, 256))
    drawing = render(scene(3, 0)).convert("RGB")
    return [first, drawing, first.filter(ImageFilter.GaussianBlur(3)), Image.new("RGB", (64, 64), "red")]


@pytest.fixture
def build(tmp_path) -> Build:
    """Those pictures with prompts, after safety; the second was rejected before."""
    build = Build(str(tmp_path / "build"))
    pairs, tar_bytes = [], io.BytesIO()
    with tarfile.open(fileobj=tar_bytes, mode="w") as tar:
        for number, picture in enumerate(pictures()):
            image = io.BytesIO()
            picture.save(image, "PNG")
            data, start = image.getvalue(), tar_bytes.tell()
            add_member(tar, f"{number:016x}.png", data)
            sha = hashlib.sha256(data).hexdigest()
            pairs.append(Pair(key=f"{number:016x}", sha256=sha, ext="png", size=len(data), offset=start + 512))
    build.write_bytes(part_tar("fetch", 0), tar_bytes.getvalue())
    build.write_rows("fetch", 0, Pair, pairs)
    build.write_rows("clean", 0, Cleaned, [Cleaned(key=pair.key, complex="a cat, 8k") for pair in pairs])
    rows = [Safe(key=pair.key) for pair in pairs]
    rows[1] = rows[1].reject("safety", Reason.NSFW, "0.9")
    build.write_rows("safety", 0, Safe, rows)
    return build


def scored(build: Build, *quality: str, **fields: str) -> list[Scored]:
    config = load_config(
        {}, {"score.quality": list(quality), **{f"score.{name}": value for name, value in fields.items()}}
    )
    rows = score(build, 0, config, Models(ModelsConfig(device="cpu")))
    build.write_rows("score", 0, Scored, rows)
    return rows


def test_brisque_is_the_pictures_own_and_clip_iqa_comes_from_the_embedding_it_has_anyway(build):
    rows = scored(build, "brisque", "clip-iqa", "sharpness")
    assert [row.brisque for row in rows] == [brisque(pictures()[0]), None, brisque(pictures()[2]), None]
    assert rows[2].brisque > rows[0].brisque + 10, "a blurred picture is worse"
    clip = Models(ModelsConfig(device="cpu")).clip
    good, bad = clip.embed_texts(ANTONYMS)
    for row in (rows[0], rows[2], rows[3]):
        image = np.array(row.image_embedding)
        odds = np.exp(clip.logit_scale * np.array([image @ good, image @ bad], float))
        assert row.clip_iqa == pytest.approx(odds[0] / odds.sum(), abs=1e-6)
    assert rows[1].clip_iqa is None and rows[0].sharpness > rows[2].sharpness


def test_a_file_has_the_columns_of_what_was_measured_and_is_read_either_way(build):
    plain = scored(build)
    assert pq.read_schema(io.BytesIO(build.read_bytes(part_file("score", 0)))).names == OLD_COLUMNS
    assert build.read_rows("score", 0, Scored) == plain and read_qualities(build, 0, {row.key for row in plain}) == {}
    rows = scored(build, "clip-iqa")
    assert pq.read_schema(io.BytesIO(build.read_bytes(part_file("score", 0)))).names == [*OLD_COLUMNS, "clip_iqa"]
    assert build.read_rows("score", 0, Scored) == rows and rows[0].brisque is None
    assert read_qualities(build, 0, {rows[0].key}) == {"clip_iqa": [rows[0].clip_iqa]}


def test_a_further_column_measures_nothing_a_second_time(build, monkeypatch):
    first = scored(build, "colourfulness", "entropy")
    assert first[3].entropy == 0 and first[0].colourfulness > 5
    for name in ("colourfulness", "entropy"):
        monkeypatch.setitem(_MEASURES, name, lambda picture: pytest.fail("measured again"))
    again = scored(build, "colourfulness", "entropy", "sharpness")
    assert [row.entropy for row in again] == [row.entropy for row in first] and again[0].sharpness > 0


def test_the_aesthetic_score_is_the_heads_on_the_embedding_it_has_anyway(build, tmp_path):
    width = len(scored(build)[0].image_embedding)
    torch.manual_seed(0)
    head, file = torch.nn.Linear(width, 1), tmp_path / "head.pth"
    torch.save(head.state_dict(), file)
    for row in scored(build, aesthetic=str(file)):
        if row.kept:
            assert row.aesthetic == pytest.approx(head(torch.tensor(row.image_embedding)).item(), abs=1e-5)
    torch.save(torch.nn.Linear(width + 1, 1).state_dict(), file)
    with pytest.raises(SurdError, match=f"embeddings of {width + 1} numbers, and those of models.clip"):
        scored(build, aesthetic=str(file))


def test_a_build_that_wants_brisque_and_lacks_its_model_is_told_before_it_begins(monkeypatch, tmp_path):
    monkeypatch.setattr("surd.pretrained.brisque.PACKAGE", "no_such_package")
    load_brisque.cache_clear()
    try:
        check_models(load_config({}, {"score.quality": ["clip-iqa"]}), Build(str(tmp_path)))
        with pytest.raises(SurdError, match=r"quality brisque: .* not installed; pip install --no-deps brisque"):
            check_models(load_config({}, {"score.quality": ["brisque"]}), Build(str(tmp_path)))
    finally:
        load_brisque.cache_clear()
