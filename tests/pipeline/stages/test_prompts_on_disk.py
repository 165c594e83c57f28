"""Prompts on disk, compared a group at a time, have the duplicates that all of them in memory have."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from surd.pipeline.deduplication.minhash import PromptDuplicate, PromptTable, find_prompt_duplicates
from surd.pipeline.tables import Documents, Tables


def prompts_of(count: int) -> list[frozenset[str]]:
    """Sets of words, of which some are others with a word changed, and some are others again."""
    rng = random.Random(count)
    prompts: list[frozenset[str]] = []
    for number in range(count):
        if number % 3 == 2:
            words = sorted(rng.choice(prompts))
            prompts.append(frozenset(words[number % 2 :] + [f"changed {number}"] * (number % 2)))
        else:
            prompts.append(frozenset(f"word {rng.randrange(400)}" for _ in range(20)))
    return prompts


@pytest.mark.parametrize("count", [0, 1, 900])
def test_prompts_on_disk_have_the_duplicates_of_prompts_in_memory(tmp_path: Path, count: int) -> None:
    prompts = prompts_of(count)
    with Tables(tmp_path) as tables, Documents(tables.file("sets")) as sets:
        table = PromptTable(tables, sets)
        with tables.writing("prompts", PromptTable.SCHEMA) as writer:
            for start in range(0, count, 100):
                some = prompts[start : start + 100]
                for entry in table.entries(range(start, start + len(some)), some):
                    writer.add(entry)
        found = dict(table.duplicates(0.85))
        first_of = {row["row"]: row["first"] for row in tables.rows("equals")}
    expected = find_prompt_duplicates(prompts, 0.85)
    assert [found.get(first_of[row], PromptDuplicate(first_of[row], 1.0)) for row in range(count)] == expected
    assert count < 2 or sum(duplicate.row != row for row, duplicate in enumerate(expected)) > count / 4
