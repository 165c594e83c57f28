"""Aspect-ratio buckets: which sizes there are, which one a picture gets, and what SDXL is told of the crop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from surd.schemas.shard_format.buckets import (
    DIGITS,
    USUAL_SIZES,
    bucket_sizes,
    kept_area,
    nearest_bucket,
    size_and_crop,
)
from surd.schemas.shard_format.pixels import covering, square

sides = st.integers(1, 20_000)


def test_at_1024_pixels_they_are_those_of_sdxls_own_table_in_both_directions() -> None:
    heights = {  # arXiv 2307.01952, appendix I: width -> heights of the standing ones; of the lying it lacks 1344 x 704
        512: (2048, 1984, 1920, 1856), 576: (1792, 1728, 1664), 640: (1600, 1536), 704: (1472, 1408, 1344),
        768: (1344, 1280), 832: (1216, 1152), 896: (1152, 1088), 960: (1088, 1024), 1024: (1024,),
    }  # fmt: skip
    standing = {(width, height) for width, own in heights.items() for height in own}
    assert bucket_sizes(1024) == sorted(standing | {(height, width) for width, height in standing})
    assert set(USUAL_SIZES) <= set(bucket_sizes(1024))


@pytest.mark.parametrize("multiple", [4, 8, 16])
def test_they_have_about_the_pixels_of_the_square_and_sides_that_the_model_takes(multiple: int) -> None:
    for image_size in range(4 * multiple, 2049, multiple):
        sizes = bucket_sizes(image_size, multiple)
        assert (image_size, image_size) in sizes and len(sizes) <= len(DIGITS)
        assert {(height, width) for width, height in sizes} == set(sizes)
        for width, height in sizes:
            assert width % multiple == height % multiple == 0 and max(width, height) <= 4 * min(width, height)
            assert 0.9 <= width * height / image_size**2 <= 1.1
            assert image_size < 512 or image_size % 64 or width % 64 == height % 64 == 0


@given(sides, sides)
def test_a_picture_gets_the_size_that_cuts_least_off_it(width: int, height: int) -> None:
    sizes = bucket_sizes(1024)
    kept = [kept_area(width, height, size) for size in sizes]
    number = nearest_bucket(width, height, sizes)
    assert kept[number] == max(kept) and 0 < kept[number] <= 1
    turned = sizes[nearest_bucket(height, width, sizes)]
    assert kept_area(height, width, turned) == kept[number]


@given(sides, sides)
def test_what_is_cut_off_is_half_of_what_is_too_much(width: int, height: int) -> None:
    size = bucket_sizes(512)[nearest_bucket(width, height, bucket_sizes(512))]
    told = size_and_crop(width, height, size)
    assert (told.original_width, told.original_height, told.width, told.height) == (width, height, *size)
    scale = max(size[0] / width, size[1] / height)
    assert abs((width * scale - size[0]) / 2 - told.crop_left) <= 1
    assert abs((height * scale - size[1]) / 2 - told.crop_top) <= 1
    assert min(told.crop_top, told.crop_left) == 0


def test_the_crop_is_the_one_that_is_made() -> None:
    columns = np.tile(np.arange(240, dtype=np.uint8), (80, 1))
    picture = Image.fromarray(np.stack([columns] * 3, axis=2))
    told = size_and_crop(240, 80, (160, 80))
    pixels = covering(picture, (160, 80))
    assert pixels.shape == (80, 160, 3)
    assert pixels[0, :, 0].tolist() == list(range(told.crop_left, told.crop_left + 160))
    assert (square(picture, 80) == covering(picture, (80, 80))).all()


@pytest.mark.parametrize("image_size", [64, 512, 768, 1024, 2048])
def test_of_common_shapes_less_than_a_twentieth_is_cut_off(image_size: int) -> None:
    shapes = [(3, 2), (2, 3), (4, 3), (3, 4), (16, 9), (9, 16), (1, 1), (5, 4), (4, 5), (21, 9), (1000, 618), (85, 75)]
    sizes = bucket_sizes(image_size)
    cut = [1 - kept_area(*shape, sizes[nearest_bucket(*shape, sizes)]) for shape in shapes]
    assert sum(cut) / len(cut) <= 0.05
