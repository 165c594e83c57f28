"""The descriptions of Midjourney and Mochi Diffusion give prompt, negative prompt and parameters; prose gives none."""

from __future__ import annotations

import io
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from surd.pipeline.metadata.descriptions import parse_description
from surd.pipeline.metadata.iptc import iptc_caption
from surd.pipeline.metadata.reader import read_metadata
from tests.fuzz import FUZZED
from tests.pipeline.image_bytes import chunk, png, text_chunk, with_exif

JOB = "Job ID: a7421d2f-b262-44f9-977c-ac23e9c7d3e3"
MOCHI = (
    "Include in Image: a fox; snow; Exclude from Image: blurry; Model: dream; Steps: 8; Guidance Scale: 4.5; Seed: 42; "
    "Size: 64x32; Scheduler: DPM-Solver++; ML Compute Unit: CPU & GPU; Generator: Mochi Diffusion 5.2"
)
MOCHI_LINES = (
    "Metadata Version: 2\nInclude in Image: a fox; snow\\nModel: mine\nExclude from Image: a \\\\ blur\nModel: dream\n"
    "Seed: 42\nGenerator: Mochi Diffusion 6.0"
)


def xmp(text: str) -> bytes:
    inner = f'<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{text}</rdf:li></rdf:Alt></dc:description>'
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description>{inner}</rdf:Description></x:xmpmeta>'.encode()


def jpeg_with(marker: bytes, body: bytes) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    return b"\xff\xd8" + marker + struct.pack(">H", len(body) + 2) + body + file.getvalue()[2:]


def photoshop(caption: bytes, *, extended: bool = False) -> bytes:
    length = struct.pack(">HI", 0x8004, len(caption)) if extended else struct.pack(">H", len(caption))
    record = b"\x1c\x02\x00\x00\x02\x00\x04" + b"\x1c\x02\x78" + length + caption
    other = b"8BIM" + struct.pack(">HBBI", 0x03ED, 0, 0, 3) + b"abc\0"
    return b"Photoshop 3.0\0" + other + b"8BIM" + struct.pack(">HBBI", 0x0404, 0, 0, len(record)) + record


@pytest.mark.parametrize(
    ("text", "prompt", "negative", "params"),
    [
        (f"a fox, snow --ar 3:2 --v 6.1 {JOB}", "a fox, snow", None, {"ar": "3:2", "v": "6.1"}),
        (f"a fox --no hat, coat --tile {JOB}\n", "a fox", "hat, coat", {"tile": True}),
        (f"a well-known fox -- or two {JOB}", "a well-known fox -- or two", None, {}),
        (f"a fox \u2014ar 3:2 {JOB}", "a fox", None, {"ar": "3:2"}),
    ],
)
def test_midjourney_writes_its_flags_and_job_behind_the_prompt(text, prompt, negative, params):
    found = read_metadata(png(text_chunk("Description", text.encode()), text_chunk("Author", "someone")))
    assert (found.tool, found.prompt, found.negative_prompt) == ("Midjourney", prompt, negative)
    assert found.params == params | {"Job ID": JOB.removeprefix("Job ID: ")}


def test_two_flags_of_midjourney_at_the_end_are_enough():
    found = read_metadata(with_exif("JPEG", 0x010E, "a fox --ar 3:2 --niji 6"))
    assert (found.tool, found.prompt, found.params) == ("Midjourney", "a fox", {"ar": "3:2", "niji": "6"})


@pytest.mark.parametrize(
    "text",
    ["a fox --v for verbose --s short", "a photo of my dog -- taken in May", "a fox --ar 3:2", "Job ID: 4711",
     "usage: tool --version 1 --quality high", "We include in image: a fox", "Include in Image: a fox",
     "Exclude from Image: a; Model: b; Seed: 1"],
)  # fmt: skip
def test_prose_is_no_description_of_a_tool(text):
    assert parse_description(text) is None
    assert read_metadata(png(text_chunk("Description", text))) is None


@pytest.mark.parametrize(
    "data",
    [
        png(text_chunk("Description", MOCHI)),
        png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(MOCHI.replace("&", "&amp;")))),
        with_exif("JPEG", 0x010E, MOCHI),
        jpeg_with(b"\xff\xe1", b"http://ns.adobe.com/xap/1.0/\0" + xmp(MOCHI.replace("&", "&amp;"))),
        jpeg_with(b"\xff\xed", photoshop(MOCHI.encode())),
        jpeg_with(b"\xff\xed", photoshop(MOCHI.encode(), extended=True)),
    ],
    ids=["Description", "XMP", "EXIF", "XMP of a JPEG", "IPTC", "IPTC extended"],
)
def test_mochi_diffusion_is_read_wherever_macos_puts_it(data):
    found = read_metadata(data)
    assert (found.tool, found.prompt, found.negative_prompt) == ("Mochi Diffusion", "a fox; snow", "blurry")
    assert found.models == ["dream"] and found.params["ML Compute Unit"] == "CPU & GPU"


def test_the_lines_of_mochi_diffusion_are_unescaped():
    found = parse_description(MOCHI_LINES)
    assert (found.prompt, found.negative_prompt) == ("a fox; snow\nModel: mine", "a \\ blur")
    assert found.params["Model"] == "dream"


pieces = st.sampled_from(
    [JOB, " --ar 3:2", " --v 6", " --no ", "a fox", "; ", "\n", "Include in Image: ", "Exclude from Image: ", "Model: ",
     "Seed: 1", "Metadata Version: 2", "\\n", "\\", "\0", "\ud800"]
)  # fmt: skip


@pytest.mark.fuzz
@FUZZED
@given(st.lists(pieces | st.text(max_size=4), max_size=20).map("".join))
def test_no_description_makes_it_raise(text):
    parse_description(text)


@pytest.mark.fuzz
@FUZZED
@given(st.binary(max_size=60), st.integers(0, 120))
def test_no_record_makes_it_raise(noise, at):
    body = photoshop(b"a fox")
    iptc_caption(body[:at] + noise + body[at:])


@pytest.mark.parametrize(
    "unit", ["--ar 3:2 ", " --a", "Include in Image: ", "Include in Image: ; Model: ", " ", "-", "Job ID: ", "\\"]
)
def test_time_grows_with_length_only(unit):
    started = time.process_time()
    parse_description((unit * 1_000_000)[:1_000_000])
    assert time.process_time() - started < 5
