"""Every way to name a CLIP gives that model with its own weights, or one sentence; never random weights."""

import json
import shutil

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from surd.pipeline.models import Models
from surd.schemas import SurdError, load_config
from surd.schemas.clip_ref import clip_ref, open_clip_models
from tests.pipeline.models.tiny_models import SIDE, drop_weights, save_clip

TEXTS = ["a red box", "the dog", "three white dog on the red table of the blue box", ""]
SMALLEST = "ViT-S-32-alt"


def clip_of(ref):
    return Models(load_config({}, {"models.clip": str(ref), "models.device": "cpu"}).models).clip


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (24, 40, 3), dtype=np.uint8)) for _ in range(3)]


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-L-14", "RN50", "ViT-B-16-SigLIP", "roberta-ViT-B-32", "ViT-B-32/"])
def test_a_name_without_weights_is_refused_and_not_filled_with_random_ones(name):
    models = Models(load_config({}, {"models.clip": name}).models)
    for use in (lambda: models.revision("clip"), lambda: models.clip):
        with pytest.raises(SurdError, match=r"models\.clip is '.*': this names a model without its weights.*NAME/TAG"):
            use()


@pytest.mark.parametrize("kind", ["open_clip", "hub"])
def test_strings_for_open_clip_and_for_transformers_are_told_apart(kind):
    ref = {"open_clip": "ViT-B-32/laion2b_s34b_b79k", "hub": "openai/clip-vit-large-patch14"}[kind]
    assert clip_ref(ref).kind == kind
    assert "ViT-B-32" in open_clip_models() and "openai" not in open_clip_models()


def test_a_name_with_a_checkpoint_file_gives_the_weights_of_that_file(tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = open_clip.create_model(SMALLEST).eval()
    file = tmp_path / "fine tuned" / "step=1.safetensors"
    file.parent.mkdir()
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, file)
    clip = clip_of(f"{SMALLEST}/{file}")
    with torch.inference_mode():
        expected = model.encode_text(open_clip.get_tokenizer(SMALLEST)(TEXTS), normalize=True).numpy()
    np.testing.assert_allclose(clip.embed_texts(TEXTS), expected, atol=2e-6)
    models = Models(load_config({}, {"models.clip": f"{SMALLEST}/{file}"}).models)
    assert models.revision("clip").startswith(f"{SMALLEST} ") and len(models.revision("clip")) == len(SMALLEST) + 17
    monkeypatch.chdir(tmp_path)
    assert clip_ref(f"{SMALLEST}/fine tuned/step=1.safetensors").weights == str(file)
    weights = {key: value.contiguous() for key, value in model.state_dict().items() if key != "logit_scale"}
    save_file(weights, tmp_path / "less.safetensors")
    with pytest.raises(SurdError, match="logit_scale"):
        clip_of(f"{SMALLEST}/less.safetensors")


@pytest.mark.parametrize("ref", [f"{SMALLEST}/gone.pt", f"{SMALLEST}//no/such/file.safetensors", f"{SMALLEST}/a/b"])
def test_a_checkpoint_that_is_not_there_is_named(ref):
    with pytest.raises(SurdError, match=r"models\.clip is .*there is no file"):
        clip_ref(ref)


def test_a_bare_checkpoint_does_not_say_what_model_it_is_of(tmp_path):
    (tmp_path / "ft.pt").write_bytes(b"")
    with pytest.raises(SurdError, match="does not say what model it is of"):
        clip_ref(str(tmp_path / "ft.pt"))


def test_an_open_clip_folder_without_its_weights_is_refused(tmp_path):
    (tmp_path / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": {"embed_dim": 8, "vision_cfg": {"layers": 1, "width": 64}, "text_cfg": {"layers": 1}}})
    )
    with pytest.raises(SurdError, match="could not be loaded"):
        clip_of(tmp_path)


@pytest.mark.parametrize("kind", ["CLIP", "siglip"])
def test_a_transformers_folder_gives_what_transformers_gives(tmp_path, pictures, kind):
    folder = save_clip(tmp_path, kind)
    clip, model = clip_of(folder), AutoModel.from_pretrained(folder).eval()
    padding = "max_length" if kind == "siglip" else True
    tokens = AutoTokenizer.from_pretrained(folder)(
        TEXTS, padding=padding, truncation=True, max_length=8, return_tensors="pt"
    )
    if kind == "siglip":
        tokens.pop("attention_mask")
    pixels = AutoImageProcessor.from_pretrained(folder)(images=pictures, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        texts = model.get_text_features(**tokens).pooler_output
        images = model.get_image_features(pixel_values=pixels).pooler_output
    assert clip.prepare(pictures[0]).shape == (3, SIDE, SIDE)
    for ours, theirs in ((clip.embed_texts(TEXTS), texts), (clip.embed_images(pictures), images)):
        np.testing.assert_allclose(ours, torch.nn.functional.normalize(theirs, dim=-1).numpy(), atol=2e-6)
    assert clip.logit_scale == pytest.approx(float(model.logit_scale.detach().exp()))


def test_a_transformers_folder_that_lacks_a_tensor_names_it(tmp_path):
    drop_weights(save_clip(tmp_path), "text_projection.weight")
    with pytest.raises(SurdError, match=r"its weights lack text_projection\.weight, which would be random"):
        clip_of(tmp_path)


def test_a_transformers_folder_of_another_kind_is_named_for_what_it_is(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(SurdError, match="'bert'"):
        clip_of(tmp_path)


def test_weights_in_half_precision_alone_are_read_and_pickles_alone_are_named(tmp_path):
    folder = save_clip(tmp_path / "whole")
    expected = clip_of(folder).embed_texts(TEXTS)
    half = tmp_path / "half"
    shutil.copytree(folder, half)
    (half / "model.safetensors").rename(half / "model.fp16.safetensors")
    np.testing.assert_allclose(clip_of(half).embed_texts(TEXTS), expected, atol=2e-6)
    (half / "model.fp16.safetensors").rename(half / "pytorch_model.bin")
    with pytest.raises(SurdError, match=r"only as pytorch_model\.bin, which would have to be unpickled"):
        clip_of(shutil.copytree(half, tmp_path / "pickled"))
