"""What the report says of corrections and calibration: counted, grouped, marked, and never more than text."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from surd.pipeline.build.folder import Build
from surd.pipeline.report.correction import mark_changes, parse_repair, scales
from surd.pipeline.tables import Tables
from surd.schemas import Calibration, Corrected, ShuffledScores
from tests.pipeline.report.report_builds import HOSTILE, Page, make_page, series_of, write_build


@pytest.fixture(scope="module")
def corrected(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A build of 40 records: four sentences repaired (two of them hostile, one lost later), calibrated with 1 %."""
    build = write_build(tmp_path_factory.mktemp("corrected") / "b", 40)
    repairs = {
        0: ("Two owls on a red wall.", "Three owls on a red wall.", ["count: two -> three (0.250 -> 0.310)"]),
        1: ("Two owls.", HOSTILE[0], [f"colour: {HOSTILE[1]} -> red (0.1 -> 0.2)", "count: two -> four (0.1 -> 0.2)"]),
        27: ("A cat.", "A dog.", ["subject: cat -> dog (0.2 -> 0.3)"]),  # select rejects it: no sample
        4: ("endless " * 5000, "A short one.", ["a note of another shape"]),
    }
    for part in (0, 1):
        rows = build.read_rows("correct", part, Corrected)
        for at, row in enumerate(rows):
            index = 20 * part + at
            if row.clip_simple is None:
                continue
            if index in repairs and row.kept:
                before, after, done = repairs[index]
                scores = {"candidates": [after, before], "candidate_scores": [0.31, 0.25], "clip_simple": 0.31}
                row = row.model_copy(update=scores | {"before": before, "simple": after, "repairs": done})
            decision = "reject" if not row.kept else "repair" if row.repairs else "keep"
            rows[at] = row.model_copy(update={"decision": decision, "facts_checked": 3})
        build.write_rows("correct", part, Corrected, rows)
    shuffled = ShuffledScores(
        pairs=1000, quantiles={"0.5": 0.1, "0.9": 0.18, "0.99": 0.27, "0.999": 0.3}, rate=0.01, threshold=0.27,
        start=0.0, step=0.005, counts=[10] * 40 + [50] * 12,
    )  # fmt: skip
    build.write_json("calibration.json", Calibration(clip="tiny", images=40, prompts=40, complex=shuffled))
    make_page(build)
    return build


def section(build: Build, name: str) -> str:
    page = build.read_bytes("report.html").decode()
    start = page.index(f'<section id="{name}"')
    return page[start : page.index("</section>", start)]


def test_the_correction_is_counted_and_its_repairs_grouped_by_fact(corrected: Build) -> None:
    rows = [row for part in (0, 1) for row in corrected.read_rows("correct", part, Corrected) if row.decision]
    said = " ".join(Page(section(corrected, "correction")).text.split())
    assert f"{3 * len(rows)} facts in {len(rows)} sentences were asked of the picture: 5 exchanged" in said
    for decision in ("keep", "repair", "reject"):
        count = sum(row.decision == decision for row in rows)
        assert count > 0 and f"{decision} {count} · " in said
    assert "count 2 · 40%" in said and "colour 1 · 20%" in said and "other 1 · 20%" in said


def test_a_repaired_sample_shows_what_changed_and_both_scores(corrected: Build) -> None:
    shown = section(corrected, "correction")
    assert "<del>Two</del> owls on a red wall." in shown and "<ins>Three</ins> owls on a red wall." in shown
    assert "0.250" in shown and "0.310" in shown and "count: two → <b>three</b>" in shown
    assert shown.count('<li class="repair">') == 3 == shown.count("data:image/webp;base64,")
    assert "cat" not in Page(shown).text.split()  # a repaired sentence whose pair was lost is no sample


def test_hostile_and_endless_repairs_stay_text_and_are_cut(corrected: Build) -> None:
    shown = section(corrected, "correction")
    assert "<script" not in shown and "&lt;/script&gt;&lt;script&gt;" in shown and "<img src=x" not in shown
    assert len(shown) < 40_000 and "a note of another shape" in shown


def test_the_gallery_of_repairs_has_the_room_it_is_given(corrected: Build, tmp_path: Path) -> None:
    shutil.copytree(corrected.root, tmp_path / "b")
    build = Build(str(tmp_path / "b"))
    make_page(build, repairs=1, samples=0)
    assert section(build, "correction").count('<li class="repair">') == 1
    assert "1 of 4 repaired sentences are here" in " ".join(Page(section(build, "correction")).text.split())


def test_the_calibration_is_drawn_with_its_line_and_a_sentence(corrected: Build) -> None:
    rows = [row for part in (0, 1) for row in corrected.read_rows("correct", part, Corrected) if row.kept]
    scores = [row.clip_complex for row in rows if row.clip_complex is not None]
    shown = section(corrected, "calibration")
    said = " ".join(Page(shown).text.split())
    assert shown.count('<line class="threshold"') == 1
    assert "1% of 1,000 pairs reach 0.270" in said
    assert f"{sum(score < 0.27 for score in scores)} of the {len(scores)} true pairs" in said


def test_shares_of_both_kinds_of_pair_add_up_to_all_of_them(tmp_path: Path) -> None:
    shuffled = ShuffledScores(
        pairs=130, quantiles={"0.5": 0.0}, rate=None, threshold=None, start=-0.1, step=0.005, counts=[1, 2, 3, 4] * 13
    )
    calibration = Calibration(clip="c", images=9, prompts=9, complex=shuffled)
    with Tables(tmp_path) as tables:
        (scale,) = scales(calibration, series_of(tables, {"complex": [-0.3, 0.2, 0.95], "simple": []}))
    assert {name: round(sum(each)) for name, each in scale.bins.counts.items()} == {"shuffled": 100, "true": 100}
    assert scale.bins.edges[0] <= -0.3 and scale.bins.edges[-1] >= 0.95 and len(scale.bins.edges) <= 46


def test_changed_words_are_marked_and_no_others() -> None:
    before, after = mark_changes("Two red owls on a wall.", "Three red owls sit on a wall.")
    assert before == [("Two", True), ("red owls", False), ("on a wall.", False)]
    assert [text for text, changed in after if changed] == ["Three", "sit"]
    assert mark_changes("", "A dog.") == ([], [("A dog.", True)])


@pytest.mark.parametrize(
    ("repair", "parsed"),
    [
        ("count: two -> three (0.712 -> 0.834)", ("count", "two", "three")),
        ("relation: left of -> right of", ("relation", "left of", "right of")),
        ("subject: a -> b -> c (0.1 -> 0.2)", ("subject", "a", "b -> c")),
        ("whatever", ("other", "whatever", "")),
    ],
)
def test_a_repair_is_read_as_fact_old_and_new(repair: str, parsed: tuple[str, str, str]) -> None:
    assert parse_repair(repair)[:3] == parsed
