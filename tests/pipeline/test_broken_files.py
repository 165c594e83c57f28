"""Files made to hurt end with a reason, and kinds of pictures follow one stated rule."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from PIL import Image

from pipeline.inspect_image import inspect
from pipeline.pixels import to_rgb
from pipeline.refusal import Refused
from schemas import Reason
from schemas.config import FetchConfig
from tests.pipeline.fetching import picture


def saved(image: Image.Image, format_: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("tail", [b"PK\x03\x04rest", b"<script>", b"%PDF-1.7", b"junk PK\x05\x06" + bytes(18)])
def test_an_image_with_another_file_behind_it_is_a_polyglot(format_, tail):
    with pytest.raises(Refused) as refused:
        inspect(picture(format_) + tail, FetchConfig())
    assert refused.value.reason is Reason.POLYGLOT


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP"])
def test_padding_and_text_behind_an_image_are_no_polyglot(format_):
    for tail in (b"", bytes(100), b'{"prompt": "a fox"}'):
        assert inspect(picture(format_) + tail, FetchConfig())[0]["width"] == 48


def test_sixteen_bits_cmyk_and_alpha_come_out_as_the_rule_says():
    grey = to_rgb(saved(Image.fromarray(np.full((4, 4), 0x8040, np.uint16)), "PNG"))
    assert grey.mode == "RGB" and grey.getpixel((0, 0)) == (0x80, 0x80, 0x80)
    assert to_rgb(saved(Image.new("CMYK", (4, 4), (0, 0, 0, 0)), "JPEG")).getpixel((0, 0)) == (255, 255, 255)
    noise = Image.frombytes("RGBA", (64, 600), random.Random(0).randbytes(64 * 600 * 4))
    whole = Image.alpha_composite(Image.new("RGBA", noise.size, "white"), noise).convert("RGB")
    assert to_rgb(saved(noise, "PNG")).tobytes() == whole.tobytes()
