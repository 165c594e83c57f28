"""The probe of what an LLM knows, on states whose facts are known and on a tiny LLM."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sur_adapter.llm import shared_llm
from surd.pretrained.hidden_states import HiddenStates
from tests.bench.llm_knowledge import FACTS, TIERS, mean_states, sentences, share_right, table
from tests.flows.tiny_llm import save_tiny_llm


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> HiddenStates:
    folder: Path = save_tiny_llm(tmp_path_factory.mktemp("llm"))
    return HiddenStates(*shared_llm(str(folder)), "cpu")


def test_a_fact_that_the_states_hold_is_named_and_one_that_they_do_not_is_not() -> None:
    torch.manual_seed(0)
    colours = [("red", "green", "blue")[row % 3] for row in range(600)]
    states = torch.randn(600, 16)
    states[:, 0] += torch.tensor([8.0 * (colour == "red") for colour in colours])
    states[:, 1] += torch.tensor([8.0 * (colour == "blue") for colour in colours])
    facts = [{"background": colour} for colour in colours]
    assert share_right(states[:300], facts[:300], states[300:], facts[300:], "background") > 0.95
    noise = torch.randn(600, 16)
    assert share_right(noise[:300], facts[:300], noise[300:], facts[300:], "background") < 0.5


def test_sentences_of_another_kind_of_fact_or_an_unknown_value_are_not_asked() -> None:
    states = torch.randn(4, 3)
    facts = [{"tint": "red"}, {"tint": "blue"}, {"tint": "red"}, {"tint": "blue"}]
    asked = [{"tint": "red"}, {"count": "2"}, {"tint": "mauve"}, {"count": "1"}]
    assert share_right(states, facts, states, asked, "tint") == 1.0


def test_the_table_has_every_layer_tier_and_fact(llm: HiddenStates) -> None:
    lines = table(llm, count=60, tested=20).splitlines()
    assert lines[0].count("|") == len(TIERS) * len(FACTS) + 2
    assert lines[2].startswith("| 0 |") and lines[-1].startswith("| mean over all |")


def test_states_are_the_mean_over_the_tokens_of_a_text(llm: HiddenStates) -> None:
    texts = sentences(7000, 3).texts
    together, alone = mean_states(llm, texts, [0, None]), mean_states(llm, texts[1:2], [0, None])
    for layer in (0, None):
        torch.testing.assert_close(together[layer][1], alone[layer][0], atol=1e-4, rtol=1e-3)
