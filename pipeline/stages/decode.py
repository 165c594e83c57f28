"""Stage decode: proof that every image decodes to its end; miniatures and perceptual hashes."""

from __future__ import annotations

import io
import os
from functools import partial

import numpy as np

from surd.pipeline import untrusted_json
from surd.pipeline.batching import prefetch
from surd.pipeline.build.folder import Build, part_miniatures
from surd.pipeline.build.rows import StageRows
from surd.pipeline.deduplication.registration import SIDE, Pixels, miniature, perceptual_hash
from surd.pipeline.images.header import Header
from surd.pipeline.images.safe_decode import decoded, rejecting_decode_errors
from surd.pipeline.models import Models
from surd.pipeline.rejection import Rejected
from surd.schemas import BuildConfig, Decoded, Pair
from surd.schemas.shard_format.exif import orientation
from surd.schemas.shard_format.pixels import SWAPS_AXES

_ENOUGH = (2 * SIDE, 2 * SIDE)  # pixels needed for a miniature


def decode(build: Build, part: int, config: BuildConfig, models: Models) -> list[Decoded]:
    """One partition's pictures, decoded on every core: rows with the hash, or the reason why decoding failed.

    Beside the rows lie the miniatures that dedup compares, uint8 [rows, 32, 32, 3], black where a row was not kept.
    """
    pairs = build.read_rows("fetch", part, Pair)
    decodings = StageRows(Decoded, pairs)
    kept = decodings.of_kept(pairs)
    files = zip(kept, build.images(part, kept), strict=True)
    results = prefetch(partial(_decode, config.fetch.max_pixels), files, 2 * (os.cpu_count() or 1))
    miniatures = np.zeros((len(pairs), SIDE, SIDE, 3), np.uint8)
    for at, result in zip(decodings.kept, build.progress.counted(results, len(kept)), strict=True):
        if isinstance(result, Rejected):
            decodings.reject(at, "decode", result.reason, untrusted_json.to_text(result.detail))
            continue
        miniatures[at] = result
        decodings.set(at, phash=perceptual_hash(result))
    array = io.BytesIO()
    np.save(array, miniatures, allow_pickle=False)
    build.write_bytes(part_miniatures(part), array.getvalue())
    return decodings.rows


def _decode(max_pixels: int, file: tuple[Pair, bytes]) -> Pixels | Rejected:
    pair, data = file
    assert pair.ext and pair.width and pair.height, "fetch inspects what it keeps"
    try:
        return decode_miniature(data, pair.ext, (pair.width, pair.height), max_pixels)
    except Rejected as rejected:
        return rejected


def decode_miniature(data: bytes, ext: str, size: tuple[int, int], max_pixels: int) -> Pixels:
    """The miniature of a complete picture of this width and height (upright). Raises Rejected."""
    with rejecting_decode_errors():
        exif = orientation(data)
    header = Header(*(size[::-1] if exif in SWAPS_AXES else size))
    with decoded(data, header, ext, max_pixels, _ENOUGH) as image:
        return miniature(image, exif)
