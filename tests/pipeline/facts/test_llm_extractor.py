"""An LLM may be asked for the facts; what it says is checked against the text, and the parser reads the rest."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surd.pipeline.facts.llm_extractor import UnusableFacts, read_facts, read_facts_template
from surd.pipeline.facts.parse import extract
from surd.pipeline.models import Models
from surd.schemas import SurdError, load_config
from surd.schemas.config import FactsConfig
from tests.fuzz import FUZZED

pytest_plugins = ["tests.pipeline.served"]
TEXT = "Two white dogs are holding apples in front of a house."
LLM = FactsConfig(extractor="llm")


def test_facts_are_located_up_to_inflection():
    lines = ["entity | dog", "count | dogs | 2", "action | dog | hold | apples"]
    facts = read_facts("\n".join([*lines, "relation | dogs | in front of | house", "!entity | house"]), TEXT)
    assert [(f.kind, f.of, f.value, f.to, f.negated) for f in facts] == [
        ("entity", "dogs", "", None, False), ("count", "dogs", "Two", None, False),
        ("action", "dogs", "holding", "apples", False), ("relation", "dogs", "in front of", "house", False),
        ("entity", "house", "", None, True),
    ]  # fmt: skip
    assert [TEXT[f.start : f.end] for f in facts[1:4]] == ["Two", "holding", "in front of"]
    assert {TEXT[f.of_start : f.of_end] for f in facts[:4]} == {"dogs"}


def test_facts_that_the_text_does_not_state_are_left_out():
    facts = read_facts("entity | dogs\nattribute | dogs | white\nentity | house\nentity | cat", TEXT)
    assert {f.of for f in facts} == {"dogs", "house"}


@pytest.mark.parametrize(
    "answer",
    ["", "I see two dogs.", "thing | dogs", "entity", "entity | cat", "attribute | dogs", "relation | dogs | in | ",
     "entity | dogs\nentity | cat", "style | | oil painting"],
)  # fmt: skip
def test_an_answer_that_is_no_list_of_facts_cannot_be_used(answer):
    with pytest.raises(UnusableFacts):
        read_facts(answer, TEXT)


@pytest.mark.fuzz
@FUZZED
@given(st.text(max_size=200), st.text(alphabet="entiyrlao |!\nabc2", max_size=80))
def test_any_answer_is_facts_within_the_text_or_cannot_be_used(text, answer):
    try:
        facts = read_facts(answer, text)
    except UnusableFacts:
        return
    assert all(0 <= fact.start <= fact.end <= len(text) for fact in facts)


def test_the_llm_is_asked_and_the_parser_reads_what_it_cannot_answer(serve, no_waiting, tmp_path):
    def answer(request):
        question = json.loads(request.body)["messages"][-1]["content"]
        said = "entity | cat\nattribute | cat | red" if "red cat" in question else "I cannot do that."
        message = {"message": {"content": said}, "finish_reason": "stop"}
        request.send(200, json.dumps({"choices": [message]}).encode())

    server = serve(answer)
    values = {"cache": str(tmp_path / "answers.sqlite"), "timeout": 5}
    models = Models(load_config({}, {"models.llm": f"openai:{server.url}/v1#tiny", "models.server": values}).models)
    by_llm, by_parser, empty = extract(["a red cat", "two dogs", " "], LLM, models.llm)
    assert [(f.kind, f.of, f.value) for f in by_llm.facts] == [("entity", "cat", ""), ("attribute", "cat", "red")]
    assert by_llm.doc is not None and by_llm.why is None
    assert [(f.kind, f.of, f.value) for f in by_parser.facts] == [("entity", "dogs", ""), ("count", "dogs", "two")]
    assert by_parser.doc is not None and "not a fact" in by_parser.why
    assert empty.facts == ()
    assert len(server.requests) == 2


def test_without_an_llm_to_ask_it_is_one_sentence():
    with pytest.raises(SurdError, match=r"facts\.extractor is 'llm'"):
        extract(["a cat"], LLM)


@pytest.mark.parametrize("content", ["version: 2", "[", "version: 1\nsystem: s\nask: nothing", "version: 1\nmore: 2"])
def test_a_faulty_template_is_one_sentence(tmp_path, content):
    file = tmp_path / "template.yaml"
    file.write_text(content)
    with pytest.raises(SurdError, match=r"facts\.template is"):
        read_facts_template(str(file))
    with pytest.raises(SurdError, match=r"cannot be read"):
        read_facts_template(str(tmp_path / "gone.yaml"))
