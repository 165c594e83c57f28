"""rewrite keeps an LLM's answer only when it is one plain sentence of its own."""

import pytest

from pipeline.rewrite import _EXAMPLES, chat, plain_sentence


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ("a cat sits on a mat", "A cat sits on a mat."),
        ('"A cat sits on a mat." It is red.', "A cat sits on a mat."),
        ("A cat sits.\nAnother line", "A cat sits."),
        ("", None),
        ("   \n", None),
        ("cat", None),
        ("cat, dog, bird, 8k, hdr", None),
        ("word " * 80, None),
        (_EXAMPLES[0][1], None),
    ],
)
def test_an_answer_becomes_a_sentence_or_nothing(answer, sentence):
    assert plain_sentence(answer) == sentence


def test_the_prompt_to_rewrite_comes_last_and_is_bounded():
    messages = chat("x" * 100_000)
    assert messages[-1]["role"] == "user"
    assert 0 < len(messages[-1]["content"]) <= 600
