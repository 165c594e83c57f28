"""The sampler: same noise with and without the adapter, and an unconditional branch that never meets it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from sur_adapter.adapter import SURAdapter
from sur_adapter.base_model import encode_text, load_base
from sur_adapter.sampling.config import GenerateConfig
from sur_adapter.sampling.generate import generate, sample_images
from sur_adapter.sampling.grid import draw_grid
from surd.schemas.errors import SurdError

PROMPTS = ["red cat", "two dog runs"]


@pytest.fixture(scope="module")
def pipe(base: Path) -> Any:
    return load_base(str(base))


@pytest.fixture
def strong() -> SURAdapter:
    torch.manual_seed(0)
    adapter = SURAdapter(width=32, heads=4, feed_forward=64, eta=1.0)
    torch.nn.init.normal_(adapter.fc.weight)
    return adapter


@pytest.fixture
def folder(strong: SURAdapter, tmp_path: Path, base: Path) -> Path:
    strong.register_to_config(base_model=str(base))
    strong.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.fixture
def asked(folder: Path, tmp_path: Path) -> Callable[..., GenerateConfig]:
    defaults = {
        "adapter": folder,
        "prompt": PROMPTS[:1],
        "out": tmp_path / "new/image.png",
        "steps": 2,
        "device": "cpu",
    }
    return lambda **fields: GenerateConfig.model_validate(defaults | fields)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def test_only_the_positive_prompt_meets_the_adapter(pipe: Any, strong: SURAdapter) -> None:
    seen: list[torch.Tensor] = []
    hook = pipe.unet.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["encoder_hidden_states"]), with_kwargs=True
    )
    sample_images(pipe, strong, PROMPTS, steps=1, negative_prompt="blue")
    hook.remove()
    negative, positive = seen[0].chunk(2)
    states, mask = encode_text(pipe, PROMPTS)
    torch.testing.assert_close(negative, encode_text(pipe, ["blue", "blue"])[0])
    torch.testing.assert_close(positive, strong(states, mask).states)
    assert (positive - states).abs().max() > 0.1


def test_an_untrained_adapter_draws_the_base_models_image(pipe: Any) -> None:
    untrained = SURAdapter(width=32, heads=4, feed_forward=64)
    with_it, without = (sample_images(pipe, module, PROMPTS, steps=2) for module in (untrained, None))
    assert all(np.array_equal(pixels(a), pixels(b)) for a, b in zip(with_it, without, strict=True))


def test_a_trained_adapter_changes_the_image_but_not_the_noise(pipe: Any, strong: SURAdapter) -> None:
    with_it, without = (sample_images(pipe, module, PROMPTS, steps=2, seed=3) for module in (strong, None))
    assert not np.array_equal(pixels(with_it[0]), pixels(without[0]))
    again = sample_images(pipe, None, PROMPTS[1:], steps=2, seed=4)
    assert np.abs(pixels(again[0]) - pixels(without[1])).max() <= 1, "prompt i starts from the noise of seed + i"


def test_dropout_is_off_when_sampling_even_for_an_adapter_in_training_mode(pipe: Any, strong: SURAdapter) -> None:
    first, second = (sample_images(pipe, strong.train(), PROMPTS[:1], steps=2) for _ in range(2))
    assert np.array_equal(pixels(first[0]), pixels(second[0]))


def test_the_sampler_has_the_pipelines_own_result_for_the_same_text(pipe: Any) -> None:
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    theirs = pipe(PROMPTS[0], latents=noise, num_inference_steps=2, guidance_scale=7.5).images[0]
    assert np.array_equal(pixels(sample_images(pipe, None, PROMPTS[:1], steps=2)[0]), pixels(theirs))


def test_one_prompt_is_one_png_of_the_models_own_size(asked: Callable[..., GenerateConfig]) -> None:
    (path,) = generate(asked())
    assert Image.open(path).format == "PNG" and Image.open(path).size == (32, 32)


def test_prompts_of_a_file_are_numbered_images_or_one_sheet(
    asked: Callable[..., GenerateConfig], tmp_path: Path
) -> None:
    (tmp_path / "prompts.txt").write_text("two dog\n\n  blue apple \n")
    paths = generate(asked(prompts=tmp_path / "prompts.txt"))
    assert [path.name for path in paths] == ["image-00.png", "image-01.png", "image-02.png"]
    (sheet,) = generate(asked(prompts=tmp_path / "prompts.txt", grid=True))
    size = Image.open(sheet).size
    with pytest.raises(SurdError, match=r"image\.png' exists; .*--overwrite"):
        generate(asked(prompts=tmp_path / "prompts.txt", compare=True))
    (compared,) = generate(asked(prompts=tmp_path / "prompts.txt", compare=True, overwrite=True))
    assert Image.open(compared).size[1] == size[1]
    assert Image.open(compared).height > 3 * 32


def test_several_seeds_are_further_pictures_and_columns(asked: Callable[..., GenerateConfig]) -> None:
    paths = generate(asked(prompt=PROMPTS, seeds=2))
    assert [path.name for path in paths] == [f"image-0{number}.png" for number in range(4)]
    last = pixels(Image.open(paths[3]))
    later = generate(asked(prompt=PROMPTS, seed=2, overwrite=True))
    assert np.abs(last - pixels(Image.open(later[1]))).max() <= 1, "seeds go on counting"
    (narrow,), (wide,) = (generate(asked(compare=True, seeds=seeds, overwrite=True)) for seeds in (1, 2))
    assert narrow == wide and Image.open(wide).width > 240 + 4 * 192


def test_strength_zero_is_the_base_model(asked: Callable[..., GenerateConfig], pipe: Any) -> None:
    (path,) = generate(asked(eta=0.0))
    assert np.array_equal(pixels(Image.open(path)), pixels(sample_images(pipe, None, PROMPTS[:1], steps=2)[0]))


def test_a_sheet_enlarges_small_images_without_blurring_and_writes_the_prompt_beside() -> None:
    checker = Image.fromarray((np.indices((32, 32)).sum(0) % 2 * 255).astype(np.uint8)).convert("RGB")
    sheet = pixels(draw_grid(["a long prompt " * 20, "b"], {"one": [checker] * 2, "two": [checker] * 2}))
    assert set(np.unique(sheet[32 : 32 + 192, 248 : 248 + 192])) == {0, 255}
    assert (sheet[32:224, :240] < 128).any(), "the prompt is written beside its images"
    assert (sheet[:32, 248:] < 128).any(), "columns are labelled"


def test_mistakes_are_one_sentence(asked: Callable[..., GenerateConfig], tmp_path: Path, base: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    other = SURAdapter(width=64, heads=4, feed_forward=64, base_model=str(base))
    other.save_pretrained(tmp_path / "other")
    nameless = SURAdapter(width=32, heads=4, feed_forward=64)
    nameless.save_pretrained(tmp_path / "nameless")
    mistakes: list[tuple[dict[str, Any], str]] = [
        ({"adapter": tmp_path / "gone"}, r"--adapter: .*gone' holds no config.json"),
        (
            {"adapter": tmp_path / "other"},
            r"has text states 32 wide, but the adapter was trained for .*, 64 wide",
        ),
        ({"adapter": tmp_path / "nameless"}, r"--base: .* does not name its base model"),
        ({"prompt": []}, r"--prompt: there is no prompt"),
        ({"prompt": ["red " * 5000]}, r"--prompt: 'red red .* tokens, more than 1,024; shorten it"),
        ({"prompts": tmp_path / "gone.txt"}, r"--prompts: .* cannot be read"),
        ({"base": str(tmp_path / "gone")}, r"gone.*no such folder"),
        ({"out": tmp_path / "file/image.png"}, r"--out: .* cannot be written"),
        ({"out": tmp_path}, r"--out: .* is a folder; name a file in it"),
    ]
    if not torch.cuda.is_available():
        mistakes.append(({"device": "cuda"}, r"--device: 'cuda' needs a GPU"))
    for fields, sentence in mistakes:
        with pytest.raises(SurdError, match=sentence):
            generate(asked(**fields))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"width": "wide"}, r"cannot be loaded"),
        ({"heads": 5}, r"cannot be loaded \(embed_dim must be divisible by num_heads\)"),
        ({"depth": 3}, r"config.json and weights that do not match \(transformer_encoder.layers.2"),
        ({"depth": 1}, r"config.json and weights that do not match \(transformer_encoder.layers.1"),
        ({"eta": "much"}, r"strength eta of 'much', which is not a number from 0 to 1"),
        ({"eta": 5}, r"strength eta of 5"),
    ],
)
def test_a_config_that_is_not_the_weights_is_refused(
    asked: Callable[..., GenerateConfig], folder: Path, change: dict[str, Any], sentence: str
) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(SurdError, match=f"--adapter: .*{sentence}.*train it again"):
        generate(asked())


def test_an_adapter_of_nan_draws_no_black_picture(asked: Callable[..., GenerateConfig], folder: Path) -> None:
    file = folder / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["fc.bias"][3] = float("nan")
    save_file(weights, file)
    with pytest.raises(SurdError, match=r"--adapter: .*NaN or infinity in fc.bias"):
        generate(asked())


@pytest.mark.parametrize("harm", ["index", "list", "tokenizer", "unet"])
def test_a_base_model_that_is_not_whole_is_refused(
    asked: Callable[..., GenerateConfig], base: Path, tmp_path: Path, harm: str
) -> None:
    part = shutil.copytree(base, tmp_path / "part")
    if harm in ("index", "list"):
        (part / "model_index.json").write_text("{}" if harm == "index" else "[]")
    else:
        shutil.rmtree(part / harm)
    sentence = "is a None; name a" if harm in ("index", "list") else f"has no folder '{harm}'; copy the whole model"
    with pytest.raises(SurdError, match=f"--base: .*{sentence}"):
        generate(asked(base=str(part)))


@pytest.mark.parametrize("fields", [{"seed": 1 << 63}, {"guidance_scale": float("inf")}])
def test_numbers_that_no_run_can_use_are_refused(asked: Callable[..., GenerateConfig], fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        asked(**fields)
