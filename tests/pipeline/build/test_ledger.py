"""The ledger of a stage holds every marker that was written, whatever was killed in between."""

import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from surd.pipeline.build.damage import DamagedFile, find_damage, unfinished
from surd.pipeline.build.folder import Build, part_file, part_number
from surd.schemas import Marker, SurdError

PLACES = [None, "memory://ledgers/one"]


class Killed(Exception):
    pass


def done(build: Build, unit: int, fingerprint: str = "f", stage: str = "clean") -> Marker:
    """A marker, whose files are written."""
    file = part_file(stage, unit)
    return Marker(
        stage=stage, part=unit, parts=3, fingerprint=fingerprint, outputs={file: build.write_bytes(file, b"rows")},
        rows=4, transient=1, seconds=0.5, sizes={file: 4},
    )  # fmt: skip


def marked(build: Build, *units: int) -> dict[int, Marker]:
    markers = {unit: done(build, unit) for unit in units}
    for marker in markers.values():
        build.write_marker(marker)
    return markers


def read(build: Build, stage: str = "clean") -> dict[int, Marker]:
    ledger = build.ledger(stage)
    markers = {unit: ledger.marker(unit) for unit in ledger.units()}
    assert markers == {unit: build.marker(stage, unit) for unit in markers}, "one by one as all together"
    return markers


@pytest.fixture(params=PLACES, ids=["here", "elsewhere"])
def build(request, tmp_path):
    build = Build(request.param or str(tmp_path))
    yield build
    if request.param:
        build.remove("")


def test_what_units_recorded_becomes_one_file(build):
    markers = marked(build, 0, 1, 2)
    assert read(build) == markers and not build.exists("clean/ledger.parquet")
    build.fold_ledger("clean")
    assert read(build) == markers
    assert build.listdir("clean/ledger") == []
    assert set(build.sizes("clean")) == {"ledger.parquet", *(f"part-0000{unit}.parquet" for unit in markers)}
    table = build.read_table("clean/ledger.parquet")
    assert table["unit"].to_pylist() == [0, 1, 2] and table["bytes"].to_pylist() == [[4]] * 3


def test_the_last_marker_of_a_unit_counts_and_one_taken_back_stays_so(build):
    markers = marked(build, 0, 1, 2)
    build.fold_ledger("clean")
    markers[1] = done(build, 1, "another")
    build.write_marker(markers[1])
    build.remove_marker("clean", 2)
    del markers[2]
    for _ in range(2):
        assert read(build) == markers and build.marker("clean", 2) is None
        build.fold_ledger("clean")
    assert build.listdir("clean/ledger") == []


@pytest.mark.parametrize("step", ["write_table", "sync_folder", "remove_files", "half"])
def test_a_kill_while_records_are_folded_loses_nothing(build, monkeypatch, step):
    marked(build, 0, 1)
    build.fold_ledger("clean")
    markers = read(build)
    markers[1] = done(build, 1, "another")
    build.write_marker(markers[1])
    build.remove_marker("clean", 0)
    del markers[0]
    old_marker(build, markers, 3)
    remove = Build.remove_files

    def dies(self, *args):
        if step == "half":
            remove(self, list(args[0])[:1])
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Build, "remove_files" if step == "half" else step, dies)
        build.fold_ledger("clean")
    assert read(build) == markers
    build.fold_ledger("clean")
    assert read(build) == markers and build.listdir("clean/ledger") == []


def old_marker(build: Build, markers: dict[int, Marker], unit: int) -> None:
    """As versions before the ledger wrote it, without sizes."""
    markers[unit] = done(build, unit).model_copy(update={"sizes": {}})
    build.write_json(f"clean/part-{unit:05d}.done.json", markers[unit].model_dump(mode="json", exclude={"sizes"}))


def test_markers_of_older_versions_are_read_and_folded(build):
    markers: dict[int, Marker] = {}
    for unit in (0, 1, 2):
        old_marker(build, markers, unit)
    assert read(build) == markers
    build.remove_marker("clean", 1)
    del markers[1]
    assert read(build) == markers
    build.fold_ledger("clean")
    assert read(build) == markers
    assert not [name for name in build.listdir("clean") if name.endswith(".json")]


def test_a_record_that_comes_while_others_are_folded_stays(build, monkeypatch):
    markers = marked(build, 0)
    late = done(build, 1)
    write = Build.write_table

    def meanwhile(self, *args):
        write(self, *args)
        build.write_marker(late)

    with monkeypatch.context() as patched:
        patched.setattr(Build, "write_table", meanwhile)
        build.fold_ledger("clean")
    assert read(build) == {**markers, 1: late}


def test_many_threads_mark_their_units_at_once(tmp_path):
    threads = [threading.Thread(target=marked, args=(Build(str(tmp_path)), unit)) for unit in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    build = Build(str(tmp_path))
    assert build.fold_ledger("clean").units() == list(range(40)) == list(read(build))


def test_a_marker_holds_only_with_its_files_at_their_size(build):
    marked(build, 0, 1, 2)
    build.fold_ledger("clean")
    build.remove(part_file("clean", 0))
    build.write_bytes(part_file("clean", 1), b"longer")
    assert [unit for unit, marker in read(build).items() if marker] == [2]
    assert build.ledger("clean").recorded(0), "it is known, though"
    assert "part-00000.parquet is missing" in str(unfinished(build, "clean", 0))
    assert "part-00001.parquet has changed since" in str(unfinished(build, "clean", 1))
    assert "its stage clean is not finished (part 7)" in str(unfinished(build, "clean", 7))


def test_the_folder_of_the_files_is_listed_once_and_no_file_is_asked_for_alone(build, monkeypatch):
    marked(build, *range(20))
    ledger, listed = build.fold_ledger("clean"), []
    sizes = Build.sizes
    monkeypatch.setattr(Build, "sizes", lambda self, folder: listed.append(folder) or sizes(self, folder))
    for name in ("exists", "is_file", "size"):
        monkeypatch.setattr(Build, name, lambda *_: pytest.fail("asked for one file"))
    assert all(ledger.marker(unit) for unit in range(20)) and listed == ["clean"]


def test_a_damaged_record_counts_as_not_done_and_is_named(build):
    marked(build, 0, 1)
    build.write_bytes("clean/ledger/part-00001.json", b'{"stage": "cl')
    assert list(read(build)) == [0] and build.marker("clean", 1) is None
    assert build.ledger("clean").damaged == ["clean/ledger/part-00001.json"]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all"])
def test_a_damaged_ledger_is_one_sentence_and_nothing_is_done_over_it(build, content):
    marked(build, 0)
    build.fold_ledger("clean")
    build.write_bytes("clean/ledger.parquet", content)
    for ask in (build.ledger, build.fold_ledger, lambda stage: build.marker(stage, 0)):
        with pytest.raises(
            DamagedFile, match=r"clean/ledger\.parquet cannot be read .*copy of the build, or remove it"
        ):
            ask("clean")
    assert isinstance(find_damage(build), SurdError)


def test_a_file_outside_the_build_is_never_there(build):
    build.write_marker(done(build, 0).model_copy(update={"outputs": {"../../x": "0"}, "sizes": {}}))
    assert build.marker("clean", 0) is None and build.ledger("clean").marker(0) is None
    table = build.ledger("clean").table().slice(0, 0)
    row = {"unit": 0, "parts": 1, "fingerprint": "", "files": ["a/../../x"], "sha256": ["0"], "bytes": [1], "rows": 0}
    rows = pa.Table.from_pylist([row | {"transient": 0, "seconds": 0.0}], schema=table.schema)
    build.write_table("clean/ledger.parquet", rows)
    with pytest.raises(DamagedFile, match="is not a valid ledger of a stage"):
        build.ledger("clean")


def test_numbers_past_five_digits_are_numbers_like_any_other(build):
    numbers = [9, 99_999, 100_000, 1_000_000]
    markers = marked(build, *numbers)
    build.fold_ledger("clean")
    assert list(read(build)) == numbers and read(build) == markers
    assert [part_number(part_file("clean", number).partition("/")[2]) for number in numbers] == numbers
    assert part_number("ledger.parquet") is None


def test_the_same_markers_give_the_same_bytes(tmp_path):
    for name, order in (("a", [0, 1, 2]), ("b", [2, 0, 1])):
        build = Build(str(tmp_path / name))
        marked(build, *order)
        build.fold_ledger("clean")
    files = [tmp_path / name / "clean/ledger.parquet" for name in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert pq.ParquetFile(files[0]).metadata.row_group(0).column(0).compression == "ZSTD"
