"""decode: turns fetched bytes into proof that they are a picture to their end, a miniature and a perceptual hash."""

from __future__ import annotations

import io
import os
from functools import partial

import numpy as np

from pipeline import foreign_json
from pipeline.build import Build, part_miniatures
from pipeline.decoding import decoded
from pipeline.header import Header
from pipeline.metadata.exif import orientation
from pipeline.models import Models
from pipeline.pixels import SIDEWAYS, ahead
from pipeline.refusal import Refused
from pipeline.twins.look_alike import SIDE, Pixels, miniature, perceptual_hash
from schemas import Decoded, Pair
from schemas.config import FetchConfig

_ENOUGH = (2 * SIDE, 2 * SIDE)  # pixels to make a miniature of


def decode(build: Build, part: int, settings: FetchConfig, models: Models) -> list[Decoded]:
    """One partition's pictures, decoded on every core: rows with the hash, or the reason why there is no picture.

    Beside the rows lie the miniatures that dedup compares, uint8 [rows, 32, 32, 3], black where a row was not kept.
    """
    pairs = build.read_rows("fetch", part, Pair)
    rows = [Decoded(**pair.verdict()) for pair in pairs]
    kept = [at for at, pair in enumerate(pairs) if pair.kept]
    files = zip([pairs[at] for at in kept], build.images(part, [pairs[at] for at in kept]), strict=True)
    looks = ahead(partial(_look, settings.max_pixels), files, 2 * (os.cpu_count() or 1))
    miniatures = np.zeros((len(rows), SIDE, SIDE, 3), np.uint8)
    for at, look in zip(kept, looks, strict=True):
        if isinstance(look, Refused):
            rows[at] = rows[at].reject("decode", look.reason, foreign_json.text_of(look.detail))
            continue
        miniatures[at] = look
        rows[at] = rows[at].model_copy(update={"phash": perceptual_hash(look)})
    array = io.BytesIO()
    np.save(array, miniatures, allow_pickle=False)
    build.write_bytes(part_miniatures(part), array.getvalue())
    return rows


def _look(max_pixels: int, file: tuple[Pair, bytes]) -> Pixels | Refused:
    pair, data = file
    assert pair.ext and pair.width and pair.height, "fetch looked at what it kept"
    try:
        return look(data, pair.ext, (pair.width, pair.height), max_pixels)
    except Refused as refused:
        return refused


def look(data: bytes, ext: str, size: tuple[int, int], max_pixels: int) -> Pixels:
    """The miniature of a picture that is whole and, turned upright, of this width and height. Raises Refused."""
    turned = orientation(data)
    header = Header(*(size[::-1] if turned in SIDEWAYS else size))
    with decoded(data, header, ext, max_pixels, _ENOUGH) as image:
        return miniature(image, turned)
