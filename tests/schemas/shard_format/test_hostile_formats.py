"""Arrays and tars of strangers, whatever their bytes: read or refused in one sentence, in less than a second."""

from __future__ import annotations

import io
import struct
import tarfile
import tempfile
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sur_adapter.data.tar_index import TarIndex
from surd.schemas import ShardInfo, SurdError
from surd.schemas.shard_format.npy import read_npy
from surd.schemas.shard_format.tar import BLOCK, InvalidTar, TarReader, add_member
from tests.fuzz import FUZZED


def npy(header: str | bytes, body: bytes = b"") -> bytes:
    text = header.encode("latin-1", "replace") if isinstance(header, str) else header
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def refused(data: bytes) -> str:
    with pytest.raises(ValueError) as raised:
        read_npy(data)
    said = str(raised.value)
    assert said.startswith("it") and "\n" not in said and len(said) < 400
    return said


SHAPES = [
    "9" * 4000 + ",",
    ", ".join(["9" * 4000, "9" * 4000]),
    "9" * 60_000 + ",",
    "-1,",
    "1," * 3000,
    "1," * 40,
    "0x" + "f" * 9000 + ",",
    "(" * 5000 + ")" * 5000,
    "-" * 9000 + "1,",
    "1e999,",
    "True,",
    "'a',",
    "2**99,",
    "0," + "9" * 4000,
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape[:8])
def test_a_shape_that_is_none_is_refused_at_once(shape):
    started = time.process_time()
    refused(npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}\n", bytes(8)))
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    "run", ["9", "(", "[", "{'a':", "-", "0L,", "'", "\\", "\0", "#", "a.", "1_", "lambda:", "\n "]
)
@pytest.mark.parametrize("length", [4000, 30_000, 65_000])
def test_a_long_run_in_a_header_is_refused_at_once(run, length):
    started = time.process_time()
    refused(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (" + (run * length)[:length]))
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    "descr", ["|O", "|V0", "|S0", "<U1", "<M8[ns]", "<f16", "<c8", ">f4", "f" * 5000, "(2,)<f4", "O8,O8"]
)
def test_other_kinds_of_numbers_are_read_as_they_are_or_refused(descr):
    data = npy(f"{{'descr': '{descr}', 'fortran_order': False, 'shape': (2,), }}\n", bytes(8))
    with suppress(ValueError):
        assert read_npy(data).nbytes <= len(data)


WORDS = [
    "{",
    "}",
    "'descr'",
    "'fortran_order'",
    "'shape'",
    ":",
    ",",
    "(",
    ")",
    "[",
    "]",
    "'<f4'",
    "'|O'",
    "'<f2'",
    "True",
    "False",
    "None",
    "0",
    "1",
    "2",
    "-1",
    "9" * 50,
    "1e5",
    "L",
    " ",
    "\n",
    "#",
    "'",
    '"',
    "\\",
    "\0",
    "é",
    "*",
    "lambda",
]


@pytest.mark.fuzz
@FUZZED
@given(st.lists(st.sampled_from(WORDS), max_size=60), st.binary(max_size=40), st.booleans())
def test_no_header_of_an_array_does_more_than_fail(words, body, ordinary):
    if ordinary:
        words = ["{'descr': '<f4', 'fortran_order': False, 'shape': (", *words, "), }\n"]
    data = npy("".join(words), body)
    try:
        assert read_npy(data).nbytes <= len(data)
    except ValueError as error:
        assert "\n" not in str(error)


@pytest.mark.fuzz
@FUZZED
@given(st.binary(max_size=200))
def test_no_bytes_are_more_than_a_refused_array(data):
    for tried in (data, b"\x93NUMPY\x01\x00" + data):
        with suppress(ValueError):
            read_npy(tried)


KINDS = [b"0", b"\0", b"7", b"1", b"2", b"3", b"4", b"5", b"6", b"L", b"K", b"S", b"g", b"x", b"X", b"\xff"]
SIZES = [
    b"00000000000\0",
    b"00000000011\0",
    b"77777777777\0",
    b"-0000000001\0",
    b"\x80" + bytes(10) + b"\x09",
    b"\x80" + b"\xff" * 11,
    b"\xff" * 12,
    b" " * 12,
    b"12345678901x",
]
NAMES = [
    b"0123456789abcdef.png",
    b"0123456789abcdef.json",
    b"a.simple.txt",
    b"../a.png",
    b"/a.png",
    b"a",
    b"",
    b"\xff\xfe.png",
    b"\x1b[2J.png",
    b"a.png/",
    b"a" * 100,
]


def block(name: bytes, size: bytes, kind: bytes, prefix: bytes, *, sound: bool) -> bytes:
    head = bytearray(BLOCK)
    head[: len(name)] = name
    head[124:136], head[156:157], head[257:265] = size, kind, b"ustar\x0000"
    head[345 : 345 + len(prefix)] = prefix
    head[148:156] = b"        "
    if sound:
        head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


BLOCKS = st.one_of(
    st.builds(
        block,
        st.sampled_from(NAMES),
        st.sampled_from(SIZES),
        st.sampled_from(KINDS),
        st.sampled_from([b"", b"..", b"a/b", b"\xff" * 155]),
        sound=st.booleans(),
    ),
    st.sampled_from(
        [bytes(BLOCK), b"x" * BLOCK, b"30 mtime=1\n".ljust(BLOCK, b"\0"), b"9 path=a\n".ljust(BLOCK, b"\0")]
    ),
    st.binary(max_size=BLOCK),
)


def both_readers(data: bytes) -> None:
    """A whole tar front to back, and single members by an index: either reads it, or says what is wrong."""
    with suppress(InvalidTar):
        for member in TarReader(io.BytesIO(data), len(data)):
            assert not member.name.startswith("/") and ".." not in member.name.split("/")
            assert data[member.offset :][: len(member.data)] == member.data
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        with suppress(SurdError):
            index = TarIndex(file, "a.tar", ShardInfo(name="a.tar", count=1, bytes=len(data), sha256=""))
            for members in index.members:
                for offset, size in members.values():
                    assert len(index.read(offset, size)) == size


@pytest.mark.fuzz
@FUZZED
@given(st.lists(BLOCKS, max_size=8))
def test_no_blocks_of_a_tar_do_more_than_fail(blocks):
    both_readers(b"".join(blocks))


@pytest.mark.fuzz
@FUZZED
@given(st.lists(st.binary(max_size=700), max_size=4), st.data())
def test_no_change_of_a_tar_does_more_than_fail(bodies, data):
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w|") as tar:
        for number, body in enumerate(bodies):
            add_member(tar, f"0123.{['png', 'json', 'txt', 'npy'][number]}", body)
    changed = bytearray(written.getvalue())
    for _ in range(data.draw(st.integers(0, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    both_readers(bytes(changed[: data.draw(st.integers(0, len(changed)))]))
