"""Sharpness tells a picture from a blurred one, at any size."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from surd.pipeline.images.sharpness import open_qualities, sharpness


@pytest.fixture
def picture():
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).resize(
        (512, 384), Image.Resampling.BICUBIC
    )


def test_blur_lowers_sharpness_and_one_colour_has_none(picture):
    values = [sharpness(picture.filter(ImageFilter.GaussianBlur(radius))) for radius in (0, 1, 2, 4)]
    assert values == sorted(values, reverse=True) and values[0] > values[1] > 0
    assert sharpness(Image.new("RGB", (9, 1), "red")) == 0


def test_only_what_is_asked_for_is_measured():
    assert open_qualities([]) == {}
    assert list(open_qualities(["sharpness", "sharpness"])) == ["sharpness"]
