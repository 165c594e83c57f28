"""CLIP's vectors do not depend on what else is in the batch, nor on padding that is left out."""

import numpy as np
import pytest
import torch

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
