"""A picture without a prompt is rejected, or, where the config asks for it, gets the captioner's caption for one."""

from __future__ import annotations

import pytest

from surd.pipeline.build.folder import Build
from surd.pipeline.demo.world.render import render
from surd.pipeline.demo.world.scenes import scene
from surd.pipeline.models import Models
from surd.pipeline.models.check import roles_needed
from surd.pipeline.runner.fingerprint import basis_of
from surd.pipeline.stages import BY_NAME
from surd.pipeline.stages.clean import clean
from surd.schemas import Captioned, Cleaned, Reason, load_config
from tests.pipeline.conftest import run_all
from tests.pipeline.models.stand_in import stand_in
from tests.pipeline.stages.test_caption import Scripted

ASKED = {"prompts.caption_missing": True}


@pytest.fixture
def pictures(tmp_path):
    """Two pictures, of which one has a caption beside it."""
    (tmp_path / "photos").mkdir()
    for number in range(2):
        render(scene(3, number)).save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "photos" / "0.txt").write_text("a red fox in the snow, oil painting")
    return {"source": f"folder:{tmp_path / 'photos'}"}


def rows(root, model, stage):
    return Build(str(root)).read_rows(stage, 0, model)


def test_by_default_it_is_rejected(pictures, tmp_path):
    run_all(tmp_path / "build", load_config({}, pictures), upto="clean")
    first, second = rows(tmp_path / "build", Cleaned, "clean")
    assert first.kept and first.complex == "a red fox in the snow, oil painting"
    assert (second.reason, second.prompt_origin) == (Reason.NO_PROMPT, None)
    assert "prompt_origin" not in Build(str(tmp_path / "build")).read_table("clean/part-00000.parquet").column_names


def test_where_asked_the_surest_caption_is_its_prompt_and_every_later_row_says_so(pictures, tmp_path):
    run_all(tmp_path / "build", load_config({}, pictures | ASKED), upto="caption")
    first, second = rows(tmp_path / "build", Cleaned, "clean")
    assert first.complex == "a red fox in the snow, oil painting" and first.prompt_origin is None
    assert second.kept and second.prompt_origin == "captioner"
    captioned = {row.key: row for row in rows(tmp_path / "build", Captioned, "caption")}
    assert captioned[second.key].captions[0].rstrip(".") == second.complex.rstrip(".")
    assert captioned[second.key].detail == "no prompt is known: the captioner's caption stands for it"
    assert captioned[first.key].detail is None


def test_a_captioner_without_a_usable_answer_leaves_it_rejected_with_its_reason(pictures, tmp_path):
    run_all(tmp_path / "build", load_config({}, pictures), upto="decode")
    config = load_config({}, pictures | ASKED)
    models = stand_in(captioner=Scripted(""))
    _, row = clean(Build(str(tmp_path / "build")), 0, config, models)
    assert row.reason is Reason.NO_PROMPT
    assert row.detail.startswith("no prompt is known, and the captioner gave no usable caption (")


def test_the_captioner_decides_the_outcome_of_clean_only_where_it_is_asked():
    plain, asked = load_config({}, {}), load_config({}, ASKED)
    clean_stage = BY_NAME["clean"]
    assert clean_stage.roles(plain) == ("clip",) and clean_stage.roles(asked) == ("clip", "captioner")
    assert roles_needed(plain)["captioner"] == ("caption",) and roles_needed(asked)["captioner"] == ("clean", "caption")
    assert "also" not in basis_of(clean_stage, plain, Models(plain.models))
    more = load_config({}, ASKED | {"caption.k": 2})
    assert len({str(basis_of(clean_stage, one, Models(one.models))) for one in (plain, asked, more)}) == 3
