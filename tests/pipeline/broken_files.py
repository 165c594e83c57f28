"""A folder of files made to hurt: bombs, stumps, liars and polyglots, each with what must become of it."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from surd.schemas import Reason
from tests.pipeline.image_bytes import chunk, header, png, saved, stealth, text_chunk

PNG = b"\x89PNG\r\n\x1a\n"
_END = chunk(b"IEND", b"")
_WAYS: dict[str, tuple[str, dict]] = {
    "png": ("PNG", {}),
    "apng": ("PNG", {"save_all": True}),
    "jpg": ("JPEG", {"quality": 92}),
    "progressive.jpg": ("JPEG", {"quality": 92, "progressive": True}),
    "webp": ("WEBP", {"quality": 90}),
    "lossless.webp": ("WEBP", {"lossless": True}),
    "animated.webp": ("WEBP", {"save_all": True}),
    "gif": ("GIF", {}),
    "tiff": ("TIFF", {"compression": "tiff_lzw"}),
}
_READ = {"PNG", "JPEG", "WEBP"}


@dataclass(frozen=True, kw_only=True)
class BrokenFile:
    """A file, and the reasons of which one must be given; none: it is kept, by the rule for its kind of picture."""

    name: str
    data: bytes
    reasons: frozenset[Reason] = frozenset()


def broken_files() -> Iterator[BrokenFile]:
    """Every file, a few hundred KB in all but for the bombs, which are up to 1 MB each."""
    yield from _bombs()
    yield from _metadata_bombs()
    yield from _labours(0)
    yield from _strips()
    yield from _stumps()
    yield from _endless()
    yield from _liars()
    yield from _polyglots()
    yield from _unusual()


def laborious_files() -> Iterator[BrokenFile]:
    """16 MB each of what ``broken_files`` has just beyond the budgets of work."""
    yield from _labours(16_000_000)


def write_folder(folder: Path, *, laborious: bool = False) -> dict[str, BrokenFile]:
    """The files by name, written into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {file.name: file for file in (*broken_files(), *(laborious_files() if laborious else ()))}
    for file in files.values():
        (folder / file.name).write_bytes(file.data)
    return files


def noise(mode: str = "RGB", size: tuple[int, int] = (64, 48), seed: int = 0) -> Image.Image:
    channels = len(mode) if mode != "P" else 1
    return Image.frombytes(mode, size, random.Random(seed).randbytes(size[0] * size[1] * channels))


def _refused(name: str, data: bytes, *reasons: Reason) -> BrokenFile:
    return BrokenFile(name=name, data=data, reasons=frozenset(reasons))


def _zeros(size: int) -> bytes:
    """A zlib stream of so many zeros."""
    packer, packed = zlib.compressobj(1), b""
    for start in range(0, size, 1_000_000):
        packed += packer.compress(bytes(min(1_000_000, size - start)))
    return packed + packer.flush()


def _bombs() -> Iterator[BrokenFile]:
    """Small files that decode, or claim to decode, to a great many pixels."""
    too_large, broken, other = Reason.TOO_LARGE, Reason.BROKEN_IMAGE, Reason.NOT_AN_IMAGE
    zeros = _zeros(100_000_000)
    huge = PNG + header(30_000, 30_000) + chunk(b"IDAT", zeros) + _END
    yield _refused("bomb.png", huge, too_large)
    yield _refused("bomb-claim.png", PNG + header(2**31 - 1, 2**31 - 1) + chunk(b"IDAT", b"") + _END, too_large, broken)
    yield BrokenFile(name="bomb-behind-pixels.png", data=PNG + header(8, 8) + chunk(b"IDAT", zeros) + _END)
    for name, format_, data in (("jpg", "JPEG", b"\xff\xc0"), ("progressive.jpg", "JPEG", b"\xff\xc2")):
        small = bytearray(saved(noise(), format_, progressive=name != "jpg"))
        at = small.index(data) + 5
        small[at : at + 4] = struct.pack(">HH", 65_500, 65_500)
        yield _refused(f"bomb.{name}", bytes(small), too_large)
    wide = saved(Image.new("RGB", (16_000, 1_600)), "WEBP", lossless=True, method=0)
    yield _refused("bomb.webp", wide, too_large)
    claim = bytearray(saved(noise(), "WEBP", save_all=True, append_images=[noise(seed=1)]))
    claim[24:30] = b"\xfe\xff\x00\xfe\xff\x00"  # the canvas of an animation
    yield _refused("bomb-canvas.webp", bytes(claim), too_large, broken)
    gif = bytearray(saved(noise("P"), "GIF"))
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    yield _refused("bomb.gif", bytes(gif), other)
    yield _refused("bomb.tiff", saved(Image.new("1", (30_000, 30_000)), "TIFF", compression="group4"), other)
    yield _refused("bomb.png.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\0" + zeros[2:], other)
    side = 5_990  # under the limit on pixels, so that it is decoded: the dearest picture that is kept
    clear = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0))
    rows = _zeros(side * (4 * side + 1))
    turned = chunk(b"eXIf", b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0")
    yield BrokenFile(
        name="just-small-enough.jpg", data=saved(Image.new("CMYK", (4_890, 4_890)), "JPEG", progressive=True)
    )
    yield BrokenFile(name="just-small-enough.png", data=PNG + clear + turned + chunk(b"IDAT", rows) + _END)
    yield BrokenFile(
        name="just-small-enough.webp", data=saved(Image.new("RGB", (4_240, 4_240)), "WEBP", lossless=True, method=0)
    )


def _metadata_bombs() -> Iterator[BrokenFile]:
    """Sound pictures whose texts, EXIF or hidden text would unpack or unfold to gigabytes. The pictures are kept."""
    zeros = _zeros(200_000_000)
    packed = chunk(b"zTXt", b"parameters\0\0" + zeros)
    yield BrokenFile(name="text-bomb.png", data=png(packed))
    yield BrokenFile(name="late-text-bomb.png", data=png(packed, late=True))
    eight = _zeros(8_000_000)
    many = b"".join(chunk(b"iTXt", b"key%d\0\1\0\0\0" % number + eight) for number in range(100))
    yield BrokenFile(name="many-text-bombs.png", data=png(many, late=True))
    yield BrokenFile(
        name="many-texts.png", data=png(b"".join(text_chunk(f"k{number}", "a") for number in range(50_000)))
    )
    yield BrokenFile(
        name="json-bomb.png", data=png(chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"[[]," * 2_000_000)))
    )
    lists = b'{"prompt": [' + b"[]," * 1_300_000 + b"[]]}"
    yield BrokenFile(name="json-lists.png", data=png(chunk(b"zTXt", b"parameters\0\0" + zlib.compress(lists))))
    yield BrokenFile(name="profile-bomb.png", data=png(chunk(b"iCCP", b"x\0\0" + zeros)))
    fields = b"".join(struct.pack("<HHII", 0x1000 + number, 5, 30_000, 40_000) for number in range(3_000))
    exif = b"II*\0\x08\0\0\0" + struct.pack("<H", 3_000) + fields + bytes(4) + bytes(250_000)
    yield BrokenFile(name="exif-bomb.png", data=png(chunk(b"eXIf", exif)))
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 8) + b"Exif\0\0" + part
                        for part in (exif[at : at + 60_000] for at in range(0, len(exif), 60_000)))  # fmt: skip
    jpeg = saved(noise(), "JPEG")
    yield BrokenFile(name="exif-bomb.jpg", data=jpeg[:2] + segments + jpeg[2:])
    yield BrokenFile(name="stealth-bomb.png", data=stealth(bytes(300_000_000), height=1024))


def _labours(least: int) -> Iterator[BrokenFile]:
    """Files that hold little and cost a step for every few bytes: just beyond the budgets, of ``least`` bytes or so."""
    size = "large" if least else "small"
    refused = partial(BrokenFile, reasons=frozenset({Reason.TOO_COMPLEX}))

    def much(filling: bytes) -> bytes:
        return filling * max(70_000, least // len(filling))

    jpeg, webp = saved(noise(), "JPEG"), saved(noise(), "WEBP")
    table = jpeg.index(b"\xff\xdb")
    for name, filling, at in (
        ("comments", b"\xff\xfe\0\2", 2),
        ("late-comments", b"\xff\xfe\0\2", -2),
        ("applications", b"\xff\xe1\0\2", table),
        ("intervals", b"\xff\xdd\0\4\0\0", table),
        ("fill", b"\xff", table),
        ("restarts", b"\xff\xd0", table),
        ("junk", b"junk", table),
    ):
        yield refused(name=f"{size}-{name}.jpg", data=jpeg[:at] + much(filling) + jpeg[at:])
    empty = {kind: chunk(kind, b"") for kind in (b"teXt", b"IDAT")}
    yield refused(name=f"{size}-chunks.png", data=png(much(empty[b"teXt"])))
    yield refused(name=f"{size}-pixels.png", data=png()[:33] + much(empty[b"IDAT"]) + png()[33:])
    yield refused(name=f"{size}-texts.png", data=png(much(text_chunk("a", "b"))))
    junk = much(b"JUNK\0\0\0\0")
    yield refused(
        name=f"{size}-chunks.webp",
        data=webp[:4] + struct.pack("<I", len(webp) + len(junk) - 8) + webp[8:] + junk,
    )
    progressive = saved(noise("L", (400, 300)), "JPEG", progressive=True)
    last = progressive.rindex(b"\xff\xda")
    scans = progressive[last:-2] * (860 if least else 70)
    yield refused(name=f"{size}-scans.jpg", data=progressive[:last] + scans + progressive[-2:])
    unsound = zlib.compress(random.Random(0).randbytes(3_000) + bytes(4_000_000 - 3_000))[:-4] + bytes(4)
    for name, kind, head in (("zTXt", b"zTXt", b"key%d\0\0"), ("iTXt", b"iTXt", b"key%d\0\1\0\0\0")):
        texts = b"".join(chunk(kind, head % number + unsound) for number in range(2000 if least else 40))
        yield BrokenFile(name=f"{size}-unsound-{name}.png", data=png(texts))


def _strips() -> Iterator[BrokenFile]:
    """Few pixels, of which a resize by the shorter side makes a great many."""
    for width, height in ((1, 60_000), (1_000_000, 2), (30, 3_000)):
        rows = _zeros(height * (width + 1))
        data = PNG + header(width, height) + chunk(b"IDAT", rows) + _END
        yield _refused(f"strip-{width}x{height}.png", data, Reason.EXTREME_ASPECT)


def _endless() -> Iterator[BrokenFile]:
    """Files that lack only their end, which are kept; and such as seem to."""
    for name, (format_, options) in _WAYS.items():
        if format_ == "JPEG":
            whole = saved(noise(), format_, **options)
            yield BrokenFile(name=f"no-end-mark.{name}", data=whole[:-2])
            yield BrokenFile(name=f"zeros-for-end-mark.{name}", data=whole[:-2] + bytes(3000))
            yield _refused(f"zeros-for-pixels.{name}", whole[: len(whole) // 2] + bytes(30_000), Reason.BROKEN_IMAGE)
    yield BrokenFile(name="no-end.png", data=saved(noise(), "PNG")[:-12])
    webp = saved(noise(), "WEBP")
    yield BrokenFile(name="claims-more.webp", data=webp[:4] + struct.pack("<I", len(webp) + 100) + webp[8:])


def _stumps() -> Iterator[BrokenFile]:
    """Every format, cut off after each tenth."""
    for name, (format_, options) in _WAYS.items():
        if options.get("save_all"):
            options = options | {"append_images": [noise(seed=1), noise(seed=2)]}
        whole = saved(noise(), format_, **options)
        reason = Reason.BROKEN_IMAGE if format_ in _READ else Reason.NOT_AN_IMAGE
        for tenths in range(10):
            cut = whole[: len(whole) * tenths // 10]
            yield _refused(f"cut-at-{tenths}0-percent.{name}", cut, reason if tenths else Reason.NOT_AN_IMAGE)
    late = png(text_chunk("parameters", "a fox\nSteps: 20" * 100), late=True)
    yield _refused("cut-in-late-text.png", late[: len(late) * 6 // 10], Reason.BROKEN_IMAGE)
    for size in range(1, 13):
        yield _refused(
            f"only-{size}-bytes.png", PNG[:size].ljust(size, b"\0"), Reason.NOT_AN_IMAGE, Reason.BROKEN_IMAGE
        )


def _liars() -> Iterator[BrokenFile]:
    """Wrong extensions, other things under an image's name, and damage inside."""
    picture = {format_: saved(noise(), format_) for format_ in ("PNG", "JPEG", "WEBP")}
    yield BrokenFile(name="is-a-png.jpg", data=picture["PNG"])
    yield BrokenFile(name="is-a-jpeg.webp", data=picture["JPEG"])
    yield BrokenFile(name="is-a-webp.gif", data=picture["WEBP"])
    others = {"page.png": b"<!doctype html><title>404</title>", "script.jpg": b"#!/bin/sh", "zeros.png": bytes(500),
              "empty.webp": b"", "noise.jpg": random.Random(1).randbytes(5000), "vector.png": b"<svg xmlns='a'/>",
              "archive.png": b"PK\x03\x04" + bytes(100), "bitmap.png": saved(noise(), "BMP"),
              "heic.jpg": b"\0\0\0\x18ftypheic" + bytes(100), "program.webp": b"\x7fELF" + bytes(100),
              "riff.webp": b"RIFF\x24\0\0\0WAVEfmt " + bytes(24)}  # fmt: skip
    for name, data in others.items():
        yield _refused(name, data, Reason.NOT_AN_IMAGE)
    for position in (20, 40, 60, 80):
        bent = bytearray(picture["PNG"])
        bent[len(bent) * position // 100] ^= 0x55
        yield _refused(f"bent-at-{position}-percent.png", bytes(bent), Reason.BROKEN_IMAGE)
    yield _refused("only-a-head.png", PNG + header(64, 48) + _END, Reason.BROKEN_IMAGE)
    yield _refused("no-sides.png", PNG + header(0, 0) + chunk(b"IDAT", zlib.compress(b"")) + _END, Reason.BROKEN_IMAGE)
    yield _refused("only-a-head.jpg", b"\xff\xd8\xff\xd9", Reason.BROKEN_IMAGE)
    yield _refused("only-a-head.webp", b"RIFF\x04\0\0\0WEBP", Reason.BROKEN_IMAGE)
    yield _refused(
        "long-chunk.png", PNG + header() + struct.pack(">I", 2**31) + b"tEXt" + bytes(100), Reason.BROKEN_IMAGE
    )


def _polyglots() -> Iterator[BrokenFile]:
    tails = {"zip": b"PK\x03\x04" + bytes(26) + b"PK\x05\x06" + bytes(18), "page": b"<html><script>1</script>",
             "pdf": b"%PDF-1", "program": b"\x7fELF" + bytes(60), "php": b"<?php 1;", "rar": b"Rar!"}  # fmt: skip
    for ext, format_ in (("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP")):
        for what, tail in tails.items():
            yield _refused(f"polyglot-{what}.{ext}", saved(noise(), format_) + tail, Reason.POLYGLOT)


def _unusual() -> Iterator[BrokenFile]:
    """Sound pictures of unusual kinds, which are kept by the stated rule."""
    turned = Image.Exif()
    turned[0x0112] = 6
    deep = Image.fromarray(np.full((48, 64), 0x8040, np.uint16))
    frames = {"save_all": True, "append_images": [noise(seed=1)]}
    for name, data in (
        ("animated.png", saved(noise(), "PNG", **frames)), ("moving.webp", saved(noise(), "WEBP", **frames)),
        ("cmyk.jpg", saved(noise("CMYK"), "JPEG")), ("grey.jpg", saved(noise("L"), "JPEG")),
        ("deep.png", saved(deep, "PNG")), ("bits.png", saved(noise("RGB").convert("1"), "PNG")),
        ("turned.jpg", saved(noise(), "JPEG", exif=turned)), ("turned.png", saved(noise(), "PNG", exif=turned)),
        ("turned.webp", saved(noise(), "WEBP", exif=turned)),
        ("alpha.png", saved(noise("RGBA"), "PNG")), ("grey-alpha.png", saved(noise("LA"), "PNG")),
        ("alpha.webp", saved(noise("RGBA"), "WEBP")), ("palette.png", saved(noise("P"), "PNG", transparency=3)),
    ):  # fmt: skip
        yield BrokenFile(name=name, data=data)
