"""BRISQUE and CLIP-IQA: known values, and what makes a picture worse."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageFilter

from surd.pretrained.brisque import brisque, load_brisque
from surd.pretrained.clip_iqa import clip_iqa
from surd.schemas.errors import SurdError


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """A photograph that matplotlib ships."""
    with Image.open(Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg") as picture:
        return picture.convert("RGB")


def test_brisque_is_what_the_code_of_the_model_gives(photo):
    # brisque 0.2.0 itself, with opencv 5.0, scikit-image 0.26 and libsvm 3.37, its TypeError with numpy 2.4 patched.
    assert brisque(photo) == pytest.approx(10.60813, abs=1e-3)
    assert brisque(photo.resize((301, 203))) == pytest.approx(8.69971, abs=1e-3), "sides of odd length"


def test_brisque_rises_with_blur_and_with_noise(photo):
    blurred = [brisque(photo.filter(ImageFilter.GaussianBlur(radius))) for radius in (0, 1, 2, 4)]
    assert blurred == sorted(blurred) and blurred[-1] > 70
    pixels, rng = np.asarray(photo, float), np.random.default_rng(0)
    noisy = [(pixels + rng.normal(0, sigma, pixels.shape)).clip(0, 255).astype(np.uint8) for sigma in (0, 15, 40)]
    scores = [brisque(Image.fromarray(one)) for one in noisy]
    assert scores == sorted(scores) and scores[-1] > 50


@pytest.mark.parametrize(
    "picture",
    [
        Image.new("RGB", (64, 64), "red"),
        Image.new("L", (64, 64)),
        Image.new("RGB", (9, 64), "red"),
        Image.fromarray((np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)),
    ],
    ids=["red", "black", "narrow", "checkerboard"],
)
def test_a_picture_without_contrast_to_measure_has_no_brisque(picture):
    assert brisque(picture) is None


def test_brisque_without_its_model_says_what_to_install(monkeypatch, tmp_path):
    load_brisque.cache_clear()
    find = importlib.util.find_spec
    try:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(SurdError, match="which is not installed; pip install --no-deps brisque"):
            brisque(Image.new("RGB", (64, 64)))
        monkeypatch.setattr(importlib.util, "find_spec", find)
        (tmp_path / "brisque/models").mkdir(parents=True)
        (tmp_path / "brisque/__init__.py").touch()
        (tmp_path / "brisque/models/svm.txt").write_text("svm_type epsilon_svr\n")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(SurdError, match=r"svm\.txt' is another model than that of brisque 0\.2\.0"):
            load_brisque()
    finally:
        load_brisque.cache_clear()


def test_clip_iqa_is_the_softmax_of_two_cosines():
    antonyms = np.array([[1, 0], [0, 1]], np.float32)
    images = np.array([[0.6, 0.8], [0.8, 0.6], [1, 0], [2**-0.5] * 2], np.float32)
    expected = [np.exp(10 * a) / (np.exp(10 * a) + np.exp(10 * b)) for a, b in images.astype(float)]
    assert clip_iqa(images, antonyms, 10) == pytest.approx(expected)
    assert clip_iqa(images[:3], antonyms, 1e5).tolist() == pytest.approx([0, 1, 1]), "a scale beyond floats is no error"
