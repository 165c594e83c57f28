"""JSON of strangers becomes values that can be stored, or one ValueError; nothing takes long."""

from __future__ import annotations

import json
import math
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surd.pipeline.untrusted_json import MAX_DEPTH, dump, parse, parse_at, to_text
from tests.fuzz import FUZZED


def values(value: Any) -> list[Any]:
    """All values within a value."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return [value, *(one for part in inner for one in values(part))]
    return [value]


def stored(text: str | bytes) -> Any:
    """The value of a text, after checking that it can be stored; None if it is none."""
    try:
        value = parse(text)
    except ValueError:
        return None
    written = dump(value)
    written.encode("utf-8")
    json.loads(written, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    for one in values(value):
        (to_text(one) or "").encode("utf-8")
        if isinstance(one, int | float):
            assert math.isfinite(float(one))
    return value


@pytest.mark.parametrize(
    "text",
    [
        "[" * 1_000_000,
        '{"a":' * 1_000_000,
        "[" * 90 + "]" * 90,
        "[" * 200 + "]" * 200,
        "1" * 1_000_000,
        "-" + "1" * 5000,
        "1" * 1_000_000 + ".5",
        "0." + "1" * 1_000_000,
        "1e" + "9" * 100_000,
        "[" + "1" * 5000 + "]",
        '"' * 1_000_000,
        '"\\ud800' * 100_000,
        "[" + "[]," * 200_000 + "[]]",
        " " * 1_000_000,
        "{" + '"a":1,' * 300_000 + '"a":2}',
        "\\" * 1_000_000,
        '"\\u' * 300_000,
        "NaN",
        "[NaN, Infinity, -Infinity, 1e999]",
        "\ufeff{}",
        "\0",
        "nul",
        "tru",
    ],
    ids=lambda text: f"{text[:8]!a} {len(text)}",
)
def test_a_megabyte_of_malice_is_parsed_or_refused_in_moments(text):
    started = time.process_time()
    stored(text)
    with suppress(ValueError):
        parse_at(f"x{text}", 1)
    assert time.process_time() - started < 5


def test_what_cannot_be_stored_is_null_and_the_rest_stays():
    numbers = f'"seed": {2**64}, "big": {"9" * 5000}, "cfg": 1e999, "steps": NaN'
    text = f'{{{numbers}, "prompt": "a \\ud800 fox"}}'
    value = stored(text)
    assert value == {"seed": 2**64, "big": None, "cfg": None, "steps": None, "prompt": "a \ud800 fox"}
    assert json.loads(dump(value))["prompt"] == to_text(value["prompt"]) == "a ? fox"
    assert parse_at(f"params: {text} and more", 8)[0] == value


def test_depth_is_bounded():
    assert stored("[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1)) is not None
    for text in ("[" * 101 + "]" * 101, '{"a":' * 101 + "1" + "}" * 101):
        with pytest.raises(ValueError, match="nested too deeply"):
            parse(text)


PIECES = st.sampled_from(
    [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        '"',
        '"a"',
        "\\",
        "\\ud800",
        "\\udc00",
        "\\u0000",
        "1",
        "-",
        ".",
        "e",
        "9" * 400,
        "NaN",
        "Infinity",
        "null",
        "true",
        "\0",
        "\x1b",
        "\ud800",
        "é",
        " ",
        "\n",
        "\ufeff",
        "[" * 60,
        '{"a":' * 60,
    ]
)


@pytest.mark.fuzz
@FUZZED
@given(st.lists(PIECES, max_size=40).map("".join))
def test_no_text_is_more_than_refused(text):
    stored(text)
    for start in (0, len(text) // 2, len(text), len(text) + 1):
        with suppress(ValueError):
            parse_at(text, start)


@pytest.mark.fuzz
@FUZZED
@given(st.binary(max_size=200))
def test_no_bytes_are_more_than_refused(data):
    for tried in (data, b'"' + data + b'"', b"\xff\xfe" + data):
        stored(tried)


NUMBERS = st.integers(-(10**299), 10**299) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.fuzz
@FUZZED
@given(VALUES)
def test_sound_values_are_read_as_they_were_written(value):
    assert parse(json.dumps(value)) == value
