"""One rule for pixels: pipeline, trainer, latents column, report and verify see the same picture of every odd file."""

import base64
import hashlib
import io
import zlib

import numpy as np
import pytest
from PIL import Image

from sur_adapter import ShardDataset
from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.columns.compute import latent_arrays
from surd.pipeline.dataset.columns.spec import ColumnSpec
from surd.pipeline.dataset.verify.dataset import read_manifests, verify
from surd.pipeline.models import Models
from surd.pipeline.report.entries import thumbnail
from surd.schemas import BuildConfig, Sample, ShardInfo, ShardManifest
from surd.schemas.shard_format.pixels import to_rgb
from surd.schemas.shard_format.tar import add_member, tar_writer

SIDE = 64  # pixels, that of the embedded diffusion model's pictures: nothing is resized anywhere
KEY = "00112233aabbccdd"
RED, GREEN, WHITE = (200, 30, 30), (30, 160, 60), (255, 255, 255)


def halves(left, right) -> np.ndarray:
    """A picture whose left half has one colour and whose right half another, uint8 [SIDE, SIDE, 3]."""
    picture = np.empty((SIDE, SIDE, 3), np.uint8)
    picture[:, : SIDE // 2], picture[:, SIDE // 2 :] = left, right
    return picture


def saved(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def with_alpha(left, right, alpha) -> np.ndarray:
    transparency = np.empty((SIDE, SIDE, 1), np.uint8)
    transparency[:, : SIDE // 2], transparency[:, SIDE // 2 :] = alpha
    return np.concatenate([halves(left, right), transparency], axis=2)


def sixteen_bits():
    grey = np.repeat(np.linspace(0, 65535, SIDE).astype(np.uint16)[None], SIDE, axis=0)
    return saved(Image.fromarray(grey), "PNG"), np.repeat((grey >> 8).astype(np.uint8)[:, :, None], 3, axis=2)


def grey_and_alpha():
    data = with_alpha((90,) * 3, (90,) * 3, (255, 0))[:, :, [0, 3]]
    return saved(Image.fromarray(data, "LA"), "PNG"), halves((90,) * 3, WHITE)


def transparent_palette():
    image = Image.fromarray(halves(RED, GREEN)).quantize(4)
    at = image.getpixel((0, 0))
    return saved(image, "PNG", transparency=at), halves(WHITE, np.asarray(image.convert("RGB"))[0, -1])


def cmyk():
    image = Image.fromarray(halves(RED, GREEN)).convert("CMYK")
    data = saved(image, "JPEG", quality=95)
    return data, np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def lying_on_its_side():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(halves(RED, GREEN)), "JPEG", quality=95, exif=exif.tobytes())
    return data, np.rot90(np.asarray(Image.open(io.BytesIO(data))), -1)


def animated():
    frames = [Image.fromarray(halves(RED, GREEN)), Image.fromarray(halves(GREEN, RED))]
    data = saved(frames[0], "WEBP", lossless=True, save_all=True, append_images=frames[1:], duration=100)
    return data, halves(RED, GREEN)


def text_bomb():
    """A small PNG whose text chunk unpacks to more than Pillow allows."""
    plain = saved(Image.fromarray(halves(RED, GREEN)), "PNG")
    body = b"Comment\0\0" + zlib.compress(bytes(1_100_000))
    chunk = len(body).to_bytes(4, "big") + b"zTXt" + body + zlib.crc32(b"zTXt" + body).to_bytes(4, "big")
    data = plain[:33] + chunk + plain[33:]
    with pytest.raises(ValueError, match="ecompressed"):
        Image.open(io.BytesIO(data)).load()
    return data, halves(RED, GREEN)


ODD = (sixteen_bits, grey_and_alpha, transparent_palette, cmyk, lying_on_its_side, animated, text_bomb)


@pytest.fixture(params=ODD, ids=lambda make: make.__name__)
def odd(request, tmp_path):
    """A dataset of one sample, its image's bytes, and the pixels that everybody should see."""
    data, pixels = request.param()
    ext = {b"\x89": "png", b"\xff": "jpg", b"R": "webp"}[data[:1]]
    sample = Sample(
        key=KEY, simple="A wall.", complex="wall, 8k", method="caption", ext=ext, width=SIDE, height=SIDE,
        sha256=hashlib.sha256(data).hexdigest(), source="folder:x", source_id="x",
    )  # fmt: skip
    build = Build(str(tmp_path / "build"))
    with build.writing("shards/surd-00000.tar") as file, tar_writer(file) as tar:
        add_member(tar, f"{KEY}.{ext}", data)
        add_member(tar, f"{KEY}.simple.txt", sample.simple.encode())
        add_member(tar, f"{KEY}.complex.txt", sample.complex.encode())
        add_member(tar, f"{KEY}.json", sample.model_dump_json().encode())
    shard = ShardInfo(name="surd-00000.tar", count=1, bytes=file.size, sha256=file.sha256)
    build.write_json("shards/manifest.json", ShardManifest(count=1, diffusion="none", shards=[shard]))
    return build, data, pixels


def test_the_pipelines_models_and_hashes(odd):
    _, data, pixels = odd
    assert np.array_equal(np.asarray(to_rgb(data)), pixels)


def test_the_trainer(odd):
    build, _, pixels = odd
    loader = ShardDataset(build.path("shards/surd-00000.tar")).loader(batch_size=1, image_size=SIDE, seed=0, epochs=1)
    (batch,) = loader
    seen = ((batch.images_BCHW[0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
    assert np.array_equal(seen, pixels)


def test_the_latents_column(odd, monkeypatch):
    build, _, pixels = odd
    config = BuildConfig()
    models, seen = Models(config.models), []
    encoders = models.diffusion
    assert encoders.image_size == SIDE
    latents = encoders.latents
    monkeypatch.setattr(encoders, "latents", lambda pictures: seen.extend(pictures) or latents(pictures))
    column = ColumnSpec(kind="latents", model=config.models.diffusion)
    assert len(list(latent_arrays([column], build, "surd-00000.tar", config.embed, models))) == 1
    assert np.array_equal(seen[0], pixels)


def test_the_report(odd):
    _, data, pixels = odd
    uri = thumbnail(data, SIDE)
    assert uri is not None
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))
    assert np.abs(shown.astype(int) - pixels).mean() < 8  # WebP of quality 70


def test_verify(odd):
    build, *_ = odd
    manifests = read_manifests(build)
    assert [finding for checked in verify(build, manifests) for finding in checked.findings] == []
