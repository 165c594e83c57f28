"""Tars and arrays made to harm a reader are named and refused; no size that a header claims is believed."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest

from surd.schemas.shard_format.tar import InvalidTar, TarReader
from tests.pipeline.finished_sets import POOLED, SHARD, TOKENS, exchanged, findings, restate, rewrite, told, without


def npy(array: np.ndarray, **options) -> bytes:
    data = io.BytesIO()
    np.save(data, array, **options)
    return data.getvalue()


def link(kind: bytes, name: str = "0" * 16 + ".png", target: str = "/etc/passwd") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("added", "sentence"),
    [
        (link(tarfile.SYMTYPE), "it is a symbolic link, not a plain file"),
        (link(tarfile.LNKTYPE), "it is a hard link, not a plain file"),
        (link(tarfile.CHRTYPE), "it is a character device, not a plain file"),
        (link(tarfile.FIFOTYPE), "it is a pipe, not a plain file"),
        (link(tarfile.DIRTYPE, "folder"), "it is a folder, not a plain file"),
        (tarfile.TarInfo("/etc/cron.d/x"), "/etc/cron.d/x: its path is absolute"),
        (tarfile.TarInfo("../../x.png"), "../../x.png: its path leads out of the folder"),
        (tarfile.TarInfo("f" * 16 + ".exe"), "it is not a file of a sample"),
    ],
)
def test_a_hostile_member_is_named(breakable, added, sentence):
    rewrite(breakable / SHARD, lambda members: [*members, (added, b"")])
    assert str(findings(breakable)[0]).startswith(f"{SHARD}: {added.name}: ") and sentence in told(breakable)


def test_two_members_of_one_name_are_told(breakable):
    rewrite(breakable / SHARD, lambda members: [*members, members[1]])
    assert "simple.txt: it is there twice" in str(findings(breakable)[0])


def test_a_header_that_claims_ten_gigabytes_is_not_believed(breakable):
    data = bytearray((breakable / SHARD).read_bytes())
    info = tarfile.TarInfo.frombuf(bytes(data[:512]), "utf-8", "strict")
    info.size = 10 * 1024**3
    data[:512] = info.tobuf(tarfile.GNU_FORMAT)
    (breakable / SHARD).write_bytes(data)
    first = findings(breakable)[0]
    assert first.member == info.name and "it claims 10,737,418,240 bytes and" in first.problem


@pytest.mark.parametrize("cut", [100, 512, 700, 5000, -1, -1024, -10240])
def test_a_truncated_tar_is_told_wherever_it_ends(breakable, cut):
    data = (breakable / SHARD).read_bytes()
    (breakable / SHARD).write_bytes(data[:cut])
    assert SHARD in {finding.file for finding in findings(breakable)}


def test_a_tar_cut_after_a_whole_sample_is_told_though_tar_itself_would_not(breakable):
    with tarfile.open(breakable / SHARD) as tar:
        end = tar.getmembers()[4].offset
    (breakable / SHARD).write_bytes((breakable / SHARD).read_bytes()[:end])
    assert str(findings(breakable)[0]) == f"{SHARD}: it is cut off: its end is missing after {end:,} bytes"


def test_what_goes_on_behind_its_end_and_what_is_damaged_is_told(breakable):
    data = (breakable / SHARD).read_bytes()
    (breakable / SHARD).write_bytes(data + b"PK\3\4")
    assert "it goes on behind its end" in told(breakable)
    (breakable / SHARD).write_bytes(b"x" + data[1:])
    assert "it is damaged at byte 0" in told(breakable)


def test_an_extended_header_may_hold_times_and_nothing_else():
    for extended, sound in (({"mtime": "1.5"}, True), ({"path": "../../x"}, False), ({"size": "9" * 12}, False)):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as tar:
            info = tarfile.TarInfo("a")
            info.pax_headers = extended
            tar.addfile(info)
        tar = TarReader(io.BytesIO(data.getvalue()), len(data.getvalue()))
        if sound:
            assert [member.name for member in tar] == ["a"]
        else:
            with pytest.raises(InvalidTar, match="its extended header changes"):
                list(tar)


ARRAY = np.zeros(16, np.float16)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (npy(ARRAY.astype(np.float32)), "its dtype is <f4, and float16 is stored as <f2"),
        (npy(ARRAY.astype(">f2")), "its dtype is >f2"),
        (npy(ARRAY[:7]), "its shape is [7], its manifest says [16]"),
        (npy(np.zeros((1, 16), np.float16)), "its shape is [1, 16]"),
        (npy(np.full(16, np.nan, np.float16)), "it holds NaN or infinity"),
        (npy(np.full(16, np.inf, np.float16)), "it holds NaN or infinity"),
        (npy(np.array([object()]), allow_pickle=True), "it asks for pickle, which can run code"),
        (npy(ARRAY)[:-1], "its header claims 16 numbers of float16 and 31 bytes follow"),
        (npy(ARRAY).replace(b"'descr'", b"'d(scr'", 1), "its header cannot be read"),
        (
            npy(ARRAY).replace(b"(16,), }" + b" " * 11, b"(1000000000000,), }", 1),
            "its header claims 1,000,000,000,000 numbers",
        ),
        (npy(ARRAY).replace(b"\x93NUMPY\x01", b"\x93NUMPY\x02", 1), "it is not an .npy file of version 1.0"),
        (b"", "it is not an .npy file of version 1.0"),
        (npy(np.zeros((0, 16), np.float16)), "it is empty"),
    ],
)
def test_an_array_that_is_not_what_its_column_says_is_told_with_its_member(breakable, data, sentence):
    file = f"columns/{POOLED}/surd-00001.tar"
    rewrite(breakable / file, exchanged(2, data))
    restate(breakable / "columns" / POOLED)
    (finding,) = findings(breakable)
    assert finding.file == file and finding.member.endswith(".npy") and sentence in finding.problem


def test_nan_in_bfloat16_is_found_in_its_bits(breakable):
    file = f"columns/{TOKENS}/surd-00000.tar"
    rewrite(breakable / file, exchanged(0, npy(np.full((2, 16), 0x7FC0, np.uint16))))
    restate(breakable / "columns" / TOKENS)
    assert [finding.problem for finding in findings(breakable)] == ["it holds NaN or infinity"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without(2), "it is missing: its shard has that sample"),
        (lambda members: [*members, (tarfile.TarInfo("f" * 16 + ".npy"), npy(ARRAY))], "its shard has no such sample"),
        (lambda members: members[::-1], "by the order of its shard"),
        (lambda members: [*members, (tarfile.TarInfo("x.txt"), b"")], "it is not a file of a column"),
    ],
)
def test_a_column_with_other_keys_than_its_shard_is_told(breakable, change, sentence):
    rewrite(breakable / "columns" / POOLED / "surd-00001.tar", change)
    restate(breakable / "columns" / POOLED)
    assert sentence in told(breakable)
    assert {finding.file for finding in findings(breakable)} == {f"columns/{POOLED}/surd-00001.tar"}
