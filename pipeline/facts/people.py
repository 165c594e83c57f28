"""Which facts name a person: those are neither exchanged for others nor asked of a model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from surd.pipeline.facts.fact import Fact
from surd.pipeline.facts.parse import Sentence

_PROPER = ("NNP", "NNPS")
_ONLY_NAMES = ("tagger", "parser", "senter", "lemmatizer", "attribute_ruler", "textcat", "entity_linker")


def names_person(fact: Fact, people: Sequence[tuple[int, int]]) -> bool:
    """Whether what a fact is about, or leads to, is called by the name of a person (``people``: ``people_of``)."""
    for start, end in people:
        if fact.of_start >= 0 and start < fact.of_end and fact.of_start < end:
            return True
        if fact.kind in ("entity", "attribute") and fact.start >= 0 and start < fact.end and fact.start < end:
            return True
    return False


def people_of(sentences: Sequence[Sentence], parser: str) -> list[list[tuple[int, int]]]:
    """For each text the characters of the names of people in it.

    The named entity recognition of the pipeline ``parser`` reads the texts that have a proper noun; where it has
    none, two proper nouns in a row count as a person's name, so that no person is missed.
    """
    found: list[list[tuple[int, int]]] = [[] for _ in sentences]
    proper = [number for number, sentence in enumerate(sentences) if _has_proper_noun(sentence)]
    if not proper:
        return found
    recognizer = _recognizer(parser)
    if recognizer is None:
        for number in proper:
            found[number] = _rows_of_proper_nouns(sentences[number].doc)
        return found
    docs = recognizer.pipe([sentences[number].text for number in proper], batch_size=128)
    for number, doc in zip(proper, docs, strict=True):
        found[number] = [
            (entity.start_char, entity.end_char) for entity in doc.ents if entity.label_ in ("PERSON", "PER")
        ]
    return found


def _has_proper_noun(sentence: Sentence) -> bool:
    return sentence.doc is not None and any(token.tag_ in _PROPER for token in sentence.doc)


def _rows_of_proper_nouns(doc: Any) -> list[tuple[int, int]]:
    rows = []
    row: list[Any] = []
    for token in [*doc, None]:
        if token is not None and token.tag_ in _PROPER:
            row.append(token)
            continue
        if len(row) > 1:
            rows.append((row[0].idx, row[-1].idx + len(row[-1])))
        row = []
    return rows


@cache
def _recognizer(parser: str) -> Any:
    """The part of a pipeline that finds names; None if it has none."""
    import spacy  # only here: it takes a second

    nlp = spacy.load(parser, exclude=list(_ONLY_NAMES))
    return nlp if "ner" in nlp.pipe_names else None
