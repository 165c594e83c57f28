"""Whatever bytes a picture has: it is sent as something every server decodes, or there is a reason."""

import base64
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from surd.pipeline.models.sent_picture import SentPicture, UnreadablePicture
from tests.fuzz import FUZZED
from tests.pipeline.models.vision_service import stored

LONGEST = 40
FILES = [
    stored(Image.new(mode, (50, 20)), kind)
    for kind, modes in {
        "PNG": ("RGB", "L", "RGBA", "P", "I;16"), "JPEG": ("RGB", "L", "CMYK"), "WEBP": ("RGB", "RGBA"), "GIF": ("P",),
        "BMP": ("RGB",),
    }.items()
    for mode in modes
]  # fmt: skip


def sent(picture):
    """The picture that a server decodes, or None for a reason."""
    try:
        url = picture.stored_url() or picture.encoded_url()
    except UnreadablePicture as why:
        assert str(why) == "the picture cannot be decoded"
        return None
    kind, _, data = url.partition(b";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
    assert kind == b"data:image/" + image.format.lower().encode()
    return image


@pytest.mark.parametrize("data", FILES)
@pytest.mark.parametrize("longest", [LONGEST, 60])
def test_every_kind_of_file_is_sent_as_jpeg_or_png_that_fits(data, longest):
    image = sent(SentPicture(data, longest))
    assert image.size == (min(50, longest), 20 * min(50, longest) // 50)
    assert image.format in ("PNG", "JPEG") and image.mode in ("RGB", "L")


def test_a_picture_is_halved_once_and_keeps_its_name():
    picture = SentPicture(Image.new("RGB", (100, 100)), 1024)
    name, before = picture.name, sent(picture).size
    assert picture.halve() and not picture.halve()
    assert (before, sent(picture).size, picture.name) == ((100, 100), (50, 50), name)
    small = SentPicture(stored(Image.new("RGB", (40, 40))), 1024)
    assert sent(small).size == (40, 40) and not small.halve()


@st.composite
def damaged(draw):
    data = bytearray(draw(st.sampled_from(FILES)))
    for _ in range(draw(st.integers(1, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@pytest.mark.fuzz
@FUZZED
@given(st.one_of(st.binary(max_size=100), damaged()))
def test_any_bytes_are_a_picture_or_a_reason(data):
    image = sent(SentPicture(data, LONGEST))
    assert image is None or max(image.size) <= LONGEST
