"""The LLM in process: a prefix is read once, a row's answer is its own, and few-shot prefixes cost nothing to keep."""

import pytest
import torch

from surd.pipeline.models.llm import _STEP as STEP
from surd.pipeline.models.llm import LLM
from tests.flows.tiny_llm import save_tiny_llm

HEAD = [
    {"role": "system", "content": "the red box on the table"},
    {"role": "user", "content": "a dog"},
    {"role": "assistant", "content": "three dog on the blue"},
]
OTHER_HEAD = [{"role": "system", "content": "white table"}, {"role": "user", "content": "box"}]
LAST = ["red", "a the on white dog table table", "box", "dog on dog on", "", "blue three dog table white"]
CHATS = [[*HEAD, {"role": "user", "content": text}] for text in LAST]
MIXED = [
    *CHATS,
    *([*OTHER_HEAD, {"role": "user", "content": text}] for text in LAST),
    [{"role": "user", "content": ""}],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save_tiny_llm(tmp_path_factory.mktemp("llm") / "tiny"))


@pytest.fixture
def llm(folder):
    return LLM(folder, "cpu", "float32")


@pytest.fixture
def lengths(llm, monkeypatch):
    """How many tokens the model was given at each call."""
    seen = []
    hook = llm._model.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    yield seen
    hook.remove()


@pytest.mark.parametrize("how", [{}, {"temperature": 1.0, "seed": 3}, {"batch_size": 2}], ids=str)
def test_a_kept_prefix_gives_the_same_answers_as_reading_everything(llm, folder, how):
    whole = LLM(folder, "cpu", "float32", prefixes=0)
    assert llm.replies(MIXED, 12, **how) == whole.replies(MIXED, 12, **how)


def test_a_prefix_is_read_once_for_all_batches(llm, lengths):
    head, chats = len(llm._tokens(HEAD)), [chat for chat in CHATS if chat[-1]["content"]]
    llm.replies(chats, 4, batch_size=2)
    assert lengths.count(head) == 1, "once by itself, whatever the number of batches"
    llm.replies(chats, 4, batch_size=2)
    assert lengths.count(head) == 1, "and not again"
    assert max(length for length in lengths if length != head) == STEP, "the least that a row is padded to"


def test_a_kept_prefix_is_not_changed_by_the_batches_that_grow_it(llm):
    assert llm.replies(CHATS, 12) == llm.replies(CHATS, 12) == llm.replies(CHATS[::-1], 12, batch_size=1)[::-1]


def test_the_prefix_used_longest_ago_is_forgotten(folder):
    small = LLM(folder, "cpu", "float32", prefixes=1)
    small.replies(MIXED, 2)
    assert len(small._prefixes._kept) == 1


def test_a_sample_depends_on_the_chat_and_the_seed_alone(llm):
    torch.manual_seed(1)
    sampled = llm.answer(CHATS, 12, temperature=1.5, seed=7)
    torch.manual_seed(2)
    assert [llm.answer([chat], 12, temperature=1.5, seed=7)[0] for chat in CHATS] == sampled
    assert llm.answer(CHATS, 12, temperature=1.5, seed=8) != sampled
    assert llm.answer(CHATS, 12) != sampled


def test_an_answer_that_stops_at_the_token_limit_says_so(llm):
    assert {reply.cut for reply in llm.replies(CHATS, 3)} == {True}


def test_no_chats_are_no_answers(llm):
    assert llm.answer([], 8) == []
