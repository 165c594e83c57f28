"""A file of a build is whole or absent, and a marker vouches only for what is there."""

import pytest

from surd.pipeline.build.folder import Build
from surd.schemas import Marker, SurdError


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path):
    build = Build(str(tmp_path))
    build.write_bytes("a/file", b"old")
    with pytest.raises(RuntimeError), build.writing("a/file") as file:
        file.write(b"half")
        raise RuntimeError
    assert build.read_bytes("a/file") == b"old"
    assert build.listdir("a") == ["file"]


def test_a_build_may_lie_on_any_fsspec_filesystem():
    build = Build("memory://builds/one")
    with build.recording() as outputs:
        sha = build.write_bytes("a/file", b"bytes")
    assert outputs == {"a/file": sha}
    assert build.read_bytes("a/file") == b"bytes"
    assert build.listdir("a") == ["file"]
    build.remove("a")
    assert not build.exists("a/file")


def test_a_recording_lists_what_its_block_wrote_and_did_not_remove_again():
    build = Build("memory://builds/two")
    build.write_bytes("before", b"x")
    with build.recording() as outputs:
        kept = build.write_bytes("a/kept", b"1")
        build.write_bytes("b/gone", b"2")
        build.write_json("a/ledger/part-00000.json", {})
        build.write_bytes("a/ledger.parquet", b"")
        build.record({"c/of-an-earlier-run": "sha"})
        with build.recording() as inner:
            build.write_bytes("a/inner", b"3")
        build.remove("b")
    build.write_bytes("after", b"x")
    assert outputs == {"a/kept": kept, "a/inner": inner["a/inner"], "c/of-an-earlier-run": "sha"}


@pytest.mark.parametrize("path", ["../out", "a/../../out", ".."])
def test_nothing_outside_the_build_is_reached(tmp_path, path):
    with pytest.raises(ValueError, match="leaves the build"):
        Build(str(tmp_path)).write_bytes(path, b"")


def test_a_marker_without_its_files_counts_as_not_done(tmp_path):
    build = Build(str(tmp_path))
    sha = build.write_bytes("clean/part-00000.parquet", b"x")
    marker = Marker(
        stage="clean", part=0, parts=1, fingerprint="f", outputs={"clean/part-00000.parquet": sha}, rows=1, seconds=0
    )
    build.write_marker(marker)
    assert build.marker("clean", 0) == marker.model_copy(update={"sizes": {"clean/part-00000.parquet": 1}})
    build.write_bytes("clean/part-00000.parquet", b"longer")
    assert build.marker("clean", 0) is None
    build.write_bytes("clean/part-00000.parquet", b"x")
    assert build.marker("clean", 0)
    build.remove("clean/part-00000.parquet")
    assert build.marker("clean", 0) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"stage": "clean"}'])
def test_a_damaged_marker_counts_as_not_done(tmp_path, content):
    build = Build(str(tmp_path))
    build.write_bytes("clean/ledger/part-00000.json", content)
    assert build.marker("clean", 0) is None


def test_an_unwritable_place_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(SurdError, match=r"out is .*file/build.* cannot be written"):
        Build(str(tmp_path / "file" / "build")).check_writable()


def test_two_writers_of_one_file_do_not_take_each_others_away(tmp_path):
    build, other = Build(str(tmp_path)), Build(str(tmp_path))
    with build.writing("a/file") as first:
        first.write(b"first")
        with other.writing("a/file") as second:
            second.write(b"second")
        assert build.read_bytes("a/file") == b"second"
        first.write(b" and last")
    assert build.read_bytes("a/file") == b"first and last"
    assert build.listdir("a") == ["file"]


def test_what_a_killed_writer_left_goes_with_the_next_write_of_that_file_and_nothing_else_goes(tmp_path):
    build = Build(str(tmp_path))
    build.write_bytes("a/file", b"old")
    (tmp_path / "a" / "file.0123abcd.tmp").write_bytes(b"half")
    (tmp_path / "a" / "file.tmp").write_bytes(b"half, by an older version")
    others = ["file.0123abcd", "file.mine.tmp", "other.0123abcd.tmp", "file2.0123abcd.tmp"]
    for name in others:
        (tmp_path / "a" / name).write_bytes(b"")
    build.write_bytes("a/file", b"new")
    assert build.listdir("a") == sorted(["file", *others])


@pytest.mark.parametrize("root", ["memory://builds/swapped", None], ids=["elsewhere", "here"])
def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path, root):
    build = Build(root or str(tmp_path))
    for name in ("one", "two", "manifest.json"):
        build.write_bytes(f"set/{name}", b"old")
    with pytest.raises(RuntimeError), build.recording() as outputs, build.replacing("set") as folder:
        build.write_bytes(f"{folder}/one", b"new")
        raise RuntimeError
    assert {name: build.read_bytes(f"set/{name}") for name in build.listdir("set")} == dict.fromkeys(
        ("manifest.json", "one", "two"), b"old"
    )
    assert not outputs and build.listdir("") == ["set"]
    with build.recording() as outputs, build.replacing("set") as folder:
        shas = {f"set/{name}": build.write_bytes(f"{folder}/{name}", b"new") for name in ("one", "manifest.json")}
        assert build.read_bytes("set/one") == b"old"
    assert {name: build.read_bytes(f"set/{name}") for name in build.listdir("set")} == dict.fromkeys(
        ("manifest.json", "one"), b"new"
    )
    assert outputs == shas and build.listdir("") == ["set"]
