"""Miniatures of pictures, and how far two pictures differ after registration (alignment) of their miniatures.

A perceptual hash alone does not tell copies from similar pictures: it ignores colour, a crop of 6 % flips a quarter of
its bits, and two scenes of one layout can share it. So two miniatures are first registered (zoom and shift from one to
the other by Gauss-Newton steps, coarse to fine), and then compared by hash, colour and sharpness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image

from surd.schemas.shard_format.pixels import reduced_rgb, upright

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
SIDE = 32  # of a miniature; its cells are the least detail that is compared
PATCH = 4  # cells; the side of the patches whose mean colours are compared
_STEPS = (5, 4, 4)  # Gauss-Newton steps on miniatures of 8, 16 and 32 cells
_HASH_NOISE = 16.0  # what noise of one level per cell amounts to in a frequency
_SHARPNESS_FLOOR = 1.0  # levels: what compression leaves in a flat picture
_DCT = np.cos(np.pi / SIDE * np.outer(np.arange(8), np.arange(SIDE) + 0.5)).astype(np.float32)
_LUMA = np.array((0.299, 0.587, 0.114), np.float32)


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Where pairs of pictures overlap and how far they differ there; every array has one entry per pair."""

    cropped: Floats  # largest part of a side that one picture shows and the other does not
    outside: Floats  # how far the smaller view reaches beyond the larger one, as a part of a side
    distance: npt.NDArray[np.int64]  # Hamming distance of the 64-bit perceptual hashes, without bits decided by noise
    difference: Floats  # largest difference of a channel's mean (0 to 255) over any patch of 4 x 4 cells
    sharpness: Floats  # how many times sharper one of them is (root mean square of the Laplacian)


def miniature(picture: Image.Image, orientation: int = 1) -> Pixels:
    """An opened picture as 32 x 32 RGB cells, [32, 32, 3], by the rule of ``to_rgb``; ``orientation`` as in EXIF.

    As Pillow with ``reducing_gap=2``, but large pictures are reduced strip by strip.
    """
    across, down = max(1, picture.width // (2 * SIDE)), max(1, picture.height // (2 * SIDE))
    box = (0, 0, picture.width / across, picture.height / down)
    small = reduced_rgb(picture, (across, down)).resize((SIDE, SIDE), Image.Resampling.HAMMING, box)
    return np.asarray(upright(small, orientation), np.uint8)


def perceptual_hash(mini: Pixels) -> str:
    """The 64-bit perceptual hash (DCT) of a miniature, 16 hex digits."""
    return str(imagehash.phash(Image.fromarray(mini)))


def cells(minis: Pixels, side: int) -> Floats:
    """Miniatures [n, 32, 32, 3] averaged to ``side`` x ``side`` cells, [n, side, side, 3]."""
    step = SIDE // side
    mean: Floats = minis.reshape(len(minis), side, step, side, step, 3).mean((2, 4), dtype=np.float32)
    return mean


def may_match(a: Pixels, b: Pixels, slack: int = 28) -> npt.NDArray[np.bool_]:
    """Whether one of each pair may be a crop of the other: a cheap test that true copies pass.

    A crop of some per cent moves nothing farther than to the next of 16 x 16 cells, so each cell of the crop lies in
    the range of the cells around it in the whole picture, except for noise (``slack`` levels) and 2 % of the cells.
    """
    small_a, small_b = cells(a, 16).astype(np.uint8), cells(b, 16).astype(np.uint8)
    return _within(small_a, small_b, slack) | _within(small_b, small_a, slack)


def register(a: Pixels, b: Pixels) -> Alignment:
    """Align pairs of miniatures, both [pairs, 32, 32, 3], and compare them where they overlap."""
    blurred_a, blurred_b = _blur(a.astype(np.float32)), _blur(b.astype(np.float32))
    half_a, half_b = _halve(blurred_a), _halve(blurred_b)
    transform = np.zeros((len(a), 4), np.float32)
    transform = _align(_halve(half_a), _halve(half_b), transform, _STEPS[0])
    transform = _align(half_a, half_b, transform, _STEPS[1])
    transform = _align(blurred_a, blurred_b, transform, _STEPS[2])
    warped, overlap = _warp(blurred_a, transform)
    residual = (blurred_b - warped) * overlap
    edges = _edges(transform)
    outward, inward = np.maximum(-edges.min(1), 0), np.maximum(edges.max(1), 0)
    sharp_a, sharp_b = _sharpness(a), _sharpness(b)
    return Alignment(
        cropped=np.maximum(outward, inward),
        outside=np.minimum(outward, inward),
        distance=_hamming(_low_frequencies(warped), _low_frequencies(blurred_b)),
        difference=np.abs(_patch_means(residual)).max((1, 2, 3)),
        sharpness=np.maximum(sharp_a / sharp_b, sharp_b / sharp_a),
    )


def _within(whole: Pixels, crop: Pixels, slack: int) -> npt.NDArray[np.bool_]:
    around = np.pad(whole, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    rows = np.maximum(np.maximum(around[:, :-2], around[:, 1:-1]), around[:, 2:])
    most = np.maximum(np.maximum(rows[:, :, :-2], rows[:, :, 1:-1]), rows[:, :, 2:])
    rows = np.minimum(np.minimum(around[:, :-2], around[:, 1:-1]), around[:, 2:])
    least = np.minimum(np.minimum(rows[:, :, :-2], rows[:, :, 1:-1]), rows[:, :, 2:])
    beyond = np.maximum(np.maximum(crop, most) - most, least - np.minimum(crop, least)).max(3)
    fits: npt.NDArray[np.bool_] = (beyond > slack).mean((1, 2)) <= 0.02
    return fits


def _align(a: Floats, b: Floats, transform: Floats, steps: int) -> Floats:
    """Gauss-Newton on |b(u) - a(transform(u))|^2; a transform is (zoom, shift) in y and x, for sides of length 2."""
    side = a.shape[1]
    u = ((np.arange(side) + 0.5) / side * 2 - 1).astype(np.float32)
    for _ in range(steps):
        warped, overlap = _warp(a, transform)
        slope_y, slope_x = (np.gradient(warped, axis=axis) * (side / 2) * overlap for axis in (1, 2))
        error = ((b - warped) * overlap).reshape(len(a), -1, 1)
        columns = (slope_y * u[None, :, None, None], slope_y, slope_x * u[None, None, :, None], slope_x)
        jacobian = np.stack([column.reshape(len(a), -1) for column in columns], 1)
        normal = jacobian @ jacobian.transpose(0, 2, 1)
        # A flat picture fits everywhere: the damping then leaves the transform where it is.
        damping = 2.5e-4 * np.trace(normal, axis1=1, axis2=2) + 1e-3
        normal[:, range(4), range(4)] += damping[:, None]
        step = np.linalg.solve(normal, jacobian @ error)[..., 0]
        transform = np.clip(transform + np.clip(step, -0.08, 0.08), -0.2, 0.2)
    return transform


def _warp(a: Floats, transform: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """``a`` resampled by the transform, and which of these cells lie in ``a``."""
    side = a.shape[1]
    u = (np.arange(side) + 0.5) / side * 2 - 1
    at_y, at_x = (
        (((1 + transform[:, n : n + 1]) * u + transform[:, n + 1 : n + 2] + 1) * side / 2 - 0.5).astype(np.float32)
        for n in (0, 2)
    )
    in_y, in_x = ((at > -0.75) & (at < side - 0.25) for at in (at_y, at_x))
    warped = _sample(_sample(a, at_y).swapaxes(1, 2), at_x).swapaxes(1, 2)
    return warped, (in_y[:, :, None] & in_x[:, None, :])[..., None]


def _sample(a: Floats, at: Floats) -> Floats:
    """Rows of ``a`` [n, rows, ...] at the fractional positions ``at`` [n, positions], interpolated linearly."""
    at = np.clip(at, 0, a.shape[1] - 1)
    low = np.minimum(at.astype(np.int64), a.shape[1] - 2)
    part = (at - low).astype(np.float32)[:, :, None, None]
    index = np.arange(len(a))[:, None]
    mixed: Floats = a[index, low] * (1 - part) + a[index, low + 1] * part
    return mixed


def _edges(transform: Floats) -> Floats:
    """How far inside ``a`` the four edges of ``b`` lie, as parts of a side (negative: outside), [n, 4]."""
    pairs = [(transform[:, n], transform[:, n + 1]) for n in (0, 2)]
    return np.stack([edge for zoom, shift in pairs for edge in ((shift - zoom) / 2, (-shift - zoom) / 2)], 1)


def _blur(a: Floats) -> Floats:
    """Blur by 1 2 1 in both directions: removes detail too fine to be sampled the same way twice."""
    for axis in (1, 2):
        pad = [(0, 0)] * 4
        pad[axis] = (1, 1)
        wide: Any = np.moveaxis(np.pad(a, pad, mode="edge"), axis, 1)
        a = np.moveaxis((wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]) / 4, 1, axis)
    return np.ascontiguousarray(a)


def _halve(a: Floats) -> Floats:
    small: Floats = (a[:, ::2, ::2] + a[:, 1::2, ::2] + a[:, ::2, 1::2] + a[:, 1::2, 1::2]) * np.float32(0.25)
    return small


def _patch_means(a: Floats) -> Floats:
    """Means over all patches of 4 x 4 cells, at every offset, by cumulative sums."""
    sums = np.pad(a, ((0, 0), (1, 0), (1, 0), (0, 0))).cumsum(1, dtype=np.float64).cumsum(2)
    p = PATCH
    patches: Any = sums[:, p:, p:] - sums[:, :-p, p:] - sums[:, p:, :-p] + sums[:, :-p, :-p]
    return (patches / (p * p)).astype(np.float32)


def _sharpness(minis: Pixels) -> Floats:
    grey = np.pad(minis.mean(3, dtype=np.float32), ((0, 0), (1, 1), (1, 1)), mode="edge")
    middle = 4 * grey[:, 1:-1, 1:-1]
    laplacian = middle - grey[:, :-2, 1:-1] - grey[:, 2:, 1:-1] - grey[:, 1:-1, :-2] - grey[:, 1:-1, 2:]
    rms: Floats = np.sqrt((laplacian**2).mean((1, 2))) + _SHARPNESS_FLOOR
    return rms


def _low_frequencies(a: Floats) -> Floats:
    """The 64 lowest frequencies of the luminance above their median: their signs are the perceptual hash, [n, 64]."""
    low = (_DCT @ (a @ _LUMA) @ _DCT.T).reshape(len(a), -1)
    above: Floats = low - np.median(low, axis=1, keepdims=True)
    return above


def _hamming(a: Floats, b: Floats) -> npt.NDArray[np.int64]:
    clear = (np.abs(a) > _HASH_NOISE) & (np.abs(b) > _HASH_NOISE)
    different: npt.NDArray[np.int64] = (((a > 0) != (b > 0)) & clear).sum(1)
    return different
