"""Limits of select on the picture: who meets them, what cannot be measured, and what is not measured at all."""

import numpy as np
import pytest

from surd.flows.build_request import request_build
from surd.pipeline.build.folder import Build
from surd.pipeline.build.scratch import temporary
from surd.pipeline.decisions import append
from surd.pipeline.models import Models
from surd.pipeline.runner.fingerprint import basis_of, inputs
from surd.pipeline.selection.choose import choose
from surd.pipeline.stages import BY_NAME
from surd.schemas import Decision, Pair, Reason, Scored, SurdError, load_config
from surd.schemas.config import SelectConfig
from tests.pipeline.score_table import unit, write_end, write_part

KEYS = [f"{at:016x}" for at in range(6)]
SIZES = [(512, 512), (300, 600), (2048, 512), (512, 1100), (1024, 1024), (64, 64)]
ENTROPY = [7.0, 6.0, None, 1.0, 7.5, 5.0]


@pytest.fixture
def scored(tmp_path) -> Build:
    """Six pairs in two partitions, the last of which correct has rejected."""
    build = Build(str(tmp_path / "scored"))
    images = unit(np.random.default_rng(0).standard_normal((6, 8)))
    for part in (0, 1):
        here = slice(3 * part, 3 * part + 3)
        keys = KEYS[here]
        pairs = [Pair(key=key, width=size[0], height=size[1]) for key, size in zip(keys, SIZES[here], strict=True)]
        build.write_rows("fetch", part, Pair, pairs)
        write_part(build, part, keys, images[here], images[here], lost=KEYS[5:])
        rows = build.read_rows("score", part, Scored)
        measured = zip(rows, ENTROPY[here], strict=True)
        build.write_rows("score", part, Scored, [row.model_copy(update={"entropy": value}) for row, value in measured])
    write_end(build, 2, 6)
    return build


def chosen(build: Build, **limits):
    with temporary("test") as tables:
        settings = SelectConfig(false_match_rate_complex=None, picture=limits)
        return [row for rows in choose(build, settings, "clip", tables).rows() for row in rows]


def rejected(build: Build, **limits) -> dict[int, str]:
    return {at: row.detail for at, row in enumerate(chosen(build, **limits)) if row.reason is Reason.PICTURE_LIMIT}


def test_sizes_and_measures_decide_and_the_row_says_which(scored):
    assert rejected(scored, min_short_side=512) == {1: "short_side is 300, not >= 512"}
    assert rejected(scored, max_aspect=2.1) == {2: "aspect is 4, not <= 2.1", 3: "aspect is 2.148, not <= 2.1"}
    assert rejected(scored, min_entropy=6) == {
        2: "entropy could not be measured, and entropy >= 6 is asked for",
        3: "entropy is 1, not >= 6",
    }
    assert set(rejected(scored, min_entropy=6, min_short_side=512)) == {1, 2, 3}
    assert rejected(scored) == {}


def test_what_a_stage_before_rejected_keeps_its_reason_and_a_person_has_the_last_word(scored):
    append(scored, Decision(key=KEYS[3], verdict="approve"))
    rows = chosen(scored, min_entropy=6, min_short_side=100)
    assert rows[5].reason is Reason.MISMATCH
    assert rows[3].kept and "kept though entropy is 1, not >= 6" in rows[3].detail


def test_the_rule_says_its_limits_and_is_what_it_was_without_any(scored):
    with temporary("test") as tables:
        settings = SelectConfig(picture={"min_short_side": 512})
        rule = choose(scored, settings, "clip", tables).rule
        assert rule.settings["picture"]["min_short_side"] == 512
        assert "picture" not in choose(scored, SelectConfig(), "clip", tables).rule.settings


def test_a_limit_on_what_no_picture_has_says_how_it_is_measured(scored, tmp_path):
    build = Build(str(tmp_path / "plain"))
    images = unit(np.ones((1, 8)))
    build.write_rows("fetch", 0, Pair, [Pair(key=KEYS[0], width=8, height=8)])
    write_part(build, 0, KEYS[:1], images, images)
    build.write_rows("score", 0, Scored, build.read_rows("score", 0, Scored))  # as the stage writes it
    write_end(build, 1, 1)
    sentence = (
        r'select.picture.max_text_area is 0.05, and text_area was measured of no picture of .*plain: put "text-area"'
    )
    with pytest.raises(SurdError, match=sentence):
        chosen(build, max_text_area=0.05)
    with pytest.raises(SurdError, match=r"score.aesthetic names the weights"):
        chosen(build, min_aesthetic=5)


def test_a_build_that_will_not_measure_it_is_refused_before_it_begins(tmp_path):
    def request(**parameters):
        return request_build(out=str(tmp_path / "b"), profile=None, parameters=parameters)

    with pytest.raises(SurdError, match=r'select.picture.min_entropy is 4, .* put "entropy" into score.quality'):
        request(**{"select.picture.min_entropy": 4})
    with pytest.raises(SurdError, match="min_short_sid"):
        request(**{"select.picture.min_short_sid": 4})
    config = request(**{"select.picture.min_entropy": 4, "score.quality": ["entropy"]}).config
    assert config.select.picture.min_entropy == 4


def test_a_limit_redoes_select_alone_and_none_changes_no_fingerprint():
    plain, limited = (load_config({}, fields) for fields in ({}, {"select.picture.min_short_side": 512}))
    select, score = BY_NAME["select"], BY_NAME["score"]
    before = basis_of(select, plain, Models(plain.models))
    assert "picture" not in before["settings"] and "filters" not in before["settings"]
    after = basis_of(select, limited, Models(limited.models))
    assert after != before and after["settings"]["picture"]["min_short_side"] == 512
    assert "fetch" in inputs(select, limited) and "fetch" not in inputs(select, plain)
    assert basis_of(score, limited, Models(limited.models)) == basis_of(score, plain, Models(plain.models))
    assert {"watermark", "aesthetic"}.isdisjoint(basis_of(score, plain, Models(plain.models))["settings"])
