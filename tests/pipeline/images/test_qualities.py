"""Measures of a picture tell what they say they tell, alike at any size."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from surd.pipeline.images.qualities import colourfulness, entropy, open_qualities, sharpness
from surd.pretrained.text_area import load_text_detector, text_area
from surd.pretrained.watermark import load_watermark_detector, new_watermark_network
from surd.schemas import SurdError
from surd.schemas.config import ScoreConfig


@pytest.fixture
def picture():
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).resize(
        (512, 384), Image.Resampling.BICUBIC
    )


@pytest.fixture
def photo():
    """A smooth scene without any letter."""
    across, down = np.meshgrid(np.linspace(0, 6, 600), np.linspace(0, 4, 400))
    waves = np.stack([np.sin(across + down), np.sin(across * 1.3 - down), np.cos(down * 2 + across / 3)], -1)
    return Image.fromarray((127 + 90 * waves).astype(np.uint8))


def test_blur_lowers_sharpness_and_one_colour_has_none(picture):
    values = [sharpness(picture.filter(ImageFilter.GaussianBlur(radius))) for radius in (0, 1, 2, 4)]
    assert values == sorted(values, reverse=True) and values[0] > values[1] > 0
    assert sharpness(Image.new("RGB", (9, 1), "red")) == 0


def test_grey_pictures_have_no_colour_and_flat_ones_no_entropy(picture, photo):
    assert colourfulness(photo) > 60 > 4 > colourfulness(photo.convert("L").convert("RGB"))
    assert colourfulness(Image.new("RGB", (8, 8), (90, 90, 90))) == 0 == entropy(Image.new("RGB", (8, 8), "red"))
    half = Image.new("L", (64, 64))
    half.paste(255, (0, 0, 32, 64))
    assert entropy(half) == pytest.approx(1) and entropy(photo) > 6
    for measure in (colourfulness, entropy):
        larger = photo.resize((2 * photo.width, 2 * photo.height), Image.Resampling.BICUBIC)
        assert measure(larger) == pytest.approx(measure(photo), rel=0.05)


def test_measuring_changes_no_picture(photo):
    large = photo.resize((1200, 800))
    before = large.tobytes()
    for measure in (sharpness, colourfulness, entropy, text_area):
        measure(large)
    assert large.size == (1200, 800) and large.tobytes() == before


def test_text_area_is_about_the_share_that_letters_take(photo):
    assert text_area(photo) == 0
    for size, text in ((18, "stock-photo.example"), (60, "BIG TITLE")):
        written = photo.copy()
        draw, font = ImageDraw.Draw(written), ImageFont.load_default(size)
        draw.text((40, 300), text, fill="white", font=font)
        left, top, right, bottom = draw.textbbox((40, 300), text, font=font)
        share = (right - left) * (bottom - top) / (photo.width * photo.height)
        assert share / 2 < text_area(written) < 3 * share
        turned = written.rotate(90, expand=True)
        assert share / 3 < text_area(turned) < 4 * share
    assert text_area(Image.new("RGB", (1, 4000), "white")) == 0


def test_a_missing_detector_is_one_sentence_before_anything_is_measured(monkeypatch):
    monkeypatch.setattr("surd.pretrained.text_area.PACKAGE", "no_such_package")
    load_text_detector.cache_clear()
    try:
        with pytest.raises(SurdError, match=r"text-area: .*not installed; pip install --no-deps rapidocr-onnxruntime"):
            open_qualities(ScoreConfig(quality=["text-area"]))
    finally:
        load_text_detector.cache_clear()


def test_a_watermark_detector_of_the_published_shape_is_read_and_gives_the_networks_probability(photo, tmp_path):
    torch.manual_seed(0)
    network = new_watermark_network()
    torch.save(network.state_dict(), tmp_path / "watermark_model_v1.pt")
    quality = open_qualities(ScoreConfig(watermark=str(tmp_path / "watermark_model_v1.pt")))["watermark"]
    pixels = torch.tensor(np.asarray(photo.resize((256, 256), Image.Resampling.BILINEAR), np.float32)).permute(2, 0, 1)
    mean, deviation = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected = network(((pixels / 255 - mean) / deviation)[None]).softmax(-1)[0, 0]
    assert quality.measure(photo) == pytest.approx(float(expected), abs=1e-5)
    assert len(quality.identity) == 64


@pytest.mark.parametrize("content", [b"no weights", {"other": torch.zeros(2)}, [1, 2]])
def test_a_file_of_other_weights_is_one_sentence(tmp_path, content):
    file = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(SurdError, match=r"score.watermark is .*weights.pt.*; give") as refused:
        load_watermark_detector(str(file))
    assert "\n" not in str(refused.value)


def test_only_what_is_asked_for_is_measured():
    assert open_qualities(ScoreConfig()) == {}
    assert list(open_qualities(ScoreConfig(quality=["sharpness", "sharpness", "clip-iqa"]))) == ["sharpness"]
