"""Answers are cleaned in a time that grows with their length and no faster."""

import time

import pytest

from surd.pipeline.models.answer_text import plain_text, without_thoughts

ODD = ["<think>", "</think", "</think>", "<think></", "<", "\x1b[", "<think>a</thought>"]


@pytest.mark.parametrize("part", ODD)
def test_a_longer_answer_takes_longer_in_proportion(part):
    def seconds(count):
        text, best = part * count, 9.0
        for _ in range(3):
            started = time.perf_counter()
            plain_text(without_thoughts(text))
            best = min(best, time.perf_counter() - started)
        return best

    seconds(1000)
    assert seconds(320_000) < 100 * max(seconds(20_000), 0.002), "16 times the text; 256 would be quadratic"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>a cat?</think>\n\nA cat sits.", "A cat sits."),
        ("a cat?</think> A cat sits.", "A cat sits."),
        ("<thinking>x</thinking>A cat.<think>y", "A cat."),
        ("<think></think>", ""),
        ("A cat <thinks>.", "A cat <thinks>."),
    ],
)
def test_thoughts_are_cut_off(text, answer):
    assert plain_text(without_thoughts(text)) == answer
