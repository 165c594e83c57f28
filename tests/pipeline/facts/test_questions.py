"""Each fact that is read has a yes/no question that asks for it alone."""

import pytest

from surd.pipeline.facts.parse import extract
from surd.pipeline.facts.questions import question


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("A white dress.", "Is the dress white?"),
        ("Three dogs.", "Are there exactly three dogs in the picture?"),
        ("Several dogs.", "Are there several dogs in the picture?"),
        ("A group of zebras.", "Is there a group of zebras in the picture?"),
        ("A girl holds an apple.", "Does the girl hold the apple?"),
        ("The men have hats.", "Do the men have the hats?"),
        ("A girl is holding an apple.", "Is the girl holding the apple?"),
        ("A box made by a man.", "Is the box made by the man?"),
        ("Two men sitting next to each other.", "Are the men next to each other?"),
        ("A cat on an orange mat.", "Is there a mat in the picture?"),
    ],
)
def test_a_fact_is_asked_in_english(text, asked):
    assert asked in [question(fact) for fact in extract([text])[0].facts]
