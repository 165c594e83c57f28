"""fetch keeps original bytes of real images and gives everything else a reason."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib

import pytest
from PIL import Image, PngImagePlugin

from surd.pipeline.build.folder import Build
from surd.pipeline.models import Models
from surd.pipeline.sources import open_source
from surd.pipeline.stages.collect import collect
from surd.schemas import BuildConfig, Reason
from surd.schemas.config import ModelsConfig
from tests.pipeline.fetching import decodings, from_folder, from_server, picture, reasons, run

pytest_plugins = ["tests.pipeline.served"]

PARAMETERS = "a fox, best quality\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, Seed: 7"


def with_text(**texts: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword, text)
    return picture(pnginfo=info)


def test_original_bytes_lie_in_the_tar_under_their_key_and_at_their_offset(tmp_path):
    files = {f"{number}.{ext}": picture(format_, seed=number) for number, (ext, format_) in enumerate(
        [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP"), ("png", "PNG")])}  # fmt: skip
    rows = from_folder(tmp_path, {**files, "2b.txt": b"no image"})
    kept = {name: row for name, row in rows.items() if row.kept}
    assert {name: row.ext for name, row in kept.items()} == {name: name.split(".")[1] for name in files}
    assert [*Build(str(tmp_path / "build")).images(0, kept.values())] == [files[name] for name in kept]
    with tarfile.open(tmp_path / "build/fetch/part-00000.tar") as tar:
        assert tar.getnames() == [f"{row.key}.{row.ext}" for row in kept.values()]


def test_fetching_twice_gives_the_same_bytes(tmp_path):
    files = {
        "a.png": with_text(parameters=PARAMETERS),
        "b.txt": b"text",
        "c.jpg": picture("JPEG")[:300],
        "d.png": picture()[:12],
    }
    tars, rows = [], []
    for _ in range(2):
        rows.append(from_folder(tmp_path, files))
        tars.append((tmp_path / "build/fetch/part-00000.tar").read_bytes())
    assert tars[0] == tars[1] and rows[0] == rows[1]
    assert rows[0]["d.png"].reason is Reason.BROKEN_IMAGE


def test_rows_know_hash_size_and_the_prompt_of_the_file(tmp_path):
    row = from_folder(tmp_path, {"a.png": with_text(parameters=PARAMETERS)})["a.png"]
    assert (row.prompt, row.negative_prompt, row.prompt_origin) == ("a fox, best quality", "blurry", "file")
    assert row.tool == "AUTOMATIC1111" and json.loads(row.params)["Seed"] == "7"
    assert (row.width, row.height) == (48, 32) and len(row.sha256) == 64


def test_the_sources_prompt_goes_before_the_files_for_both_prompts(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/pairs.jsonl").write_text(
        '{"image": "a.png", "prompt": "said", "negative_prompt": "also said"}\n{"image": "b.png", "prompt": "said"}\n'
        '{"image": "c.png", "prompt": " "}\n'
    )
    rows = from_folder(tmp_path, {name: with_text(parameters=PARAMETERS) for name in ("a.png", "b.png", "c.png")})
    assert [(row.prompt, row.negative_prompt, row.prompt_origin) for row in rows.values()] == [
        ("said", "also said", "source"),
        ("said", "blurry", "source"),
        ("a fox, best quality", "blurry", "file"),
    ]


def test_a_png_without_metadata_is_kept_without_a_prompt(tmp_path):
    row = from_folder(tmp_path, {"a.png": picture()})["a.png"]
    assert row.kept and row.prompt is None and row.prompt_origin is None and row.tool is None


def test_a_folder_of_text_files_is_rows_with_a_reason(tmp_path):
    rows = from_folder(tmp_path, {"a.txt": b"words", "b.md": b"<html>", "c.png": b"not a png", "d.jpg": b""})
    assert set(reasons(rows).values()) == {Reason.NOT_AN_IMAGE}
    assert "empty" in rows["d.jpg"].detail and "HTML" in rows["b.md"].detail


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_an_image_cut_anywhere_is_broken_and_never_half_kept(tmp_path, format_):
    data = picture(format_, size=(96, 96))
    files = {f"{tenth}.bin": data[: len(data) * tenth // 10] for tenth in range(1, 10)}
    assert set(reasons(from_folder(tmp_path, files)).values()) == {Reason.BROKEN_IMAGE}


def test_other_formats_are_no_images_here_whatever_their_name(tmp_path):
    files = {"a.png": picture("GIF", mode="L"), "b.webp": picture("TIFF"), "c.jpg": picture("BMP")}
    assert set(reasons(from_folder(tmp_path, files)).values()) == {Reason.NOT_AN_IMAGE}


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few KB that unpacks to width x height pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def test_a_strip_is_refused_by_its_header_with_a_reason_of_its_own(tmp_path):
    files = {
        "down.png": bomb(1, 60_000),
        "across.png": bomb(1_000_000, 2),
        "strip.jpg": picture("JPEG", size=(4, 300)),
        "strip.webp": picture("WEBP", size=(300, 4)),
        "comic.png": picture(size=(4, 200)),
        "line.png": picture(size=(1, 51)),
        "dot.png": picture(size=(1, 1)),
    }
    rows = from_folder(tmp_path, files)
    strip = Reason.EXTREME_ASPECT
    assert reasons(rows) == dict.fromkeys(files, strip) | {"comic.png": None, "dot.png": None}
    assert rows["down.png"].detail == "1x60000 pixels, one side more than max_aspect 50 times the other"
    assert reasons(from_folder(tmp_path, files, max_aspect=100))["strip.jpg"] is None


def test_too_many_pixels_are_refused_by_the_header_and_too_many_bytes_while_reading(tmp_path):
    files = {
        "bomb.png": bomb(50_000, 50_000),
        "big.png": picture(size=(101, 100)),
        "fits.png": picture(size=(100, 100)),
    }
    rows = from_folder(tmp_path, files, max_pixels=10_000, max_bytes=60_000)
    assert reasons(rows) == {"bomb.png": Reason.TOO_LARGE, "big.png": Reason.TOO_LARGE, "fits.png": None}
    rows = from_folder(tmp_path, files, max_pixels=10**12, max_bytes=len(files["fits.png"]))
    assert reasons(rows) == {"bomb.png": Reason.TOO_LARGE, "big.png": Reason.TOO_LARGE, "fits.png": None}


def test_turned_transparent_and_animated_pictures_follow_the_stated_rule(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    animation = io.BytesIO()
    frames[0].save(animation, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    still = io.BytesIO()
    frames[0].save(still, "PNG")
    clear, white = (Image.new(mode, (8, 8), colour) for mode, colour in (("RGBA", (0, 0, 0, 0)), ("RGB", "white")))
    files = {
        "turned.jpg": picture("JPEG", exif=exif),
        "moving.webp": animation.getvalue(),
        "still.png": still.getvalue(),
    }
    for name, image in (("clear.png", clear), ("white.png", white)):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        files[name] = buffer.getvalue()
    rows = from_folder(tmp_path, files)
    assert (rows["turned.jpg"].width, rows["turned.jpg"].height) == (32, 48)
    seen = decodings(tmp_path)
    assert len(seen["turned.jpg"].phash) == 16
    assert seen["moving.webp"].phash == seen["still.png"].phash
    assert seen["clear.png"].phash == seen["white.png"].phash


def test_a_file_that_cannot_be_read_any_more_is_a_row(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.png").write_bytes(picture())
    config = BuildConfig(source=f"folder:{folder}")
    records = open_source(config).page(None).records
    (folder / "a.png").unlink()
    assert reasons(run(tmp_path, config, records)) == {"a.png": Reason.UNREADABLE_FILE}


def test_a_row_rejected_before_passes_untouched(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/pairs.jsonl").write_text('{"image": "gone.png"}\n')
    row = from_folder(tmp_path, {"a.png": picture()})["gone.png"]
    assert row.reason is Reason.NO_IMAGE and row.rejected_by == "collect" and "gone.png" in row.detail


def test_a_hostile_server_costs_a_reason_each_and_good_images_arrive(tmp_path, serve, no_waiting):
    image = picture(size=(64, 64))
    tries: dict[str, int] = {}

    def answer(request):
        tries[request.path] = tries.get(request.path, 0) + 1
        match request.path:
            case "/good" | "/later" if request.path == "/good" or tries["/later"] > 2:
                request.send(200, image, "image/png")
            case "/later":
                request.send(500) if tries["/later"] == 1 else request.hang_up()
            case "/lying-type":
                request.send(200, image, "text/html")
            case "/html":
                request.send(200, b"<!DOCTYPE html><p>gone", "image/png")
            case "/404" | "/500" | "/403":
                request.send(int(request.path[1:]))
            case "/hang-up":
                request.hang_up()
            case "/short":
                request.send(200, image[:100], "image/png", Content_Length=str(len(image)))
                request.hang_up()
            case "/stall":
                request.send(200, image[:100], "image/png", Content_Length=str(len(image)))
                server.closing.wait(20)
            case "/endless":
                request.send(200, b"", "image/png", Content_Length=str(10**12))
            case "/dribble":
                request.send_response(200)
                request.end_headers()
                while not server.closing.is_set():
                    request.wfile.write(image)
            case "/trickle":
                request.send(200, b"", "image/png", Content_Length=str(len(image)))
                while not server.closing.wait(0.05):
                    request.wfile.write(b"x")
            case "/loop":
                request.send(302, Location="/loop")
            case "/elsewhere":
                request.send(302, Location="file:///etc/passwd")
            case "/moved":
                request.send(301, Location="/good")

    server = serve(answer)
    names = "good later lying-type html 404 500 403 hang-up short stall endless dribble trickle loop elsewhere moved"
    paths = [f"/{name}" for name in names.split()]
    rows = from_server(tmp_path, server, paths, retries=2, timeout=2.0, max_bytes=1_000_000)
    assert {name[1:]: reason for name, reason in reasons(rows).items()} == {
        "good": None,
        "later": None,
        "lying-type": None,
        "moved": None,
        "html": Reason.NOT_AN_IMAGE,
        "404": Reason.HTTP_ERROR,
        "403": Reason.HTTP_ERROR,
        "500": Reason.HTTP_ERROR,
        "hang-up": Reason.FETCH_FAILED,
        "short": Reason.FETCH_FAILED,
        "stall": Reason.FETCH_FAILED,
        "endless": Reason.TOO_LARGE,
        "dribble": Reason.TOO_LARGE,
        "trickle": Reason.FETCH_FAILED,
        "loop": Reason.TOO_MANY_REDIRECTS,
        "elsewhere": Reason.FORBIDDEN_ADDRESS,
    }
    assert "404" in rows["/404"].detail and "500" in rows["/500"].detail
    assert (tries["/404"], tries["/500"], tries["/hang-up"], tries["/good"]) == (1, 3, 3, 2)
    kept = [row for row in rows.values() if row.kept]
    assert set(Build(str(tmp_path / "build")).images(0, kept)) == {image}


def test_no_more_requests_than_allowed_are_under_way_at_once(tmp_path, serve):
    import threading

    at_once, most, lock = 0, 0, threading.Lock()
    full = threading.Barrier(3)

    def answer(request):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        full.wait(10)  # passes only if three requests really are under way together
        with lock:
            at_once -= 1
        request.send(200, picture(), "image/png")

    rows = from_server(tmp_path, serve(answer), [f"/{number}" for number in range(9)], concurrency=3)
    assert all(row.kept for row in rows.values()) and most == 3


def test_a_dead_server_is_a_reason_not_a_crash(tmp_path, serve, no_waiting):
    server = serve(lambda request: None)
    server.shutdown()
    server.server_close()
    assert reasons(from_server(tmp_path, server, ["/a", "/b"])) == {
        "/a": Reason.FETCH_FAILED,
        "/b": Reason.FETCH_FAILED,
    }


def test_the_demo_world_gives_the_same_bytes_in_every_build(tmp_path):
    config = BuildConfig(source="demo", demo={"count": 12})
    made = []
    for name in ("one", "two"):
        build = Build(str(tmp_path / name))
        (records,) = collect(build, config, Models(ModelsConfig()))
        rows = [*run(tmp_path / name, config, records).values()]
        made.append((records, rows, (tmp_path / name / "build/fetch/part-00000.tar").read_bytes()))
    assert made[0] == made[1]
    assert all(row.kept and row.prompt for row in made[0][1])
    assert {row.prompt_origin for row in made[0][1]} == {"source", "file"}


def test_real_images_of_many_makers_are_kept_with_their_listed_prompt(tmp_path, samples):
    lines = {line["image"]: line for line in map(json.loads, (samples / "pairs/pairs.jsonl").read_text().splitlines())}
    config = BuildConfig(source=f"folder:{samples / 'pairs'}")
    records = open_source(config).page(None).records
    assert [record.source_id for record in records] == [*lines]
    for image, row in run(tmp_path, config, records[::4]).items():
        line = lines[image]
        assert (row.sha256, row.width, row.height) == (line["sha256"], line["width"], line["height"])
        assert row.prompt == line["prompt"] and row.prompt_origin == "source"


def test_without_a_prompt_the_row_says_that_the_file_beside_the_image_was_not_read(tmp_path):
    rows = from_folder(tmp_path, {"0.png": picture(), "0.json": b'{"prompt": "a red fox"}'})
    assert rows["0.png"].kept and rows["0.png"].prompt is None
    assert rows["0.png"].detail == "a sidecar 0.json lies beside it and is not read"
