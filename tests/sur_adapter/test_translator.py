"""An adapter that writes prompts: the identity before training, what it learns, and that what it writes is drawn."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sur_adapter.adapter import SURAdapter
from sur_adapter.base_model import encode_text, load_base
from sur_adapter.cli import generate as generate_cli
from sur_adapter.cli import train as train_cli
from sur_adapter.sampling.generate import with_adapter
from sur_adapter.training.config import TrainConfig
from sur_adapter.training.state import TrainState
from sur_adapter.training.trainer import train
from sur_adapter.translator import MOST_WRITTEN, PromptTokens, PromptTranslator
from surd.schemas.errors import SurdError
from tests.sur_adapter.conftest import LLM_WIDTH, WIDTH, WORDS
from tests.sur_adapter.test_attach import attached, large, llm, piped
from tests.sur_adapter.test_stable_diffusion import PROMPTS, drawn

__all__ = ["large", "llm"]


def translating(base: Path, llm: Path, *, trained: bool = True, **fields: Any) -> SURAdapter:
    """An adapter that translates, its weights random where it is ``trained``."""
    tokens = PromptTokens(load_base(str(base)).tokenizer)
    settings: dict[str, Any] = {
        "llm_role": "translate", "translator_width": 32, "vocabulary": tokens.vocabulary, "prompt_start": tokens.start,
        "prompt_end": tokens.end, "base_model": str(base),
    }  # fmt: skip
    made = attached(llm, trained=False, **settings | fields)
    if trained:
        assert made.translator is not None
        made.translator.compare.num_batches_tracked += 1
        torch.nn.init.normal_(made.translator.head.weight, std=1.0)
    return made


def test_before_training_a_picture_is_the_base_models_to_the_bit(base: Path, llm: Path) -> None:
    pipe = piped(base, translating(base, llm, trained=False))
    assert pipe.translate(PROMPTS) == PROMPTS
    np.testing.assert_array_equal(drawn(pipe), drawn(piped(base, None)))


def test_what_is_written_is_what_is_drawn_and_no_prompt_stays_none(base: Path, llm: Path) -> None:
    pipe, plain = piped(base, translating(base, llm)), piped(base, None)
    written = pipe.translate(PROMPTS)
    assert written != PROMPTS and pipe.translate(PROMPTS[0]) == written[:1]
    states, negative = pipe.encode_prompt([*PROMPTS, ""], "cpu", 1, True)
    torch.testing.assert_close(states[:-1], encode_text(plain, written)[0])
    empty = encode_text(plain, [""])[0]
    torch.testing.assert_close(states[-1:], empty)
    assert torch.equal(negative, plain.encode_prompt([*PROMPTS, ""], "cpu", 1, True)[1])
    with pytest.warns(UserWarning, match="prompt_embeds are used as they are"):
        assert torch.equal(pipe.encode_prompt(None, "cpu", 1, False, prompt_embeds=states)[0], states)
    pipe.adapter.register_to_config(eta=0)
    assert pipe.translate(PROMPTS) == PROMPTS


def test_sdxl_encodes_what_is_written_with_both_encoders(large: Any, llm: Path) -> None:
    base = Path(large.unet.config["_name_or_path"]).parent if large.unet.config.get("_name_or_path") else None
    tokens = PromptTokens(large.tokenizer)
    fields = {"vocabulary": tokens.vocabulary, "prompt_start": tokens.start, "prompt_end": tokens.end}
    adapter = attached(
        llm, trained=False, width=2 * WIDTH, llm_role="translate", translator_width=32, base_model=str(base), **fields
    )
    assert adapter.translator is not None
    adapter.translator.compare.num_batches_tracked += 1
    torch.nn.init.normal_(adapter.translator.head.weight, std=1.0)
    wide, plain = with_adapter(large, adapter), with_adapter(large, None)
    written = wide.translate(PROMPTS)
    for ours, theirs in zip(
        wide.encode_prompt(PROMPTS, device="cpu"), plain.encode_prompt(written, device="cpu"), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    own = wide.encode_prompt(PROMPTS, PROMPTS, device="cpu")[0]
    torch.testing.assert_close(own, plain.encode_prompt(written, PROMPTS, device="cpu")[0])


def translator() -> PromptTranslator:
    torch.manual_seed(0)
    made = PromptTranslator(LLM_WIDTH, 20, 1, 32, 2, 0.2).eval()
    made.compare.num_batches_tracked += 1
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def test_neither_padding_nor_what_comes_later_counts() -> None:
    made, llm_states = translator(), torch.randn(2, 5, LLM_WIDTH)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    prompt = torch.tensor([[0, 4, 5, 6], [0, 7, 8, 9]])
    both = made(llm_states, mask, prompt)
    torch.testing.assert_close(both[:1], made(llm_states[:1, :3], mask[:1, :3], prompt[:1]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(both[:, :2], made(llm_states, mask, prompt[:, :2]), atol=1e-4, rtol=1e-4)
    assert made.write(llm_states, mask, 0)[:1] == made.write(llm_states[:1, :3], mask[:1, :3], 0)


def test_a_prompt_that_never_ends_is_cut() -> None:
    made = translator()
    with torch.no_grad():
        made.head.bias[1] = -1e6
    rows = made.write(torch.randn(1, 2, LLM_WIDTH), torch.ones(1, 2), 0)
    assert [len(row) for row in rows] == [MOST_WRITTEN - 1]


def test_tokens_go_there_and_back_and_nothing_is_said_twice(base: Path) -> None:
    tokens = PromptTokens(load_base(str(base)).tokenizer)
    rows, mask = tokens.encode([" ".join(WORDS[:3]), WORDS[0], " ".join(WORDS[:1] * 500)])
    letters = sum(map(len, WORDS[:3]))  # the tiny tokenizer knows letters alone
    assert rows.shape == (3, MOST_WRITTEN) and mask.sum(1).tolist() == [letters + 2, len(WORDS[0]) + 2, MOST_WRITTEN]
    assert set(rows[:, 0].tolist()) == {tokens.start} and rows[2, -1] == tokens.end
    assert tokens.decode([rows[0, 1 : letters + 1].tolist(), []]) == [" ".join(WORDS[:3]), ""]

    class Keywords:
        def batch_decode(self, rows: list[Any], **_: Any) -> list[str]:
            return ["2 cats , 8k , newest , 8k ,", "a cat"]

    assert PromptTokens(Keywords()).decode([[0], [1]]) == ["2 cats, 8k, newest", "a cat"]


def test_it_learns_to_say_sentences_in_the_words_of_the_complex_prompts(config: Any, build: Any, llm: Path) -> None:
    settings: TrainConfig = config(
        llm_role="translate", llm=str(llm), lr=1e-2, steps=120, batch_size=6, dropout=0.0, translator_width=32,
        checkpoint_every=0,
    )  # fmt: skip
    result = train(settings, warn=lambda _: None)
    assert result.losses_last["translation"] < 0.3 * result.losses_first["translation"]
    pipe = piped(build.base, SURAdapter.from_pretrained(settings.out))
    simple = [" ".join(WORDS[(start + j) % len(WORDS)] for j in range(3)) for start in range(6)]
    ids = pipe.tokenizer(pipe.translate(simple)).input_ids  # CLIP's tokenizer gives 8k back as 8 k
    assert ids == pipe.tokenizer([f"{text} masterpiece 8k sharp" for text in simple]).input_ids


def test_a_training_from_columns_needs_neither_llm_nor_unet_and_is_resumed_exactly(
    config: Any, build: Any, tmp_path: Path
) -> None:
    build.add_columns("tokens")
    fields = {"llm_role": "translate", "checkpoint_every": 2, "translator_width": 32, "lr_schedule": "constant"}
    whole: TrainConfig = config(**fields)
    state = TrainState.prepare(whole, lambda _: None)
    assert state.conditioner.pipe.unet is None and state.conditioner.computed == []
    result = train(whole, warn=lambda _: None)
    assert result.llm == "tiny" and set(result.losses_last) == {"translation"}
    for steps in (2, 4):
        resumed = train(config(**fields, steps=steps, out=tmp_path / "resumed"), warn=lambda _: None)
    assert resumed.resumed_from == 2
    weights = [SURAdapter.from_pretrained(out).state_dict() for out in (whole.out, tmp_path / "resumed")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_what_does_not_fit_is_one_sentence(
    config: Any, build: Any, base: Path, llm: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SurdError, match="--w-denoise: is 1, but --llm-role translate has a loss of its own"):
        train(config(llm_role="translate", w_denoise=1.0), warn=lambda _: None)
    with pytest.raises(SurdError, match="--batch-size: is 1, but --llm-role translate compares"):
        train(config(llm_role="translate", batch_size=1), warn=lambda _: None)
    with pytest.raises(SurdError, match="--objective: the authors' adapter does not translate"):
        train(config(llm_role="translate", objective="authors", w_prompt=0, w_llm=0, w_denoise=0), warn=lambda _: None)
    with pytest.raises(SurdError, match=r"tokens, but the adapter writes prompts in the 7 of .*; name that base model"):
        piped(base, translating(base, llm, vocabulary=7))
    monkeypatch.setattr(sys, "argv", ["sur-train", build.pattern, "--llm-role", "translate"])
    with pytest.raises(SystemExit) as ended:
        train_cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "Traceback" not in said and "surd columns add --pooling all-layers" in said


def test_drawing_says_what_is_drawn_for_each_prompt(
    base: Path, llm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = translating(base, llm)
    adapter.save_pretrained(tmp_path / "adapter")
    command = ["sur-generate", "--adapter", str(tmp_path / "adapter"), "--prompt", "red cat", "--steps", "1"]
    monkeypatch.setattr(sys, "argv", [*command, "--out", str(tmp_path / "one.png")])
    with pytest.raises(SystemExit) as ended:
        generate_cli.main()
    said = capsys.readouterr()
    assert ended.value.code == 0
    assert f"red cat -> {piped(base, adapter).translate('red cat')[0]}" in said.err
    assert said.out.strip() == str(tmp_path / "one.png") and (tmp_path / "one.png").is_file()
