"""What the gallery of repairs shows of one sample."""

from pipeline.report_correction import repaired_entry
from schemas import Corrected


def test_a_repair_is_shown_before_the_sentence_was_worded_another_way():
    row = Corrected(
        key="0" * 16, simple="A picture of a dog.", worded_from="A dog.", before="A cat.", clip_simple=0.3,
        repairs=["subject: cat -> dog (0.20 -> 0.31)"], candidates=["A dog.", "A picture of a dog.", "A cat."],
        candidate_scores=[0.31, 0.3, 0.2],
    )  # fmt: skip
    entry = repaired_entry(row, row.key, "1dog", None, 100)
    assert entry["before"] == [("A", False), ("cat.", True)]
    assert entry["after"] == [("A", False), ("dog.", True)]
    assert (round(entry["score_before"], 2), round(entry["score_after"], 2)) == (0.2, 0.31)
