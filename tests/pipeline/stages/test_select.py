"""Select: thresholds that mean the same with every CLIP, one of each picture, and a rule that says what was done."""

import json
import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from surd.pipeline.build.folder import Build, parquet_bytes
from surd.pipeline.build.scratch import temporary
from surd.pipeline.decisions import append
from surd.pipeline.deduplication.semantic import VectorFile, find_semantic_duplicates
from surd.pipeline.models import Models
from surd.pipeline.selection.calibration import PROMPTS, calibrate
from surd.pipeline.selection.choose import Selection, choose, selection_file, write_kept
from surd.pipeline.stages.select import select
from surd.schemas import BuildConfig, Calibration, Corrected, Decision, Reason, Selected, SelectionRule
from surd.schemas.config import SelectConfig
from tests.pipeline.score_table import unit, write_end, write_part

PLAIN = SelectConfig(false_match_rate_complex=None)


def keys_of(count: int) -> list[str]:
    """Keys in no order, as hashes are."""
    return [f"{(at * 2654435761) % 2**32:08x}{at:08x}" for at in range(count)]


def world(seed: int, count: int, width: int = 16, noise: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    """Images and the embeddings of prompts that are theirs, more or less."""
    rng = np.random.default_rng(seed)
    images = unit(rng.standard_normal((count, width)))
    return images, unit(images + noise * rng.standard_normal((count, width)) / np.sqrt(width))


def write(root, count: int, *, seed: int = 0, per_part: int = 100, prompts=None, lost=(), scale=None) -> Build:
    """A build of ``count`` pairs; ``scale`` squeezes all cosines together, as another CLIP might."""
    images, texts = world(seed, count)
    if scale is not None:
        common = np.full((count, 1), scale)
        images, texts = unit(np.hstack([images, common])), unit(np.hstack([texts, common]))
    build, keys = Build(str(root)), keys_of(count)
    for part, start in enumerate(range(0, count, per_part)):
        here = slice(start, start + per_part)
        of_part = prompts[here] if prompts else None
        write_part(build, part, keys[here], images[here], texts[here], prompts=of_part, lost=lost)
    write_end(build, -(-count // per_part), count)
    return build


def chosen_by(build: Build, settings: SelectConfig) -> tuple[Selection, list[list[Selected]], pa.Table]:
    """The selection, its verdicts, and what its file holds."""
    with temporary("select") as tables:
        selection = choose(build, settings, "clip", tables)
        return selection, list(selection.rows()), pq.read_table(selection.file())


def verdicts(build: Build, settings: SelectConfig) -> dict[str, Selected]:
    return {row.key: row for rows in chosen_by(build, settings)[1] for row in rows}


def all_shuffled(count: int, seed: int = 0) -> np.ndarray:
    images, texts = world(seed, count)
    return (images @ texts.T)[~np.eye(count, dtype=bool)]


def test_an_absolute_threshold_rejects_with_the_score_and_the_threshold(tmp_path):
    build = write(tmp_path, 50)
    rows = verdicts(build, SelectConfig(min_clip_complex=0.8, false_match_rate_complex=None))
    gone = [row for row in rows.values() if not row.kept]
    assert 0 < len(gone) < 50
    for row in rows.values():
        assert row.kept == (row.clip_complex >= 0.8)
    assert {(row.reason, row.rejected_by) for row in gone} == {(Reason.BELOW_THRESHOLD, "select")}
    assert gone[0].detail == f"clip_complex {gone[0].clip_complex:.3f} is under 0.8"


def test_a_small_build_is_measured_over_all_pairs_of_different_images(tmp_path):
    measured = calibrate(write(tmp_path, 120), {"complex": 0.01, "simple": None}, "clip")
    cosines = all_shuffled(120)
    assert (measured.images, measured.prompts) == (120, 120)
    assert measured.complex.pairs == sum(measured.complex.counts) == 120 * 119
    assert measured.complex.threshold == pytest.approx(np.quantile(cosines, 0.99), abs=2e-3)
    for share, value in measured.complex.quantiles.items():
        assert value == pytest.approx(np.quantile(cosines, float(share)), abs=1e-2)


@pytest.mark.parametrize("rate", [0.5, 0.05, 0.01, 0.002])
def test_no_more_than_the_rate_of_shuffled_pairs_reaches_the_threshold(tmp_path, rate):
    measured = calibrate(write(tmp_path, 150), {"complex": rate}, "clip")
    reaching = (all_shuffled(150) >= measured.complex.threshold).mean()
    assert reaching <= rate and reaching == pytest.approx(rate, rel=0.05)


def test_the_rate_rejects_the_pairs_that_fit_no_better_than_a_strangers_prompt(tmp_path):
    images, texts = world(3, 200)
    texts[:20] = np.roll(texts[:20], 1, axis=0)  # these have the prompt of another image
    build, keys = Build(str(tmp_path)), keys_of(200)
    write_part(build, 0, keys, images, texts)
    write_end(build, 1, 200)
    rows = verdicts(build, SelectConfig(false_match_rate_complex=0.01))
    assert [key for key in keys[:20] if rows[key].kept] == []
    assert sum(rows[key].kept for key in keys[20:]) >= 170
    detail = rows[keys[0]].detail
    assert detail.startswith("clip_complex ") and detail.endswith(", the 1% false-match threshold")


def test_a_rate_keeps_the_same_pairs_when_all_cosines_are_squeezed_together(tmp_path):
    kept = []
    for name, scale in (("one", None), ("other", 1.5)):
        rows = verdicts(write(tmp_path / name, 300, scale=scale), SelectConfig(false_match_rate_complex=0.01))
        kept.append({key for key, row in rows.items() if row.kept})
    assert len(kept[0]) > 150 and len(kept[0] ^ kept[1]) <= 6


def test_pairs_that_share_a_prompt_are_no_false_matches(tmp_path):
    count = 200
    images, texts = world(1, count)
    prompts = [f"thing {at}, masterpiece" for at in range(count)]
    for at in range(1, 60):  # sixty pictures of one prompt, in other letters and another order
        prompts[at], texts[at] = "Masterpiece, THING 0", texts[0]
        images[at] = unit((texts[0] + 0.02 * images[at])[None])[0]
    images[0], prompts[0] = texts[0], "thing 0, masterpiece"
    build, keys = Build(str(tmp_path)), keys_of(count)
    write_part(build, 0, keys, images, texts, prompts=prompts)
    write_end(build, 1, count)
    measured = calibrate(build, {"complex": 0.01, "simple": 0.01}, "clip")
    assert measured.complex.pairs == count * (count - 1) - 60 * 59 == measured.simple.pairs
    assert measured.complex.threshold < 0.95


def test_a_large_build_meets_a_draw_of_its_prompts_whatever_its_partitions(tmp_path):
    count = PROMPTS + 300
    first = calibrate(write(tmp_path / "a", count), {"complex": 0.01}, "clip")
    again = calibrate(write(tmp_path / "b", count, per_part=270), {"complex": 0.01}, "clip")
    assert first.prompts == PROMPTS and first.images == count
    assert first.complex.pairs == count * PROMPTS - PROMPTS >= 20_000
    assert first == again
    assert first.complex.threshold == pytest.approx(np.quantile(all_shuffled(count), 0.99), abs=0.02)


def test_both_kinds_of_prompt_have_their_own_threshold(tmp_path):
    images, texts = world(0, 150)
    loose = unit(images + 0.3 * np.random.default_rng(9).standard_normal(images.shape))
    build, keys = Build(str(tmp_path)), keys_of(150)
    write_part(build, 0, keys, images, texts, simple_vectors=loose, lost=keys[:30])
    write_end(build, 1, 150)
    chosen, _, _ = chosen_by(build, SelectConfig(false_match_rate_simple=0.02, false_match_rate_complex=0.01))
    measured = chosen.calibration
    assert measured.simple.pairs == 120 * 119 and measured.complex.pairs == 150 * 149  # correct rejected thirty
    by_origin = {(each.column, each.origin): each.least for each in chosen.rule.thresholds}
    assert by_origin["clip_simple", "the 2% false-match threshold"] == measured.simple.threshold
    assert by_origin["clip_complex", "the 1% false-match threshold"] == measured.complex.threshold


@pytest.mark.parametrize(
    ("count", "rate", "why"), [(40, 0.01, "40 images are too few"), (110, 1e-4, "11,990 shuffled pairs are too few")]
)
def test_too_little_to_calibrate_is_said_and_no_threshold_applied(tmp_path, caplog, count, rate, why):
    build = write(tmp_path, count)
    with caplog.at_level(logging.WARNING):
        chosen, rows, _ = chosen_by(build, SelectConfig(false_match_rate_complex=rate))
    assert all(row.kept for of_part in rows for row in of_part)
    assert why in caplog.text and why in chosen.rule.notes[0]
    assert [each.origin for each in chosen.rule.thresholds] == [None, None]
    assert chosen.calibration.complex.threshold is None


def test_a_build_whose_images_all_share_one_prompt_or_of_nothing_has_nothing_to_measure(tmp_path):
    same, _, _ = chosen_by(write(tmp_path / "same", 120, prompts=["a dog, best quality"] * 120), SelectConfig())
    assert same.calibration.complex is None and "0 shuffled pairs" in same.rule.notes[0]
    _, rows, table = chosen_by(Build(str(tmp_path / "none")), SelectConfig(max_similarity=0.9))
    assert rows == [] and table.num_rows == 0


def test_a_score_that_is_missing_or_no_number_is_a_reason_and_no_crash(tmp_path):
    images, texts = world(0, 120)
    images[3] = np.nan
    build, keys = Build(str(tmp_path)), keys_of(120)
    write_part(build, 0, keys, images, texts)
    write_end(build, 1, 120)
    chosen, of_parts, _ = chosen_by(build, SelectConfig(max_similarity=0.999))
    rows = {row.key: row for row in of_parts[0]}
    assert rows[keys[3]].reason is Reason.BELOW_THRESHOLD and "nan" in rows[keys[3]].detail
    assert chosen.calibration.images == 119


def test_of_like_images_the_one_its_sentence_fits_best_stays(tmp_path):
    images, texts = world(5, 40)
    images[:4] = unit(images[0] + 0.01 * np.random.default_rng(1).standard_normal((4, 16)))
    texts[:4] = unit(images[0] + np.array([[0.3], [0.1], [0.2], [0.4]]) * images[10])
    build, keys = Build(str(tmp_path)), keys_of(40)
    write_part(build, 0, keys, images, texts)
    write_end(build, 1, 40)
    rows = verdicts(build, SelectConfig(max_similarity=0.95, false_match_rate_complex=None))
    assert rows[keys[1]].kept and rows[keys[1]].cluster == keys[1] and rows[keys[1]].similarity is None
    for key in (keys[0], keys[2], keys[3]):
        row = rows[key]
        assert (row.reason, row.cluster) == (Reason.DUPLICATE_SEMANTIC, keys[1])
        assert row.similarity > 0.95 and keys[1] in row.detail and f"{row.similarity:.3f}" in row.detail
    assert sum(row.kept for row in rows.values()) == 37


def test_of_equals_the_smallest_key_stays(tmp_path):
    images = unit(np.ones((6, 8)))
    build, keys = Build(str(tmp_path)), keys_of(6)
    write_part(build, 0, keys, images, images)
    write_end(build, 1, 6)
    rows = verdicts(build, PLAIN.model_copy(update={"max_similarity": 0.99}))
    assert [key for key, row in rows.items() if row.kept] == [min(keys)]


def test_no_two_that_stay_are_alike_and_every_other_has_a_like_one_that_stays():
    rng = np.random.default_rng(0)
    vectors = unit(rng.standard_normal((2500, 6)))  # six dimensions are crowded: chains of neighbours everywhere
    duplicates = dict(find_semantic_duplicates(vectors, 0.9))
    stay = [row for row in range(2500) if row not in duplicates]
    cosines = vectors[stay] @ vectors[stay].T - 2 * np.eye(len(stay))
    assert 10 < len(stay) < 2000 and cosines.max() <= 0.9 + 1e-6
    for row, other in duplicates.items():
        assert other.row not in duplicates and other.similarity > 0.9
        assert other.similarity == pytest.approx(float(vectors[row] @ vectors[other.row]), abs=1e-5)


def test_the_large_index_finds_the_same_twins_as_comparing_all_with_vectors_on_disk(monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((3000, 32))
    vectors[2000:] = vectors[rng.integers(0, 2000, 1000)] + 0.1 * rng.standard_normal((1000, 32))
    vectors = unit(vectors)
    exact = dict(find_semantic_duplicates(vectors, 0.95))
    monkeypatch.setattr("surd.pipeline.deduplication.semantic._EXACT", 1000)
    assert len(exact) > 900
    approximate = dict(find_semantic_duplicates(vectors, 0.95))
    assert len(approximate.keys() & exact.keys()) >= 0.99 * len(exact) and approximate.keys() <= exact.keys()
    monkeypatch.setattr("surd.pipeline.deduplication.semantic._AT_ONCE", 1024)
    with VectorFile(tmp_path / "vectors", 3000, 32) as file:
        for row in range(3000):
            file.write(row, vectors[row])
        assert dict(find_semantic_duplicates(file, 0.95)) == approximate, "however many are in memory at once"


def test_the_files_say_which_keys_by_which_rule_and_are_the_same_each_time(tmp_path):
    build = write(tmp_path, 250, lost=keys_of(250)[:10])
    models = Models(BuildConfig().models)
    settings = SelectConfig(max_similarity=0.9)
    rows = [row for of_part in select(build, BuildConfig(select=settings), models) for row in of_part]
    table = pq.read_table(tmp_path / "selection.parquet")
    assert table["key"].to_pylist() == sorted(row.key for row in rows if row.kept)
    rule = SelectionRule.model_validate_json(table.schema.metadata[b"surd.rule"])
    assert rule.settings == settings.model_dump(exclude={"filters", "picture"})
    calibration = Calibration.model_validate_json((tmp_path / "calibration.json").read_bytes())
    assert calibration == Calibration.model_validate(json.loads(table.schema.metadata[b"surd.calibration"]))
    assert rule.thresholds[-1].least == calibration.complex.threshold
    assert calibration.clip == f"{models.config.clip} {models.revision('clip')}"
    before = {name: build.read_bytes(name) for name in ("selection.parquet", "calibration.json")}
    again = [row for of_part in select(build, BuildConfig(select=settings), models) for row in of_part]
    assert again == rows and {name: build.read_bytes(name) for name in before} == before


@pytest.mark.parametrize("group", [1 << 20, 4500])
def test_the_file_of_a_selection_has_the_bytes_of_a_sorted_table_written_at_once(tmp_path, monkeypatch, group):
    monkeypatch.setattr("surd.pipeline.selection.choose._GROUP", group)
    count = 10_000
    rows = [Selected(key=key, clip_simple=at / 7, clip_complex=at / 3) for at, key in enumerate(keys_of(count))]
    rule, nothing = SelectionRule(settings={}, thresholds=[], notes=[]), Calibration(clip="c", images=0, prompts=0)
    with temporary("select") as tables:
        write_kept(tables, "kept", [rows[:6000], rows[6000:]])
        written = selection_file(tables, rule, nothing).read_bytes()
    rows.sort(key=lambda row: row.key)
    table = pa.table({name: [getattr(row, name) for row in rows] for name in ("key", "clip_simple", "clip_complex")})
    documents = {"surd.rule": rule, "surd.calibration": nothing}
    table = table.replace_schema_metadata(
        {name: json.dumps(value.model_dump(mode="json"), sort_keys=True) for name, value in documents.items()}
    )
    assert written == parquet_bytes(table, [min(group, count - start) for start in range(0, count, group)])


def test_what_was_rejected_before_keeps_its_reason(tmp_path):
    lost = keys_of(60)[20:40]
    rows = verdicts(write(tmp_path, 60, lost=lost), SelectConfig(min_clip_simple=0.99))
    assert {rows[key].reason for key in lost} == {Reason.MISMATCH}
    assert {rows[key].rejected_by for key in lost} == {"correct"}


def decide(build: Build, key: str, verdict: str, **fields) -> None:
    append(build, Decision(key=key, verdict=verdict, **fields))


def test_a_person_overrules_scores_and_nothing_else(tmp_path):
    keys = keys_of(6)
    build = write(tmp_path, 6, lost=keys[3:5])
    cleaned = build.read_table("correct/part-00000.parquet").to_pylist()
    unsafe = Corrected(key=keys[5]).reject("safety", Reason.NSFW, "nude")
    no_sentence = Corrected(key=keys[4]).reject("correct", Reason.NO_CANDIDATE)
    rows = [Corrected.model_validate(row) for row in cleaned]
    build.write_rows("correct", 0, Corrected, [*rows[:4], no_sentence, unsafe])
    strict = PLAIN.model_copy(update={"min_clip_simple": 0.9999})
    assert not any(row.kept for row in verdicts(build, strict).values())
    for key in keys:
        decide(build, key, "approve")
    decide(build, keys[1], "edit", simple="A fox.")
    found = verdicts(build, strict)
    assert [found[key].kept for key in keys] == [True, True, True, True, False, False]
    assert "kept though clip_simple" in found[keys[0]].detail and "mismatch" in found[keys[3]].detail
    assert (found[keys[1]].by_hand, found[keys[1]].simple_by_hand) == ("approve, edit", "A fox.")
    assert (found[keys[5]].reason, found[keys[5]].by_hand) == (Reason.NSFW, None)
    assert found[keys[5]].detail == "nude; approve by hand does not undo this"
    decide(build, keys[4], "edit", simple="An owl.")
    assert verdicts(build, strict)[keys[4]].kept
    decide(build, keys[0], "reject", reason="x" * 500)
    row = verdicts(build, PLAIN)[keys[0]]
    assert (row.reason, row.rejected_by, len(row.detail)) == (Reason.REJECTED_BY_HAND, "select", 500)
    decide(build, keys[5], "reject", reason="also this")
    assert verdicts(build, PLAIN)[keys[5]].reason == Reason.NSFW


def test_a_row_of_which_nothing_may_be_left_gets_no_word_of_a_person(tmp_path):
    build, (key, *_) = write(tmp_path, 2), keys_of(2)
    rows = [Corrected.model_validate(row) for row in build.read_table("correct/part-00000.parquet").to_pylist()]
    build.write_rows("correct", 0, Corrected, [Corrected(key=key).reject("collect", Reason.FORGOTTEN), rows[1]])
    decide(build, key, "edit", simple="Her face.")
    assert verdicts(build, PLAIN)[key] == Selected(key=key).reject("collect", Reason.FORGOTTEN)


def test_of_like_images_the_one_that_a_person_keeps_stays_and_all_of_its_cluster_go(tmp_path):
    angles = np.radians([0, 20, -20, 90])  # the outer two are like the first, and not like each other
    images = unit(np.stack([np.cos(angles), np.sin(angles)], 1))
    build, keys = Build(str(tmp_path)), keys_of(4)
    of_texts = angles + np.array([0, 0.3, 0.3, 0])
    texts = unit(np.stack([np.cos(of_texts), np.sin(of_texts)], 1))
    write_part(build, 0, keys, images, texts)
    write_end(build, 1, 4)
    settings = PLAIN.model_copy(update={"max_similarity": 0.9})
    assert [row.kept for row in verdicts(build, settings).values()] == [True, False, False, True]
    decide(build, keys[1], "keep")
    found = verdicts(build, settings)
    assert [found[key].kept for key in keys] == [False, True, False, True]
    assert {found[key].cluster for key in keys[:3]} == {keys[1]}
    assert "which is kept (decided by hand)" in found[keys[0]].detail and found[keys[1]].by_hand == "keep"
    decide(build, keys[2], "approve")
    assert [row.kept for row in verdicts(build, settings).values()] == [False, True, True, True]
