"""CLIP's vectors do not depend on what else is in the batch, nor on padding that is left out."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from surd.pipeline.models import Models
from surd.schemas import BuildConfig

TEXTS = ["a cat", "three red apples on a blue background, masterpiece, best quality", "", "x " * 200]


@pytest.fixture(scope="module")
def clip():
    return Models(BuildConfig().models).clip


def test_texts_are_encoded_as_open_clip_encodes_them(clip):
    with torch.inference_mode():
        theirs = clip._model.encode_text(clip._tokenize(TEXTS), normalize=True).numpy()
    np.testing.assert_allclose(clip.embed_texts(TEXTS), theirs, atol=2e-6)


def test_a_texts_vector_is_the_same_alone_and_in_company(clip):
    together = clip.embed_texts(TEXTS)
    alone = np.concatenate([clip.embed_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_the_temperature_is_positive(clip):
    assert clip.logit_scale > 1


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (3, 100_000)])
def test_of_a_strip_only_the_middle_is_resized(clip, monkeypatch, size):
    sizes, resize = [], Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda self, to, *more: sizes.append(to) or resize(self, to, *more))
    assert clip.prepare(Image.new("RGB", size)).shape[0] == 3
    assert len(sizes) == 1 and max(sizes[0]) <= 9 * min(sizes[0])


@pytest.mark.parametrize("size", [(40, 700), (701, 40), (33, 1000)])
def test_the_middle_of_a_strip_is_seen_as_in_the_whole_strip(clip, size):
    picture = Image.effect_noise(size, 90).filter(ImageFilter.GaussianBlur(3)).convert("RGB")
    np.testing.assert_allclose(clip.prepare(picture), clip._preprocess(picture), atol=0.1)  # less than a pixel's shift
    ordinary = picture.resize((300, 60))
    np.testing.assert_array_equal(clip.prepare(ordinary), clip._preprocess(ordinary))
