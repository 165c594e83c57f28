"""Where the config asks, fetch keeps smaller JPEGs; what the files said of themselves is in the rows all the same."""

import hashlib
import io
import threading

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from surd.pipeline.build.folder import Build
from surd.pipeline.deduplication.registration import miniature
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.stages import BY_NAME
from surd.pipeline.stages.decode import decode_miniature
from surd.schemas import Reason
from tests.pipeline.fetching import collected, from_folder, picture, reasons, rows

pytest_plugins = ["tests.pipeline.served"]

PROMPT = "a red fox, watercolour"


def gradient(width, height, format_="PNG", **options) -> bytes:
    """A smooth picture, which survives JPEG almost unchanged."""
    across = np.broadcast_to(np.linspace(0, 255, width), (height, width))
    down = np.broadcast_to(np.linspace(0, 255, height)[:, None], (height, width))
    buffer = io.BytesIO()
    Image.fromarray(np.stack([across, down, 255 - across], -1).astype(np.uint8)).save(buffer, format_, **options)
    return buffer.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def test_a_smaller_jpeg_is_kept_and_the_row_knows_it_and_the_original(tmp_path):
    info = PngInfo()
    info.add_text("parameters", f"{PROMPT}\nSteps: 20, Sampler: Euler")
    files = {
        "wide.png": gradient(400, 200, pnginfo=info),
        "turned.jpg": gradient(300, 150, "JPEG", quality=95, exif=turned(6)),
        "small.webp": gradient(64, 48, "WEBP", lossless=True),
        "cut.jpg": gradient(400, 200, "JPEG")[:900],
    }
    found = from_folder(tmp_path, files, image_size=100, quality=90)
    assert reasons(found) == {"wide.png": None, "turned.jpg": None, "small.webp": None, "cut.jpg": Reason.BROKEN_IMAGE}
    assert found["wide.png"].prompt == PROMPT
    build = Build(str(tmp_path / "build"))
    for name, size, before in (("wide.png", (100, 50), (400, 200)), ("turned.jpg", (50, 100), (150, 300)),
                               ("small.webp", (64, 48), (64, 48))):  # fmt: skip
        row = found[name]
        (data,) = build.images(0, [row])
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.size) == ("JPEG", size)
            shown = miniature(image)
        assert (row.ext, row.width, row.height, row.size) == ("jpg", *size, len(data))
        assert row.sha256 == hashlib.sha256(data).hexdigest()
        assert row.original_sha256 == hashlib.sha256(files[name]).hexdigest()
        assert (row.original_width, row.original_height) == before
        as_it_was = decode_miniature(files[name], name[-4:].strip("."), before, 10**6)
        assert np.abs(shown.astype(int) - as_it_was).mean() < 3, f"{name} shows the same"


def test_original_bytes_are_kept_unless_the_config_asks(tmp_path):
    data = gradient(400, 200, "JPEG")
    (row,) = from_folder(tmp_path, {"a.jpg": data}).values()
    assert [*Build(str(tmp_path / "build")).images(0, [row])] == [data] and row.original_sha256 is None


def test_a_partition_that_runs_again_recodes_no_picture_twice_and_asks_for_none_again(tmp_path, serve):
    mended = threading.Event()

    def answer(request):
        later = request.path == "/b" and not mended.is_set()
        request.send(503 if later else 200, gradient(300, 200, "JPEG"), "image/jpeg")

    server = serve(answer)
    config = collected(tmp_path, server, ["/a", "/b"], image_size=100, retries=0)
    run_unit(BY_NAME["fetch"], 0, str(tmp_path), config)
    (first, _), asked = rows(tmp_path), len(server.requests)
    mended.set()
    run_unit(BY_NAME["fetch"], 0, str(tmp_path), config)
    assert rows(tmp_path)[0] == first and rows(tmp_path)[1].sha256 == first.sha256
    assert server.requests[asked:] == ["/b"]


def test_damage_shows_at_every_scale(tmp_path):
    data = picture("JPEG", (512, 384), quality=90)
    files = {f"{tenth}.jpg": data[: len(data) * tenth // 10] for tenth in range(1, 10)}
    assert set(reasons(from_folder(tmp_path, files)).values()) == {Reason.BROKEN_IMAGE}
