"""A sentence is read as the facts that it states, each with the characters that state it."""

import pytest

from surd.pipeline.facts.parse import extract
from surd.schemas import SurdError
from surd.schemas.config import FactsConfig


def facts(text):
    return {(f.kind, f.of, f.value, f.to) for f in extract([text])[0].facts}


def test_a_sentence_is_things_their_attributes_counts_relations_and_actions():
    assert facts("Two brown dogs are chasing a red ball in front of a house.") >= {
        ("entity", "dogs", "", None),
        ("count", "dogs", "Two", None),
        ("attribute", "dogs", "brown", None),
        ("entity", "ball", "", None),
        ("attribute", "ball", "red", None),
        ("action", "dogs", "chasing", "ball"),
        ("entity", "house", "", None),
    }


def test_a_missing_parser_is_one_sentence():
    with pytest.raises(SurdError, match=r"facts\.parser is 'gone'"):
        extract(["a cat"], FactsConfig(parser="gone"))
