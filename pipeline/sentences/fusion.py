"""Turns two sentences about one picture into one sentence that says what both say, by asking the LLM."""

from __future__ import annotations

from collections.abc import Sequence

from surd.pipeline.models.chat import ChatModel, Message
from surd.pipeline.sentences.plain_sentence import plain_sentence

_SYSTEM = "You join two descriptions of one picture into one short plain English sentence. Add nothing of your own."
_EXAMPLES = (
    ("A girl holds apples. / Three apples, white dress.", "A girl in a white dress holds three apples."),
    (
        "Two dogs on a green background. / A pencil sketch of dogs.",
        "A pencil sketch of two dogs on a green background.",
    ),
    ("A boy in front of a blue background. / A boy is swimming.", "A boy is swimming in front of a blue background."),
)
_MAX_NEW_TOKENS = 40


def fusions(llm: ChatModel, pairs: Sequence[tuple[str, str]]) -> list[str | None]:
    """One sentence for each pair of sentences; None where the answer is no plain sentence."""
    joined = [f"{first} / {second}" for first, second in pairs]
    distinct = sorted(set(joined))
    answers = llm.answer([_chat(text) for text in distinct], _MAX_NEW_TOKENS)
    fused = {text: _joined(raw) for text, raw in zip(distinct, answers, strict=True)}
    return [fused[text] for text in joined]


def _joined(answer: str | None) -> str | None:
    """The answer as one sentence; None where it is none, copies an example, or merely sets both side by side."""
    sentence = plain_sentence(answer) if answer else None
    if not sentence or any(sentence == example for _, example in _EXAMPLES):
        return None
    words = sentence.lower().split()
    triples = [tuple(words[at : at + 3]) for at in range(len(words) - 2)]
    return sentence if len(set(triples)) == len(triples) else None


def _chat(sentences: str) -> list[Message]:
    messages = [{"role": "system", "content": _SYSTEM}]
    for both, one in _EXAMPLES:
        messages += [{"role": "user", "content": both}, {"role": "assistant", "content": one}]
    return [*messages, {"role": "user", "content": sentences}]
