"""Aspect-ratio buckets: the sizes that pictures are resized and cropped to instead of a square.

A denoiser is trained on batches of one shape, and a square cuts a third off every 3:2 photograph. So there is a list of
sizes with about the pixels of the square, and a picture goes to the one that cuts least off it (SDXL, arXiv 2307.01952,
section 2.3 and appendix I; NovelAI before it).
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import NamedTuple

Size = tuple[int, int]  # width and height in pixels

#: The nine sizes that SDXL is usually drawn and bucketed in, all of them among ``bucket_sizes(1024)``.
USUAL_SIZES: tuple[Size, ...] = (
    (1024, 1024), (1152, 896), (896, 1152), (1216, 832), (832, 1216), (1344, 768), (768, 1344), (1536, 640),
    (640, 1536),
)  # fmt: skip
#: How a manifest writes the number of a bucket: one of these characters.
DIGITS = string.digits + string.ascii_letters
_MOST_ASPECT, _LEAST_AREA = 4, 0.9


class SizeAndCrop(NamedTuple):
    """What SDXL's denoiser is told of a picture, in the order of diffusers' ``time_ids``; pixels.

    Height and width of the stored picture, upright; what was cut off above and left of it once it was resized; height
    and width of what was left, those of its bucket.
    """

    original_height: int
    original_width: int
    crop_top: int
    crop_left: int
    height: int
    width: int


def bucket_sizes(image_size: int, multiple: int = 8) -> list[Size]:
    """The buckets of a model made for ``image_size`` squared; their sides are multiples of ``multiple``.

    Every size of sides in steps of 64 (of an eighth below 512 pixels, of 128 above 1,024) that is at most four times
    as long as wide and has between 0.9 times and once the pixels of the square. For 1,024 pixels those are the 40 of
    SDXL's own table, and 1344 x 704, of which the table has the standing one alone. Where a side has fewer than 14
    steps they may have 1.1 times the pixels: at 512 pixels the sizes up to the square's own cut 6.2% off a mix of
    common shapes, and with those 3.6%. Sorted; the square is among them.
    """
    step = 64 * -(-image_size // 1024) if image_size >= 512 else image_size // 8
    step = max(multiple, step // multiple * multiple)
    most = 1.0 if image_size >= 14 * step else 1.1
    sides = range(step, 2 * image_size + 1, step)
    sizes = {
        (width, height)
        for width in sides
        for height in sides
        if max(width, height) <= _MOST_ASPECT * min(width, height)
        and _LEAST_AREA < width * height / image_size**2 <= most
    }
    return sorted(sizes | {(image_size, image_size)})


def kept_area(width: int, height: int, size: Size) -> float:
    """The share of a picture that is left once it is resized to cover ``size`` and cropped to it."""
    across, down = width * size[1], height * size[0]
    return min(across, down) / max(across, down)


def nearest_bucket(width: int, height: int, sizes: Sequence[Size]) -> int:
    """The number of the size that keeps most of a picture; of equals the one with more pixels, then the first."""

    def rank(number: int) -> tuple[float, int]:
        size = sizes[number]
        return kept_area(width, height, size), size[0] * size[1]

    return max(range(len(sizes)), key=rank)


def size_and_crop(width: int, height: int, size: Size) -> SizeAndCrop:
    """Of a picture that is resized to cover ``size`` and centre-cropped to it."""
    across, down = size[0] * height, size[1] * width
    top = (across - down) // (2 * width) if across > down else 0
    left = (down - across) // (2 * height) if down > across else 0
    return SizeAndCrop(height, width, top, left, size[1], size[0])
