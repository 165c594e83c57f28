"""Facts that name a person are told apart, so that nobody is taken for somebody else."""

from surd.pipeline.facts.parse import extract
from surd.pipeline.facts.people import names_person, people_of
from surd.schemas.config import FactsConfig

PARSER = FactsConfig().parser


def named(text):
    (sentence,) = extract([text])
    (people,) = people_of([sentence], PARSER)
    return {fact.of for fact in sentence.facts if names_person(fact, people)}


def test_a_person_is_known_by_name_and_a_place_or_a_thing_is_not():
    assert named("Barack Obama is shaking hands with a man near London.") == {"Barack Obama"}
    assert named("A red car in New York.") == set()
    assert named("A man is shaking hands.") == set()


def test_texts_without_proper_nouns_are_not_read_again(monkeypatch):
    monkeypatch.setattr("surd.pipeline.facts.people._recognizer", lambda parser: 1 / 0)
    assert people_of(extract(["A dog.", "Two cats on a couch."]), PARSER) == [[], []]
    assert people_of([], PARSER) == []


def test_without_recognition_two_proper_nouns_in_a_row_count_as_a_person(monkeypatch):
    monkeypatch.setattr("surd.pipeline.facts.people._recognizer", lambda parser: None)
    assert named("A photo of Taylor Swift on a stage.") == {"Taylor Swift"}
