"""Control characters of scraped prose reach no row: a terminal's sequences go, the rest become spaces."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surd.pipeline.metadata.reader import read_metadata
from surd.pipeline.sources import new_record
from surd.pipeline.untrusted_json import without_controls
from tests.fuzz import FUZZED
from tests.pipeline.fetching import from_folder
from tests.pipeline.image_bytes import chunk, png, text_chunk

pytest_plugins = ["tests.pipeline.served"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m fox", "red fox"),
        ("\x1b]0;a title\x07a fox", "a fox"),
        ("\x1b]8;;http://127.0.0.1\x1b\\a fox\x1b]8;;\x1b\\", "a fox"),
        ("\x1b]a fox without an end", "a fox without an end"),
        ("\x1bPorders\x1b\\a fox", "a fox"),
        ("\x1bfox", " fox"),
        ("a\x07fox\x00\x7f", "a fox "),
        ("a\tfox\r\n", "a\tfox\r\n"),
        ("a fox \ud83d", "a fox ?"),
        ("witch\u00e2\x80\x99s", "witch\u00e2\x80\x99s"),  # mojibake, which clean repairs
        ("ふわふわ 🦊", "ふわふわ 🦊"),
    ],
)
def test_prose_is_made_printable(text, shown):
    assert without_controls(text) == shown


def test_no_reader_and_no_source_gives_a_raw_prompt(tmp_path):
    hostile = "\x1b]0;owned\x07a red\x00 \x1b[5mfox"
    chunks = chunk(b"iTXt", b"parameters\0\0\0\0\0" + hostile.encode() + b"\nNegative prompt: \x1b[1mb\nSteps: 3")
    found = read_metadata(png(chunks))
    assert (found.prompt, found.negative_prompt) == ("a red fox", "b")
    comment = json.dumps({"prompt": hostile, "negative_prompt": "\x1b[1mb"})
    found = read_metadata(png(text_chunk("generation_data", comment)))
    assert (found.prompt, found.negative_prompt) == ("a red fox", "b")
    record = new_record("s", "1", prompt=hostile, negative_prompt="\x1b[0m", author="\x1b[1me")
    assert (record.prompt, record.negative_prompt, record.author) == ("a red fox", None, "e")
    line = json.dumps({"image": "a.png", "prompt": hostile})
    (row,) = from_folder(tmp_path, {"a.png": png(), "pairs.jsonl": line.encode()}).values()
    assert row.prompt == "a red fox"


@pytest.mark.fuzz
@FUZZED
@given(
    st.lists(st.sampled_from(["\x1b", "[", "]", "0;", "m", "\x07", "\\", "\0", "\ud800", "a"]), max_size=30).map(
        "".join
    )
)
def test_whatever_comes_out_can_be_shown_and_stored(text):
    shown = without_controls(text)
    assert all(char.isprintable() or char in "\t\r\n" for char in shown)
    assert without_controls(shown) == shown
    shown.encode("utf-8")


@pytest.mark.parametrize("unit", ["\x1b]", "\x1b[", "\x1b", "\x07", "\x1b[0", "\x1b]a"])
def test_it_takes_linear_time(unit):
    started = time.process_time()
    without_controls((unit * 1_000_000)[:1_000_000])
    assert time.process_time() - started < 2
