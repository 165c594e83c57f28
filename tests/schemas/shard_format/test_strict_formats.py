"""Tars and arrays of strangers are read as what they are or refused; whatever the bytes, nothing else happens."""

from __future__ import annotations

import hashlib
import io
import tarfile
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surd.schemas.shard_format.npy import is_finite, read_npy
from surd.schemas.shard_format.tar import InvalidTar, TarReader, add_member

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789._-", min_size=1, max_size=90).filter(
    lambda name: ".." not in name
)
FILES = st.dictionaries(NAMES, st.binary(max_size=1500), max_size=6)
DTYPES = st.sampled_from(["<f2", "<f4", "<u2", "|u1"])
SHAPES = st.lists(st.integers(1, 5), min_size=0, max_size=3).map(tuple)


def tar_of(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w|") as tar:
        for name, content in files.items():
            add_member(tar, name, content)
    return data.getvalue()


def npy(array: np.ndarray) -> bytes:
    data = io.BytesIO()
    np.lib.format.write_array(data, array, (1, 0), allow_pickle=False)
    return data.getvalue()


@given(FILES)
def test_a_plain_tar_gives_its_files_in_order_their_places_and_its_hash(files):
    data = tar_of(files)
    tar = TarReader(io.BytesIO(data), len(data))
    found = list(tar)
    assert {member.name: member.data for member in found} == files and [member.name for member in found] == [*files]
    assert all(data[member.offset :][: len(member.data)] == member.data for member in found)
    assert tar.sha256 == hashlib.sha256(data).hexdigest()


@given(FILES.filter(bool), st.data())
def test_a_tar_cut_anywhere_before_its_end_is_unsound(files, data):
    whole = tar_of(files)
    end = len(whole.rstrip(b"\0"))
    cut = whole[: data.draw(st.integers(0, end - 1))]
    with pytest.raises(InvalidTar):
        list(TarReader(io.BytesIO(cut), len(cut)))


@settings(max_examples=300)
@given(FILES, st.data())
def test_a_tar_changed_anywhere_is_read_or_unsound_and_nothing_else(files, data):
    changed = bytearray(tar_of(files))
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, min(len(changed), 2048) - 1))] = data.draw(st.integers(0, 255))
    with suppress(InvalidTar):
        for member in TarReader(io.BytesIO(changed), len(changed)):
            assert not member.name.startswith("/") and ".." not in member.name.split("/")


@given(DTYPES, SHAPES, st.data())
def test_an_array_is_read_as_it_was_written(dtype, shape, data):
    count = int(np.prod(shape))
    values = data.draw(st.lists(st.integers(0, 200), min_size=count, max_size=count))
    array = np.array(values, dtype).reshape(shape)
    found = read_npy(npy(array))
    assert found.dtype == array.dtype and np.array_equal(found, array) and is_finite(found)


@settings(max_examples=300)
@given(DTYPES, SHAPES, st.data())
def test_an_array_changed_anywhere_is_read_or_refused_with_a_sentence(dtype, shape, data):
    changed = bytearray(npy(np.ones(shape, dtype)))
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert read_npy(bytes(changed)).nbytes <= len(changed)
    except ValueError as error:
        assert str(error).startswith("it") and "\n" not in str(error)


def test_what_a_terminal_would_obey_is_shown_and_not_sent():
    header = tarfile.TarInfo("\x1b[2Jx")
    header.type = tarfile.SYMTYPE
    data = header.tobuf() + bytes(1024)
    with pytest.raises(InvalidTar) as raised:
        list(TarReader(io.BytesIO(data), len(data)))
    assert "\x1b" not in str(raised.value) and "\\x1b[2Jx" in str(raised.value)
