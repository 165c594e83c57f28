"""Damaged and hostile shards and columns: each refused in one sentence that names file and member; nothing is run."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset

from sur_adapter.data.shard_dataset import ShardDataset
from sur_adapter.data.tar_index import TarIndex
from surd.schemas.errors import SurdError
from surd.schemas.manifest import ShardInfo
from surd.schemas.shard_format.npy import read_npy
from tests.sur_adapter.data.test_shard_dataset import write_index

COLUMN = "llm-tiny-l2"
KEY = "00112233aabbccdd"


@pytest.fixture(autouse=True)
def _nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Every test here runs in an empty folder, and leaves it empty."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield
    assert list(folder.iterdir()) == []


def refusal(build: Any, **how: Any) -> str:
    data = ShardDataset(build.pattern, **({"columns": ["llm"], "image": False} | how))
    with pytest.raises(SurdError) as error:
        list(data.loader(batch_size=3, seed=0, epochs=1, image_size=8))
    assert "\n" not in str(error.value)
    return str(error.value)


def write(path: Path, members: list[tuple[str, bytes, dict[str, Any]]], *, end: bool = True) -> ShardInfo:
    """A tar header by header, with fields of the headers as given."""
    with path.open("wb") as file:
        for name, data, changed in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for field, value in changed.items():
                setattr(info, field, value)
            file.write(info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512))
        file.write(bytes(1024) if end else b"")
    return ShardInfo(name=path.name, count=1, bytes=path.stat().st_size, sha256="0" * 64)


def tar_refusal(path: Path, info: ShardInfo) -> str:
    with pytest.raises(SurdError) as error:
        TarIndex(path.open("rb"), "here.tar", info)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("member", "says"),
    [
        (("/etc/passwd", b"x", {}), "member '/etc/passwd': its path is absolute"),
        (("../../evil.png", b"x", {}), "member '../../evil.png': its path leads out"),
        ((f"{KEY}.png/../../x.png", b"x", {}), "its path leads out of the folder"),
        ((f"a/{KEY}.png", b"x", {}), "its name is not of the form KEY.SUFFIX"),
        (
            (f"{KEY}.png", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
            f"'{KEY}.png': it is a symbolic link",
        ),
        ((f"{KEY}.png", b"", {"type": tarfile.LNKTYPE, "linkname": "../x"}), f"'{KEY}.png': it is a hard link"),
        ((f"{KEY}.png", b"", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}), "is a character device"),
        ((f"{KEY}.png", b"", {"type": tarfile.BLKTYPE}), "is a block device"),
        ((f"{KEY}.png", b"", {"type": tarfile.FIFOTYPE}), "is a pipe"),
        ((KEY, b"", {"type": tarfile.DIRTYPE}), "is a folder"),
        ((f"{KEY}.png", b"", {"type": tarfile.GNUTYPE_SPARSE}), "is a sparse file"),
        (("././@LongLink", b"x" * 300, {"type": tarfile.GNUTYPE_LONGNAME}), "is an extended header"),
        (("pax", b"18 path=../x.png\n\n", {"type": tarfile.XHDTYPE}), "its extended header changes path"),
        (("pax", b"", {"type": tarfile.XHDTYPE, "size": 10 << 30}), "its extended header has 10,737,418,240 bytes"),
        ((f"{KEY}.png", b"x", {"size": 10 << 30}), f"'{KEY}.png': it claims 10737418240 bytes, 107374"),
        ((f"{KEY}.png", b"x", {"size": 7 << 30}), f"'{KEY}.png': it claims 7516192768 bytes"),
    ],
)
def test_a_member_that_is_no_plain_file_is_refused(
    member: tuple[str, bytes, dict[str, Any]], says: str, tmp_path: Path
) -> None:
    path = tmp_path / "hostile.tar"
    good = (f"{KEY}.simple.txt", b"one", {})
    for members in ([member], [good, member]):
        assert says in tar_refusal(path, write(path, members))


def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.tar"
    first, second, other = (f"{KEY}.txt", b"a", {}), (f"{KEY}.txt", b"b", {}), ("feed.txt", b"c", {})
    assert f"member '{KEY}.txt': it is there twice" in tar_refusal(path, write(path, [first, second]))
    apart = tar_refusal(path, write(path, [first, other, second]))
    assert f"member '{KEY}.txt': it comes after other samples, away from its own" in apart


def test_a_damaged_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "damaged.tar"
    info = write(path, [(f"{KEY}.txt", b"a", {})])
    data = bytearray(path.read_bytes())
    data[2] ^= 1  # another key, but the header's checksum knows
    path.write_bytes(data)
    assert "its header is damaged" in tar_refusal(path, info)


def test_what_webdataset_and_tarfile_write_is_read(tmp_path: Path) -> None:
    path = tmp_path / "theirs.tar"
    with webdataset.TarWriter(str(path)) as writer:
        writer.write({"__key__": KEY, "simple.txt": "one", "npy": np.arange(3.0)})
    info = ShardInfo(name=path.name, count=1, bytes=path.stat().st_size, sha256="")
    tar = TarIndex(path.open("rb"), "theirs.tar", info)
    assert tar.keys == [KEY]
    assert tar.read(*tar.members[0]["simple.txt"]) == b"one"
    assert read_npy(tar.read(*tar.members[0]["npy"])).tolist() == [0, 1, 2]


@pytest.mark.parametrize("share", [0.0, 0.02, 0.2, 0.4, 0.6, 0.9])
def test_a_truncated_shard_is_refused_wherever_it_is_cut(build: Any, share: float) -> None:
    shard = build.root / "shards/surd-00000.tar"
    data = shard.read_bytes()
    shard.write_bytes(data[: int(len(data) * share)])
    said = refusal(build, image=True)
    assert "shards/surd-00000.tar: " in said
    assert "cut off" in said or "claims" in said or "its manifest says" in said


def test_a_swapped_shard_is_refused(build: Any) -> None:
    first, second = (build.root / f"columns/{COLUMN}/surd-0000{n}.tar" for n in range(2))
    spare = build.root / "spare.tar"
    for source, target in ((first, spare), (second, first), (spare, second)):
        shutil.copy(source, target)
    said = refusal(build)
    theirs, ours = build.keys(1)[0], build.keys(0)[0]
    assert f"member {theirs}.npy where " in said or f"member {ours}.npy where " in said


def test_a_swapped_shard_of_images_is_refused(build: Any, write_tar: Any) -> None:
    write_index(build)
    texts = {"simple.txt": b"a", "complex.txt": b"b", "png": b"c"}
    for name, number in (("surd-00000.tar", 1), ("surd-00001.tar", 0)):  # of one size, as it may happen
        members = {f"{key}.{suffix}": data for key in build.keys(number) for suffix, data in texts.items()}
        info = write_tar(build.root / "shards" / name, members, 6)
    manifest = ShardDataset(build.pattern).manifest
    shards = [info.model_copy(update={"name": f"surd-0000{number}.tar"}) for number in range(2)]
    (build.root / "shards/manifest.json").write_text(manifest.model_copy(update={"shards": shards}).model_dump_json())
    said = refusal(build, columns=[], image=True)
    assert "index.parquet has" in said and "it is another shard" in said


def replace_column(build: Any, write_tar: Any, members: dict[str, bytes], count: int = 6) -> None:
    folder = build.root / "columns" / COLUMN
    first = write_tar(folder / "surd-00000.tar", members, count)
    second = ShardInfo(name="surd-00001.tar", count=6, bytes=(folder / "surd-00001.tar").stat().st_size, sha256="")
    build.describe_column([first, second])


def test_a_column_with_another_key_is_refused_naming_file_and_member(build: Any, write_tar: Any, npy: Any) -> None:
    good = npy(np.zeros(24, np.float16))
    names = build.keys(0)
    swapped = [names[1], names[0], *names[2:]]
    replace_column(build, write_tar, {f"{key}.npy": good for key in swapped})
    said = refusal(build)
    assert f"columns/{COLUMN}/surd-00000.tar: member {names[1]}.npy where " in said
    assert said.endswith(f"shards/surd-00000.tar has {names[0]}; embed again")


@pytest.mark.parametrize(("kept", "says"), [(5, "goes on with"), (7, "after the last sample")])
def test_a_column_with_too_few_or_too_many_members_is_refused(
    build: Any, write_tar: Any, npy: Any, kept: int, says: str
) -> None:
    names = [*build.keys(0), "feedfeedfeedfeed"][:kept]
    replace_column(build, write_tar, {f"{key}.npy": npy(np.zeros(24, np.float16)) for key in names}, count=kept)
    said = refusal(build)
    assert f"columns/{COLUMN}/surd-00000.tar: " in said and says in said


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (Path("executed"),)


def claiming(shape: tuple[int, ...], descr: str = "<f2") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue() + bytes(48)


HOSTILE: dict[str, tuple[Callable[[Any], bytes], str]] = {
    "pickle": (lambda npy: npy(np.array([Bomb()], dtype=object), allow_pickle=True), "asks for pickle"),
    "huge claim": (lambda npy: claiming((10**12,)), "claims 1,000,000,000,000 numbers of float16"),
    "negative": (lambda npy: claiming((-24, -1)), "its shape is [-24, -1]"),
    "header of code": (lambda npy: claiming((24,)).replace(b"False", b"abs()"), "its header cannot be read"),
    "header without end": (lambda npy: b"\x93NUMPY\x01\x00\xff\xff{", "its header cannot be read"),
    "version 3": (lambda npy: npy(np.zeros(24, np.float16)).replace(b"\x01\x00", b"\x03\x00", 1), "version 1.0"),
    "no such dtype": (lambda npy: claiming((24,), "<f2").replace(b"<f2", b"<f7"), "its header cannot be read"),
    "empty": (lambda npy: b"", "is not an .npy file"),
    "text": (lambda npy: b"not an array at all", "is not an .npy file"),
    "wrong dtype": (lambda npy: npy(np.zeros(24, np.int64)), "its dtype is <i8, and float16 is stored as <f2"),
    "other dtype": (lambda npy: npy(np.zeros(24, np.float32)), "its dtype is <f4"),
    "big-endian": (lambda npy: npy(np.zeros(24, ">f2")), "its dtype is >f2"),
    "truncated": (lambda npy: npy(np.zeros(24, np.float16))[:-2], "and 46 bytes follow"),
    "another width": (lambda npy: npy(np.zeros(25, np.float16)), "its shape is [25], its manifest says [24]"),
    "Fortran order": (lambda npy: npy(np.asfortranarray(np.zeros((4, 6), np.float16))), "in Fortran order"),
    "a long run of digits": (
        lambda npy: claiming((24,)).replace(b"(24,)", b"(" + b"2" * 60 + b",)"),
        "which is not possible",
    ),
    "NaN": (lambda npy: npy(np.full(24, np.nan, np.float16)), "holds NaN or infinity"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_array_is_refused_by_name_and_not_run(build: Any, write_tar: Any, npy: Any, kind: str) -> None:
    make, says = HOSTILE[kind]
    good = npy(np.zeros(24, np.float16))
    victim = build.keys(0)[2]
    replace_column(build, write_tar, {f"{key}.npy": good for key in build.keys(0)} | {f"{victim}.npy": make(npy)})
    said = refusal(build)
    assert f"columns/{COLUMN}/surd-00000.tar: member {victim}.npy" in said and says in said


def test_a_missing_member_and_a_broken_image_are_named(build: Any, write_tar: Any) -> None:
    key = build.keys(0)[0]
    shard = build.root / "shards/surd-00000.tar"
    members = {f"{key}.png": b"no image", f"{key}.simple.txt": b"a", f"{key}.complex.txt": b"b"}

    def spoil(changed: dict[str, bytes]) -> str:
        info = write_tar(shard, changed, 1)
        manifest = ShardDataset(build.pattern).manifest
        told = manifest.model_copy(update={"shards": [info, manifest.shards[1]]})
        (build.root / "shards/manifest.json").write_text(told.model_dump_json())
        with pytest.raises(SurdError) as error:
            next(iter(ShardDataset(str(shard)).loader(batch_size=1, image_size=8, seed=0)))
        return str(error.value)

    assert f"the image of {key} cannot be read" in spoil(members)
    assert f"sample {key} lacks" in spoil({name: members[name] for name in list(members)[:2]})


def test_a_manifest_that_names_another_size_or_count_is_refused(build: Any, tmp_path: Path) -> None:
    path = tmp_path / "one.tar"
    info = write(path, [(f"{KEY}.txt", b"a", {})])
    assert "holds 1 samples where its manifest says 2" in tar_refusal(path, info.model_copy(update={"count": 2}))
    path.write_bytes(path.read_bytes() + hashlib.sha256(b"more").digest())
    assert "bytes where its manifest says 2048" in tar_refusal(path, info)
