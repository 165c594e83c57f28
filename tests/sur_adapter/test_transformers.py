"""PixArt-Sigma and Stable Diffusion 3 serve as base models like those with a UNet."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from PIL import Image
from safetensors.torch import load_file

import sur_adapter
from sur_adapter.adapter import SURAdapter
from sur_adapter.base_model import encode_prompts, image_size, load_base, networks, text_width
from sur_adapter.sampling.config import GenerateConfig
from sur_adapter.sampling.generate import generate, sample_images, with_adapter
from sur_adapter.training.config import TrainConfig
from sur_adapter.training.losses import denoising_loss, draw_timesteps, noised, predict, training_scheduler
from sur_adapter.training.trainer import train
from surd.schemas.errors import SurdError
from tests.sur_adapter.tiny_transformers import CLIP_POOLED, KINDS, T5_WIDTH, TOKENS, save_tiny_transformer

PROMPTS = ["a red cat", "two dogs run"]
CLASSES = {"pixart": "SURPixArtSigmaPipeline", "sd3": "SURStableDiffusion3Pipeline"}
COLUMNS = ("latents", "clip-simple", "clip-complex")


@pytest.fixture(scope="module")
def folders(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("transformers")
    return {kind: save_tiny_transformer(kind, str(base), folder / kind) for kind in KINDS}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def adapter() -> SURAdapter:
    torch.manual_seed(0)
    module = SURAdapter(width=T5_WIDTH, heads=4, feed_forward=64, eta=1.0).eval()
    torch.nn.init.normal_(module.fc.weight)
    return module


def loaded(kind: str, folders: dict[str, Path], **options: Any) -> Any:
    pipe = getattr(sur_adapter, CLASSES[kind]).from_pretrained(folders[kind], **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def drawn(pipe: Any, **options: Any) -> np.ndarray:
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    pictures: np.ndarray = pipe(
        "a red cat", num_inference_steps=2, latents=noise, output_type="np", guidance_scale=3.0, **options
    ).images
    return pictures


def encoded(kind: str, pipe: Any, prompts: Any, **options: Any) -> tuple[Any, Any]:
    """States of positive and negative prompts."""
    if kind == "pixart":
        states, _, negative, _ = pipe.encode_prompt(prompts, True, device="cpu", **options)
    else:
        states, negative, _, _ = pipe.encode_prompt(prompts, None, None, device="cpu", **options)
    return states, negative


def test_it_is_loaded_frozen_with_its_sizes(kind: str, folders: dict[str, Path]) -> None:
    pipe = load_base(str(folders[kind]))
    assert (text_width(pipe), image_size(pipe)) == (T5_WIDTH, 32)
    assert not any(weight.requires_grad for part in networks(pipe).values() for weight in part.parameters())
    assert "vae" not in networks(load_base(str(folders[kind]), vae=False))
    assert set(networks(load_base(str(folders[kind]), vae=False, text=False))) == {"transformer"}


def test_states_and_mask_are_what_the_pipeline_makes(kind: str, folders: dict[str, Path]) -> None:
    pipe = load_base(str(folders[kind]))
    texts = encode_prompts(pipe, PROMPTS)
    assert texts.states.shape == (2, TOKENS[kind], T5_WIDTH) and texts.mask.shape == (2, TOKENS[kind])
    torch.testing.assert_close(texts.states, encoded(kind, pipe, PROMPTS)[0].detach())
    of_t5 = texts.mask[:, -256:] if kind == "sd3" else texts.mask
    pieces = [len(pipe.components["tokenizer_3" if kind == "sd3" else "tokenizer"](text).input_ids) for text in PROMPTS]
    assert of_t5.sum(dim=1).tolist() == pieces
    if kind == "sd3":
        clip = [len(pipe.tokenizer(text).input_ids) for text in PROMPTS]
        assert texts.mask[:, :16].sum(dim=1).tolist() == clip
        assert texts.pooled is not None and texts.pooled.shape == (2, 2 * CLIP_POOLED)
        assert not texts.states[:, :16, 32 + 16 :].any(), "CLIP's states are padded to T5's width"


def test_the_positive_prompt_alone_is_adapted(kind: str, folders: dict[str, Path], adapter: SURAdapter) -> None:
    pipe, base = loaded(kind, folders, adapter=adapter), load_base(str(folders[kind]))
    positive, negative = encoded(kind, pipe, PROMPTS)
    texts = encode_prompts(base, PROMPTS)
    torch.testing.assert_close(positive, adapter(texts.states, texts.mask).states, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(negative, encoded(kind, base, PROMPTS)[1])
    twice, _ = encoded(kind, pipe, PROMPTS, num_images_per_prompt=2)
    torch.testing.assert_close(twice, positive.repeat_interleave(2, dim=0), atol=1e-3, rtol=1e-3)


def test_states_that_a_caller_brings_are_used_as_they_are(
    kind: str, folders: dict[str, Path], adapter: SURAdapter
) -> None:
    pipe = loaded(kind, folders, adapter=adapter)
    states, negative = encoded(kind, pipe, ["a cat"])
    mask = {"prompt_attention_mask": torch.ones(1, TOKENS[kind])} if kind == "pixart" else {}
    brought = {"prompt_embeds": states, "negative_prompt_embeds": negative, **mask}
    if kind == "pixart":
        brought["negative_prompt_attention_mask"] = torch.ones(1, TOKENS[kind])
    with pytest.warns(UserWarning, match="prompt_embeds are used as they are, without the adapter"):
        again, _ = encoded(kind, pipe, None, **brought)
    torch.testing.assert_close(again, states)


def test_without_an_adapter_or_with_an_untrained_one_it_is_diffusers_pipeline(
    kind: str, folders: dict[str, Path], adapter: SURAdapter
) -> None:
    base = load_base(str(folders[kind]))
    options = {"use_resolution_binning": False} if kind == "pixart" else {}
    expected = drawn(base, **options)
    for module in (None, SURAdapter(width=T5_WIDTH, heads=4, eta=1.0).eval()):
        np.testing.assert_allclose(drawn(with_adapter(base, module)), expected, atol=1e-5)
    assert np.abs(drawn(with_adapter(base, adapter)) - expected).max() > 1e-4


def test_it_is_saved_and_loaded_with_its_adapter(
    kind: str, folders: dict[str, Path], adapter: SURAdapter, tmp_path: Path
) -> None:
    pipe = loaded(kind, folders, adapter=adapter)
    pipe.save_pretrained(tmp_path / "both")
    again = getattr(sur_adapter, CLASSES[kind]).from_pretrained(tmp_path / "both")
    again.set_progress_bar_config(disable=True)
    assert again.adapter.config["eta"] == 1.0
    np.testing.assert_allclose(drawn(again), drawn(pipe), atol=1e-5)
    order = pipe.model_cpu_offload_seq.split("->")
    assert order.index("text_encoder") < order.index("transformer")
    assert "adapter" in pipe._exclude_from_cpu_offload and "adapter" not in order


@pytest.mark.parametrize("stored", [True, False])
def test_a_training_gives_an_adapter_that_draws(
    kind: str, stored: bool, folders: dict[str, Path], build: Any, config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    build.base = folders[kind]
    build.write()
    if stored:
        build.add_columns(*COLUMNS)
    noted: list[str] = []
    result = train(config(steps=2, caption_dropout=0.5, gradient_checkpointing=True), warn=noted.append)
    assert result.computed == ([] if stored else ["clip_complex", "clip_simple", "latents"])
    weights = load_file(tmp_path / "run/diffusion_pytorch_model.safetensors")
    assert weights["fc.weight"].shape == (T5_WIDTH, T5_WIDTH) and weights["fc.weight"].abs().max() > 0
    out = tmp_path / "grid.png"
    asked = GenerateConfig(adapter=tmp_path / "run", prompt=PROMPTS, out=out, steps=1, device="cpu", compare=True)
    assert generate(asked) == [out] and Image.open(out).size[0] > 32


def test_a_picture_does_not_depend_on_its_batch(kind: str, folders: dict[str, Path], adapter: SURAdapter) -> None:
    pipe = load_base(str(folders[kind]))
    both = sample_images(pipe, adapter, PROMPTS, seed=3, steps=2)
    alone = sample_images(pipe, adapter, PROMPTS[1:], seed=4, steps=2)
    assert np.abs(np.asarray(both[1], int) - np.asarray(alone[0], int)).max() <= 1


def test_flow_matching_mixes_noise_by_sigma_and_predicts_the_way_from_picture_to_noise() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    latents, noise = torch.zeros(2, 4, 8, 8), torch.ones(2, 4, 8, 8)
    noisy, target = noised(scheduler, latents, noise, torch.tensor([250.0, 1000.0]))
    assert torch.equal(noisy[:, 0, 0, 0], torch.tensor([0.25, 1.0])) and torch.equal(target, torch.ones_like(target))


def test_flow_matching_trains_at_logit_normal_timesteps_of_the_shifted_schedule() -> None:
    torch.manual_seed(0)
    drawn_at = {
        shift: draw_timesteps(FlowMatchEulerDiscreteScheduler(shift=shift), 20000, torch.device("cpu")) / 1000
        for shift in (1.0, 3.0)
    }
    logits = torch.logit(drawn_at[1.0].clamp(1e-3, 1 - 1e-3))
    assert abs(logits.mean()) < 0.05 and abs(logits.std() - 1) < 0.05
    median = drawn_at[3.0].median()
    assert abs(median - 3 * 0.5 / (1 + 2 * 0.5)) < 0.01, "sigma = shift * s / (1 + (shift - 1) * s)"


def test_a_step_from_noise_by_a_perfect_prediction_is_the_picture() -> None:
    """The target of training is what the sampler's own step takes."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    latents, noise = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    scheduler.set_timesteps(1)
    noisy, target = noised(scheduler, latents, noise, scheduler.timesteps[:1])
    torch.testing.assert_close(scheduler.step(target, scheduler.timesteps[0], noisy).prev_sample, latents)


def test_min_snr_is_refused_where_there_is_no_such_weight(
    folders: dict[str, Path], build: Any, config: Callable[..., TrainConfig]
) -> None:
    build.base = folders["sd3"]
    build.write()
    with pytest.raises(SurdError, match=r"--min-snr-gamma is 5.0: the base model learns by flow matching"):
        train(config(min_snr_gamma=5.0), warn=lambda _: None)


def test_an_llm_is_attached_to_no_transformer(
    kind: str, folders: dict[str, Path], build: Any, config: Callable[..., TrainConfig]
) -> None:
    reader = SURAdapter(width=T5_WIDTH, llm_width=24, heads=4, feed_forward=64, llm_role="attach")
    with pytest.raises(SurdError, match=r"--adapter: it reads an LLM with every prompt, .*; name a base model of"):
        loaded(kind, folders, adapter=reader)
    with pytest.raises(SurdError, match=rf"--adapter: an LLM is attached to a .* and '.*{kind}' is a "):
        with_adapter(load_base(str(folders[kind])), reader)
    build.base = folders[kind]
    build.write().add_columns("tokens")
    asked = config(llm_role="attach", llm_column="llm-tiny-l2-tokens")
    with pytest.raises(SurdError, match=rf"--llm-role: an LLM is attached to a .* and '.*{kind}' is a "):
        train(asked, warn=lambda _: None)


def test_pixart_neither_attends_to_padding_nor_is_judged_by_its_variance(folders: dict[str, Path]) -> None:
    pipe = load_base(str(folders["pixart"]))
    texts = encode_prompts(pipe, PROMPTS)
    latents, noise, timesteps = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.tensor([100, 900])
    other = torch.where(texts.mask[..., None].bool(), texts.states, torch.randn_like(texts.states))
    assert not torch.equal(other, texts.states)
    one, two = (
        predict(pipe.transformer, noise, timesteps, states, texts.mask, None) for states in (texts.states, other)
    )
    torch.testing.assert_close(one, two)
    assert one.shape == latents.shape
    scheduler = training_scheduler(pipe)
    expected = (predict(pipe.transformer, scheduler.add_noise(latents, noise, timesteps), timesteps, texts.states,
                        texts.mask, None) - noise).square().mean()  # fmt: skip
    loss = denoising_loss(pipe.transformer, scheduler, latents, noise, timesteps, texts.states, mask_BT=texts.mask)
    torch.testing.assert_close(loss, expected)


def test_stable_diffusion_3_is_conditioned_on_pooled_text_too(folders: dict[str, Path]) -> None:
    pipe = load_base(str(folders["sd3"]))
    assert isinstance(pipe.transformer, SD3Transformer2DModel)
    texts = encode_prompts(pipe, PROMPTS[:1])
    noisy, timesteps = torch.randn(1, 4, 8, 8), torch.tensor([500.0])
    assert texts.pooled is not None
    one, two = (
        predict(pipe.transformer, noisy, timesteps, texts.states, None, {"pooled_projections": pooled})
        for pooled in (texts.pooled, texts.pooled + 1)
    )
    assert not torch.allclose(one, two)


def test_models_and_adapters_of_another_kind_are_named(
    kind: str, folders: dict[str, Path], base: Path, adapter: SURAdapter, tmp_path: Path
) -> None:
    other = "sd3" if kind == "pixart" else "pixart"
    with pytest.raises(SurdError, match=f"which SURStableDiffusionPipeline cannot run; load it with {CLASSES[kind]}"):
        sur_adapter.SURStableDiffusionPipeline.from_pretrained(folders[kind])
    with pytest.raises(SurdError, match=f"which {CLASSES[other]} cannot run; load it with {CLASSES[kind]}"):
        loaded(other, {other: folders[kind]})
    with pytest.raises(SurdError, match="load it with SURStableDiffusionPipeline"):
        loaded(kind, {kind: base})
    with pytest.raises(SurdError, match=f"{kind}' has text states 64 wide, but .* for 'an/sd15', 32 wide"):
        loaded(kind, folders, adapter=SURAdapter(width=32, heads=4, base_model="an/sd15"))
    copy = shutil.copytree(folders[kind], tmp_path / "copy")
    (copy / "text_encoder/model.safetensors").unlink()
    with pytest.raises(SurdError, match=r"--base: .*copy' cannot be loaded"):
        load_base(str(copy))


def test_a_t5_whose_words_are_a_sentencepiece_file_is_read(folders: dict[str, Path], tmp_path: Path) -> None:
    """As PixArt's published folders have it: no tokenizer.json."""
    import sentencepiece

    folder = shutil.copytree(folders["pixart"], tmp_path / "pixart")
    (folder / "tokenizer/tokenizer.json").unlink()
    words = [f"{one} {other}" for one in ("red", "blue", "three", "cat") for other in ("apple", "table", "bird")]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words * 5), model_prefix=str(folder / "tokenizer/spiece"), vocab_size=30, pad_id=0,
        eos_id=1, unk_id=2, bos_id=-1, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer/spiece.model"))
    tokenizer = load_base(str(folder), unet=False, vae=False).tokenizer
    text = "three red  birds, \ufb01ne"
    assert tokenizer(text).input_ids == [*pieces.encode(text), pieces.eos_id()]


OTHERS = (
    "FluxPipeline", "WanPipeline", "QwenImagePipeline", "PixArtAlphaPipeline", "KandinskyV22Pipeline",
    "StableCascadeDecoderPipeline", "StableDiffusionInpaintPipeline", "CogVideoXPipeline",
)  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_another_architecture_is_refused_by_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(f'{{"_class_name": "{name}", "transformer": ["diffusers", "X"]}}')
    sentence = f"is a {name}; name a Stable Diffusion 1.x, 2.x, XL or 3 or a PixArt-Sigma"
    with pytest.raises(SurdError, match=f"--base: '.*' {sentence}$"):
        load_base(str(tmp_path))
