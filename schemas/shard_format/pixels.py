"""The one rule from an image file to 8-bit RGB pixels, and the crop that diffusion models are trained on.

Everything that looks at a picture uses it: hashes, models, columns, the report, `surd verify` and the trainer.
"""

from __future__ import annotations

import io
import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from surd.schemas.shard_format.complete import complete_jpeg, restate_size
from surd.schemas.shard_format.container import strip_metadata
from surd.schemas.shard_format.exif import orientation

_STRIP = 64  # rows
#: What Pillow raises on bytes that are not an image, or a damaged or far too large one.
UNDECODABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
_TURN = Image.Transpose
_UPRIGHT = {
    2: _TURN.FLIP_LEFT_RIGHT,
    3: _TURN.ROTATE_180,
    4: _TURN.FLIP_TOP_BOTTOM,
    5: _TURN.TRANSPOSE,
    6: _TURN.ROTATE_270,
    7: _TURN.TRANSVERSE,
    8: _TURN.ROTATE_90,
}
SWAPS_AXES = (5, 6, 7, 8)  # orientations in which width and height change places


def to_rgb(data: bytes) -> Image.Image:
    """Decode by one rule for every kind of image: 8-bit RGB, as a browser on a white page would show it.

    Of an animation the first frame; turned upright by its EXIF orientation; transparency over white; of 16 bits a
    channel the upper 8; palettes and grey as their colours; CMYK by Pillow's formula (colour profiles are not applied).
    A file that lacks only its end is whole (``shard_format.complete``).
    At most 8 bytes a pixel are in memory. Raises UNDECODABLE.
    """
    with open_image(complete_jpeg(data)) as image:
        return upright_rgb(image, orientation(data))


def square(picture: Image.Image, size: int) -> npt.NDArray[np.uint8]:
    """The picture resized (Lanczos) so that its shorter side fits, and centre-cropped: [size, size, 3]."""
    return covering(picture, (size, size))


def covering(picture: Image.Image, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """The picture resized (Lanczos) to just cover this width and height, and centre-cropped: [height, width, 3]."""
    return np.asarray(ImageOps.fit(picture, size, Image.Resampling.LANCZOS))


def open_image(data: bytes, formats: tuple[str, ...] | None = None) -> Image.Image:
    """The picture of a file with its header read and its pixels not yet; of its texts and profiles Pillow sees none."""
    return Image.open(io.BytesIO(strip_metadata(restate_size(data))), formats=formats)


def upright_rgb(image: Image.Image, orientation: int) -> Image.Image:
    """An opened picture by the rule of ``to_rgb``, and closes it; ``orientation`` as EXIF counts."""
    picture = reduced_rgb(image, (1, 1))
    if picture is not image:
        image.close()  # its pixels: turning needs the room
    return upright(picture, orientation)


def upright(picture: Image.Image, orientation: int) -> Image.Image:
    """A picture turned as its EXIF orientation asks."""
    return picture.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else picture


def reduced_rgb(image: Image.Image, factor: tuple[int, int]) -> Image.Image:
    """An opened picture by the rule of ``to_rgb``, not turned; of so many pixels across and down one, their mean.

    Strip by strip: whole layers of a large image would take twice the memory.
    """
    image.load()
    if image.mode == "RGB":
        return image if factor == (1, 1) else image.reduce(factor)
    across, down = factor
    small = Image.new("RGB", (math.ceil(image.width / across), math.ceil(image.height / down)))
    rows = math.ceil(_STRIP / down) * down
    for top in range(0, image.height, rows):
        strip = _rgb(image.crop((0, top, image.width, min(top + rows, image.height))))
        small.paste(strip if factor == (1, 1) else strip.reduce(factor), (0, top // down))
    return small


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # convert() would clip what is above 255 to white
        return _upper_eight_bits(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        return _over_white(image)
    return image.convert("RGB")


def _over_white(strip: Image.Image) -> Image.Image:
    layer = strip.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _upper_eight_bits(strip: Image.Image) -> Image.Image:
    return Image.fromarray((np.asarray(strip).clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
