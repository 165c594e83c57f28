"""Hidden states are those of the bare model: whatever the batch, the layers, the pooling and the kind of model."""

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from surd.pipeline.models import Models
from surd.pretrained.hidden_states import HiddenStates, batches
from surd.schemas.config import ModelsConfig
from tests.flows.tiny_llm import save_tiny_llm

TEXTS = ["a red box", "the dog", "three", "a white dog on the red table of the blue box", "", "the dog on a box"]
SMALL = {"vocab_size": 13, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
KINDS = {
    "llama": None,
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=13, n_embd=16, n_layer=3, n_head=2, n_positions=32)),
    "gpt_neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SMALL, intermediate_size=32)),
    "opt": lambda: OPTForCausalLM(OPTConfig(**SMALL, ffn_dim=32, word_embed_proj_dim=16, max_position_embeddings=64)),
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(save_tiny_llm(tmp_path_factory.mktemp("llm") / "tiny"))
    tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


@pytest.fixture(params=KINDS)
def model(request, tmp_path):
    torch.manual_seed(0)
    make = KINDS[request.param]
    return (make() if make else AutoModelForCausalLM.from_pretrained(save_tiny_llm(tmp_path))).eval()


def bare(model, row):
    """Layer -> [tokens, width] of one prompt alone, as transformers gives it."""
    with torch.inference_mode():
        return [state[0] for state in model(torch.tensor([row]), output_hidden_states=True).hidden_states]


def pooled(states, pooling):
    return {"tokens": states, "last": states[-1], "mean": states.mean(0)}[pooling]


def test_every_layer_and_pooling_is_the_bare_models_own(model, tokenizer):
    reader = HiddenStates(model, tokenizer, "cpu")
    wanted = [(layer, pooling) for layer in range(reader.depth + 1) for pooling in ("mean", "last", "tokens")]
    rows = reader.tokens(TEXTS)
    found = dict(reader.read(TEXTS, wanted, 16))
    assert sorted(found) == list(range(len(TEXTS)))
    for at, states in found.items():
        expected = bare(model, rows[at])
        for layer, pooling in wanted:
            torch.testing.assert_close(states[layer, pooling], pooled(expected[layer], pooling), atol=1e-5, rtol=1e-4)


def test_the_mean_over_all_layers_is_of_each_normalised(model, tokenizer):
    reader = HiddenStates(model, tokenizer, "cpu")
    rows = reader.tokens(TEXTS)
    for at, states in reader.read(TEXTS, [(None, "all-layers"), (1, "tokens")], 16):
        layers = torch.stack(bare(model, rows[at]))
        expected = torch.nn.functional.layer_norm(layers, layers.shape[-1:]).mean(0)
        torch.testing.assert_close(states[None, "all-layers"], expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(states[1, "tokens"], layers[1], atol=1e-5, rtol=1e-4)


def test_layers_above_the_highest_wanted_are_not_computed(model, tokenizer):
    reader = HiddenStates(model, tokenizer, "cpu")
    ran = []
    for number, layer in enumerate(reader._layers):
        layer.register_forward_hook(lambda *_, number=number: ran.append(number))
    model.get_output_embeddings().register_forward_hook(lambda *_: ran.append("head"))
    ((_, states),) = reader.read(["the dog"], [(0, "mean"), (1, "mean")], 64)
    assert ran == [0] and set(states) == {(0, "mean"), (1, "mean")}
    list(reader.read(["the dog"], [(reader.depth, "mean")], 64))
    assert ran == [0, *range(reader.depth)]


def test_nothing_stays_hooked_to_the_model(model, tokenizer):
    reader = HiddenStates(model, tokenizer, "cpu")
    list(reader.read(TEXTS, [(1, "mean")], 16))
    assert not any(layer._forward_pre_hooks for layer in reader._layers)


def test_batches_keep_to_their_budget_with_padding_counted_and_hold_each_row_once():
    random = np.random.default_rng(0)
    rows = [random.integers(9, size=length).tolist() for length in random.integers(1, 40, size=200)]
    found = list(batches(rows, 128))
    assert sorted(at for batch in found for at in batch) == list(range(200))
    assert all(len(batch) * max(len(rows[at]) for at in batch) <= 128 for batch in found)
    padded = sum(len(batch) * max(len(rows[at]) for at in batch) for batch in found)
    assert padded <= 1.1 * sum(map(len, rows))
    assert list(batches([[1] * 500], 128)) == [[0]]


@pytest.mark.parametrize(
    ("features", "dtype"),
    [
        ({}, "float32"),
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
        ({"bf16": True}, "bfloat16"),
    ],
)
def test_auto_is_bfloat16_only_where_the_processor_computes_in_it(monkeypatch, features, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    assert Models(ModelsConfig(device="cpu")).dtype_of("llm") == dtype
    assert Models(ModelsConfig(device="cpu", dtype="float16")).dtype_of("llm") == "float16"


def test_prompts_longer_than_the_model_are_cut(tokenizer):
    model = KINDS["gpt2"]().eval()
    ((_, states),) = HiddenStates(model, tokenizer, "cpu").read(["dog " * 100], [(2, "tokens")], 1024)
    assert states[2, "tokens"].shape == (32, 16)
