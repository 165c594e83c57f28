"""The benchmark's arithmetic: what counts as caught, lost, fixed and broken, and when a figure meets its goal."""

import pytest

from surd.pipeline.demo.world.defects import KINDS
from surd.pipeline.demo.world.prompts import narrative, truth
from surd.pipeline.demo.world.scenes import Scene
from tests.bench.figures import Figure
from tests.bench.judge import Record, lost, score_kinds
from tests.bench.truthfulness import judge_repairs, judge_rules, tally

CATS = Scene("count", "cat", 3, "blue", "none", 0)
TRUE, FALSE = "Three cats on a blue background.", "Two cats on a blue background."


def record(id, defect=None, reason=None, rejected_by=None, original=None, payload=(), shown=CATS, **columns):
    told = truth(shown) | {"defect": defect, "original": original, "payload": payload, "stated": None}
    values = {
        "detail": None, "scored": True, "clip_complex": 0.5, "complex": "3 cats", "simple": TRUE, "before": TRUE,
        "decision": "keep",
    } | columns  # fmt: skip
    return Record(id=id, truth=told, kept=reason is None, reason=reason, rejected_by=rejected_by, **values)


def handled(*records):
    return {name: score.handled for name, score in score_kinds(records).items() if score.planted}


def test_a_defect_that_must_be_rejected_counts_only_for_a_reason_that_fits():
    records = [record("1", "tag_only", "no_subject", "clean"), record("2", "tag_only", "http_error", "fetch")]
    assert handled(*records) == {"tag_only": 1} and handled(record("3", "tag_only")) == {"tag_only": 0}


@pytest.mark.parametrize(
    ("original", "copy", "caught"),
    [
        ({}, {"reason": "duplicate_bytes", "rejected_by": "dedup"}, 1),
        ({"reason": "duplicate_image", "rejected_by": "dedup"}, {}, 1),
        ({"reason": "duplicate_image", "rejected_by": "dedup"}, {"reason": "mismatch", "rejected_by": "correct"}, 1),
        ({}, {}, 0),
        ({}, {"reason": "mismatch", "rejected_by": "correct"}, 0),
        ({"reason": "gibberish", "rejected_by": "clean"}, {}, 1),
    ],
)
def test_of_a_record_and_its_copy_one_must_go_as_a_duplicate(original, copy, caught):
    cluster = [record("1", **original), record("2", "exact_duplicate", original=1, **copy)]
    assert handled(*cluster) == {"exact_duplicate": caught}


def test_of_three_that_stay_two_copies_are_missed():
    cluster = [record("1"), *(record(id, "exact_duplicate", original=1) for id in "23")]
    assert handled(*cluster) == {"exact_duplicate": 0}


def test_an_original_replaced_by_its_copy_is_not_lost_and_a_twin_is_merged():
    gone = {"reason": "duplicate_image", "rejected_by": "dedup"}
    replaced = [record("1", **gone), record("2", "exact_duplicate", original=1)]
    assert lost(replaced) == ([], 0)
    assert lost([record("1", **gone), record("2")]) == ([], 1)
    other = Scene("count", "dog", 3, "blue", "none", 0)
    alone = [record("1", **gone), record("2", shown=other)]
    assert lost(alone) == ([alone[0]], 0)


def test_a_sound_picture_under_a_wrong_extension_is_a_sound_record():
    gone = record("1", "wrong_extension", "not_an_image", "fetch")
    assert lost([gone]) == ([gone], 0) and handled(gone) == {"wrong_extension": 0}


def test_nothing_of_a_payload_may_be_left_whatever_the_punctuation():
    kept = {"defect": "script_tag", "payload": ("alert", "evil example")}
    assert handled(record("1", **kept)) == {"script_tag": 1}
    assert handled(record("1", complex="3 cats, evil_example", **kept)) == {"script_tag": 0}
    assert handled(record("1", simple="Alert: three cats.", **kept)) == {"script_tag": 0}


def test_a_kept_sample_of_a_wrong_fact_is_judged_by_the_picture():
    assert handled(record("1", "wrong_count"), record("2", "wrong_count", simple=FALSE)) == {"wrong_count": 1}
    assert handled(record("1", "huge_prompt", complex="x" * 5000)) == {"huge_prompt": 0}


def test_facts_are_tallied_by_group():
    tallies = tally([(TRUE, truth(CATS)), (FALSE, truth(CATS)), ("A cat.", truth(CATS))])
    assert (tallies["count"].precision, tallies["count"].recall) == (1 / 3, 1 / 3)
    assert (tallies["background"].precision, tallies["background"].recall) == (1.0, 2 / 3)
    assert (tallies["all"].asserted, tallies["all"].true) == (8, 6)
    assert tallies["action"].precision is None


def test_a_repair_fixes_breaks_or_drops_a_fact():
    repaired = {"decision": "repair"}
    fixed = record("1", before=FALSE, simple=TRUE, **repaired)
    broke = record("2", before=TRUE, simple=FALSE, **repaired)
    silenced = record("3", before=TRUE, simple="Three cats.", **repaired)
    repairs = judge_repairs([fixed, broke, silenced, record("4", before=FALSE, simple=FALSE)])
    assert (repairs.made, repairs.fixed, repairs.broke, repairs.dropped) == (3, 1, 1, 1)


def test_rules_are_compared_over_the_scored_at_the_keep_rate_of_ours():
    gone = {"reason": "mismatch", "rejected_by": "correct"}
    ours = [
        record("1", clip_complex=0.9),
        record("2", "wrong_count", clip_complex=0.8, before=FALSE),
        record("3", "prompt_of_another_image", clip_complex=0.85, before=FALSE, **gone),
        record("4", "tag_only", "no_subject", "clean", scored=False, simple=None, before=None),
    ]
    paper = [
        record("1", clip_complex=0.9, **gone),
        record("2", "wrong_count", clip_complex=0.8, simple=FALSE, before=FALSE),
        record("3", "prompt_of_another_image", clip_complex=0.85, simple=FALSE, before=FALSE, **gone),
    ]
    found = {rule.name: rule for rule in judge_rules(ours, paper)}
    assert found["ours"].kept == found["plain CLIP"].kept == 2 and found["paper"].kept == 1
    assert (found["ours"].false_facts, found["ours"].untrue, found["ours"].good_lost) == (0.0, 0, 0)
    assert (found["paper"].false_facts, found["paper"].untrue, found["paper"].good_lost) == (1.0, 1, 1)
    assert (found["plain CLIP"].false_facts, found["plain CLIP"].mismatched) == (0.5, 1)


def test_what_was_not_measured_has_not_met_its_goal():
    assert not Figure("x", None, ">=", 0.0).met
    assert Figure("x", 0.98, ">=", 0.98).met and not Figure("x", 0.02, "<", 0.02).met
    assert Figure("x", 0.01, "<=", 0.01).document() == {"value": 0.01, "goal": "<= 0.01", "met": True}


def test_every_group_of_defects_has_a_goal_or_is_judged_by_its_samples():
    from tests.bench.figures import GROUP_GOALS

    judged_otherwise = {kind.group for kind in KINDS.values() if kind.must in ("truth", "keep")}
    assert {kind.group for kind in KINDS.values()} == set(GROUP_GOALS) | judged_otherwise


def test_the_true_sentence_of_these_tests_is_what_the_demo_says():
    from surd.pipeline.demo.world.prompts import FirstChoice

    assert narrative(CATS, FirstChoice()) == TRUE
