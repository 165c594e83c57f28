"""An adapter that reads an LLM: the identity before training, the unconditional branch untouched, one pass a prompt."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sur_adapter.adapter import SURAdapter
from sur_adapter.attached_llm import llm_components
from sur_adapter.base_model import encode_text, load_base
from sur_adapter.cli import generate as generate_cli
from sur_adapter.llm import LLMReader, load_llm, revision
from sur_adapter.resampler import CONNECTORS, LLMAttachment, sinusoids
from sur_adapter.sampling.config import GenerateConfig
from sur_adapter.sampling.generate import generate, with_adapter
from sur_adapter.stable_diffusion import SURStableDiffusionPipeline, SURStableDiffusionXLPipeline
from sur_adapter.training.conditions import Conditioner
from sur_adapter.training.config import TrainConfig
from sur_adapter.training.data import open_data
from sur_adapter.training.trainer import train
from surd.schemas.errors import SurdError
from tests.sur_adapter.conftest import LLM_WIDTH, WIDTH, WORDS
from tests.sur_adapter.test_stable_diffusion import PROMPTS, QUIET, drawn, large

__all__ = ["large"]


@pytest.fixture(scope="session")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with random weights, as wide as the tiny build's column says."""
    folder = tmp_path_factory.mktemp("llm")
    vocabulary = {word: number for number, word in enumerate(["<unk>", "<end>", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="<end>").save_pretrained(folder)
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=LLM_WIDTH, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=4096,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def attached(llm: Path, *, trained: bool = True, width: int = WIDTH, **fields: Any) -> SURAdapter:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "width": width, "heads": 4, "feed_forward": 64, "eta": 1.0, "llm_width": LLM_WIDTH, "llm_role": "attach",
        "llm_model": str(llm), "llm_pooling": "all-layers", "llm_revision": revision(str(llm)), "queries": 4,
    }  # fmt: skip
    made = SURAdapter(**settings | fields).eval()
    if trained:
        assert made.attachment is not None
        for parameter in made.attachment.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return made


def piped(base: Path, adapter: SURAdapter | None) -> Any:
    pipe = with_adapter(load_base(str(base)), adapter)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@contextlib.contextmanager
def states_of(pipe: Any) -> Iterator[list[torch.Tensor]]:
    """The text states that the UNet itself gets at each step."""
    seen: list[torch.Tensor] = []
    block, forward = pipe.unet, pipe.unet.forward

    def watched(*args: Any, **options: Any) -> Any:
        seen.append(options["encoder_hidden_states"])
        return forward(*args, **options)

    block.forward = watched
    try:
        yield seen
    finally:
        block.forward = forward


@pytest.mark.parametrize("connector", CONNECTORS)
def test_before_training_a_picture_is_the_base_models_to_the_bit(base: Path, llm: Path, connector: Any) -> None:
    untrained = attached(llm, trained=False, connector=connector)
    np.testing.assert_array_equal(drawn(piped(base, untrained)), drawn(piped(base, None)))
    assert np.abs(drawn(piped(base, attached(llm, connector=connector))) - drawn(piped(base, None))).max() > 1e-3


@pytest.mark.parametrize("connector", CONNECTORS)
def test_padding_of_the_llm_changes_nothing(connector: Any) -> None:
    torch.manual_seed(0)
    attachment = LLMAttachment(WIDTH, LLM_WIDTH, connector, 2, 4)
    for parameter in attachment.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    states, llm, steps = torch.randn(2, 7, WIDTH), torch.randn(2, 5, LLM_WIDTH), torch.tensor([3, 900])
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    both = attachment(states, attachment.project(llm, mask), steps)
    alone = attachment(states[:1], attachment.project(llm[:1, :3], mask[:1, :3]), steps[:1])
    torch.testing.assert_close(both[:1], alone, atol=1e-5, rtol=1e-4)


def test_only_the_resampler_with_the_timestep_knows_it() -> None:
    for connector in CONNECTORS:
        torch.manual_seed(0)
        attachment = LLMAttachment(WIDTH, LLM_WIDTH, connector, 1, 4)
        for parameter in attachment.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        states, carried = torch.randn(1, 7, WIDTH), torch.randn(1, 5, WIDTH)
        early, late = (attachment(states, carried, torch.tensor([step])) for step in (900, 3))
        assert torch.allclose(early, late) == (connector != "timestep"), connector


def test_a_row_without_an_llm_gets_exactly_nothing_and_no_gradient_is_nan() -> None:
    torch.manual_seed(0)
    attachment = LLMAttachment(WIDTH, LLM_WIDTH, "mlp", 1, 4)
    torch.nn.init.normal_(attachment.join[-1].weight)
    mask = torch.tensor([[0, 0], [1, 1]])
    read = attachment(
        torch.randn(2, 7, WIDTH), attachment.project(torch.randn(2, 2, LLM_WIDTH), mask), torch.tensor([5])
    )
    assert not read[0].any() and read[1].any()
    read.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in attachment.parameters())


def test_sinusoids_tell_timesteps_apart() -> None:
    codes = sinusoids(torch.arange(1000), WIDTH)
    assert codes.shape == (1000, WIDTH) and torch.cdist(codes, codes).fill_diagonal_(9).min() > 1e-2


def test_the_unconditional_branch_is_the_base_models_own(base: Path, llm: Path) -> None:
    pipe = piped(base, attached(llm))
    with states_of(pipe) as seen:
        pipe(PROMPTS, negative_prompt=["blue", "sits"], num_inference_steps=3, guidance_scale=3.0, output_type="latent")
    own, _ = encode_text(pipe, ["blue", "sits"])
    conditional = torch.stack([states[2:] for states in seen])
    assert len(seen) == 3
    for states in seen:
        torch.testing.assert_close(states[:2], own, atol=0, rtol=0)
    assert (conditional[0] - conditional[-1]).abs().max() > 1e-4, "every step reads the LLM at its own timestep"


def test_a_prompt_goes_through_the_llm_once_and_its_embeddings_may_be_passed_again(base: Path, llm: Path) -> None:
    pipe, passes = piped(base, attached(llm)), []
    pipe.llm.register_forward_pre_hook(lambda *_: passes.append(1))
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    options: dict[str, Any] = {"num_inference_steps": 4, "output_type": "np", "latents": noise}
    whole = pipe(PROMPTS, **options).images
    assert len(passes) == len(PROMPTS)  # of unlike length, so one pass each, and none for a step
    positive, negative = pipe.encode_prompt(PROMPTS, "cpu", 1, True)
    assert positive.shape == negative.shape == (2, 16 + 64, WIDTH)
    again = pipe(prompt_embeds=positive, negative_prompt_embeds=negative, **options).images
    np.testing.assert_allclose(again, whole, atol=1e-5)
    alone = pipe(PROMPTS[:1], **options | {"latents": noise[:1]}).images
    np.testing.assert_allclose(alone, whole[:1], atol=1e-4)


def test_no_prompt_reads_nothing_as_in_training(base: Path, llm: Path) -> None:
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    options: dict[str, Any] = {"latents": noise, "num_inference_steps": 2, "output_type": "np"}
    empty, plain = (piped(base, adapter)("", **options).images for adapter in (attached(llm), None))
    np.testing.assert_array_equal(empty, plain)


def test_a_pipeline_of_ones_own_in_another_dtype_leaves_the_shared_llm_as_it_was(base: Path, llm: Path) -> None:
    SURStableDiffusionPipeline.from_pretrained(base, adapter=attached(llm), **QUIET).to(torch.bfloat16)
    assert next(llm_components(attached(llm))["llm"].parameters()).dtype == torch.float32


def test_strength_nought_is_no_adapter(base: Path, llm: Path) -> None:
    adapter = attached(llm)
    adapter.register_to_config(eta=0.0)
    np.testing.assert_allclose(drawn(piped(base, adapter)), drawn(piped(base, None)), atol=1e-6)


def test_it_is_saved_and_loaded_with_the_llm(base: Path, llm: Path, tmp_path: Path) -> None:
    pipe = SURStableDiffusionPipeline.from_pretrained(base, adapter=attached(llm), **QUIET)
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(tmp_path / "whole")
    again = SURStableDiffusionPipeline.from_pretrained(tmp_path / "whole", **QUIET)
    again.set_progress_bar_config(disable=True)
    np.testing.assert_allclose(drawn(again), drawn(pipe), atol=1e-5)
    pipe.to(torch.bfloat16)
    assert {p.dtype for part in (pipe.llm, pipe.adapter) for p in part.parameters()} == {torch.bfloat16}
    pipe.encode_prompt(PROMPTS, "cpu", 1, True)


def test_sdxl_reads_an_llm_too(large: Any, llm: Path) -> None:
    wide = with_adapter(large, attached(llm, width=2 * WIDTH))
    assert isinstance(wide, SURStableDiffusionXLPipeline)
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    pictures = []
    for pipe in (wide, with_adapter(large, None)):
        with states_of(pipe) as seen:
            pictures.append(pipe(PROMPTS, latents=noise.clone(), num_inference_steps=2, output_type="np").images)
        assert {states.shape for states in seen} == {(4, 16, 2 * WIDTH)}
    assert np.abs(pictures[0] - pictures[1]).max() > 1e-4


@pytest.mark.parametrize("role", ["attach", "both"])
def test_a_training_from_columns_loads_no_llm_and_draws_with_it(config: Any, build: Any, llm: Path, role: str) -> None:
    build.add_columns("tokens", "clip-simple", "clip-complex", "latents")
    settings: TrainConfig = config(llm_role=role, lr=1e-2, queries=4)
    result = train(
        settings, warn=lambda _: None
    )  # the column's model is called tiny: nothing by that name can be loaded
    assert result.llm == "tiny" and result.computed == []
    assert set(result.losses_last) == {"denoise", "prompt"} | ({"llm"} if role == "both" else set())
    saved = SURAdapter.from_pretrained(settings.out)
    assert (saved.config["llm_role"], saved.config["llm_pooling"], saved.config["llm_layer"]) == (role, "tokens", 2)
    assert saved.attachment is not None and saved.attachment.join[-1].weight.abs().max() > 0


def test_an_emptied_prompt_reads_nothing(config: Any, build: Any) -> None:
    build.add_columns("tokens", "clip-simple", "clip-complex", "latents")
    settings: TrainConfig = config(llm_role="attach", caption_dropout=0.5)
    data, base = open_data(settings)
    conditioner = Conditioner(settings, data, base, torch.device("cpu"), lambda _: None)
    torch.manual_seed(1)
    conditions = conditioner(next(iter(data.loader(batch_size=8, seed=0))))
    assert conditions.llm_mask_BL is not None and 0 < conditions.kept_B.sum() < 8
    assert torch.equal(conditions.llm_mask_BL.any(dim=1), conditions.kept_B)


def test_an_llm_is_run_at_every_step_where_no_column_has_its_states(config: Any, llm: Path) -> None:
    settings: TrainConfig = config(llm_role="attach", llm=str(llm), lr=1e-2, queries=4)
    result = train(settings, warn=lambda _: None)
    saved = SURAdapter.from_pretrained(settings.out)
    assert result.llm == str(llm) and saved.config["llm_pooling"] == "all-layers" and saved.config["llm_layer"] is None
    assert saved.llm_std.min() > 0 and not torch.equal(saved.llm_std, torch.ones(LLM_WIDTH))
    assert llm_components(saved)["llm"].config.hidden_size == LLM_WIDTH


def test_states_do_not_depend_on_the_batch(llm: Path) -> None:
    model, tokenizer = load_llm(str(llm))
    reader = LLMReader(model=model, tokenizer=tokenizer, layer=None, pooling="all-layers")
    states, mask = reader.states(["red cat", "two dog runs sits"], "cpu")
    assert states.shape == (2, 4, LLM_WIDTH) and mask.sum(1).tolist() == [2, 4] and not states[0, 2:].any()
    torch.testing.assert_close(reader.states(["red cat"], "cpu")[0], states[:1, :2])


def test_what_is_wrong_with_an_llm_is_one_sentence(base: Path, llm: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    model, tokenizer = load_llm(str(llm))
    LlamaForCausalLM(model.config).save_pretrained(other)
    tokenizer.save_pretrained(other)
    narrow = tmp_path / "narrow"
    LlamaForCausalLM(
        LlamaConfig(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    ).save_pretrained(narrow)
    tokenizer.save_pretrained(narrow)
    adapter = attached(llm)
    with pytest.raises(SurdError, match="is not the LLM that the adapter was trained with"):
        llm_components(adapter, str(other))
    with pytest.raises(SurdError, match="--llm: model '/no/such': there is no such folder"):
        llm_components(adapter, "/no/such")
    adapter.register_to_config(llm_revision=None)
    with pytest.raises(SurdError, match="its states are 8 wide, but the adapter reads 24"):
        with_adapter(load_base(str(base)), adapter, str(narrow))
    with pytest.raises(SurdError, match="has 5,000 tokens, and the LLM is given at most 1,024; shorten it"):
        piped(base, adapter).encode_prompt("red " * 5000, "cpu", 1, False)
    bare = load_base(str(base)).components
    with pytest.raises(SurdError, match=r"it reads the LLM .* and the pipeline has none"):
        SURStableDiffusionPipeline(**bare, adapter=adapter, requires_safety_checker=False)


def test_a_column_that_cannot_be_attached_is_named(config: Any, build: Any) -> None:
    with pytest.raises(SurdError, match=r"has no such column .* surd columns add --pooling all-layers"):
        train(config(llm_role="attach"), warn=lambda _: None)
    with pytest.raises(SurdError, match="it does not hold a vector for each token"):
        train(config(llm_role="attach", llm_column="llm-tiny-l2"), warn=lambda _: None)


def test_an_adapter_is_drawn_with_the_llm_it_names_or_with_the_same_one_elsewhere(
    base: Path, llm: Path, tmp_path: Path
) -> None:
    attached(llm, base_model=str(base)).save_pretrained(tmp_path / "adapter")
    moved = tmp_path / "moved"
    shutil.copytree(llm, moved)
    pictures = []
    for number, where in enumerate((None, str(moved))):
        out = tmp_path / f"{number}.png"
        generate(GenerateConfig(adapter=tmp_path / "adapter", prompt=["red cat"], out=out, steps=2, llm=where))
        pictures.append(np.asarray(Image.open(out), np.int16))
    assert np.abs(pictures[0] - pictures[1]).max() <= 2


def test_the_command_says_it_in_one_line_and_ends_with_2(
    base: Path, llm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = attached(llm, llm_model="/gone/llm", base_model=str(base))
    adapter.save_pretrained(tmp_path / "adapter")
    command = ["sur-generate", "--adapter", str(tmp_path / "adapter"), "--prompt", "red cat"]
    monkeypatch.setattr(sys, "argv", [*command, "--out", str(tmp_path / "one.png")])
    with pytest.raises(SystemExit) as ended:
        generate_cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "Traceback" not in said
    assert said.splitlines()[-1].startswith("error: --llm: model '/gone/llm': there is no such folder or file")
