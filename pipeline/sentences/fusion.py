"""Fusion by the LLM: two sentences about one picture become one that states the facts of both."""

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
    """One sentence for each pair of sentences; None if the answer is not a plain sentence."""
    requests = [f"{first} / {second}" for first, second in pairs]
    distinct = sorted(set(requests))
    answers = llm.answer([_chat(text) for text in distinct], _MAX_NEW_TOKENS)
    fused = {text: _checked(answer) for text, answer in zip(distinct, answers, strict=True)}
    return [fused[text] for text in requests]


def _checked(answer: str | None) -> str | None:
    """The answer as one sentence; None if it is not one, copies an example, or only repeats both side by side."""
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
