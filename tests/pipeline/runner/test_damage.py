"""A damaged build, whatever its state: each command does its work or says in one sentence what repairs which file."""

from __future__ import annotations

import shutil
import sys

import pytest

from surd.flows.build_record import build_record
from surd.flows.build_request import request_build
from surd.flows.cli.main import main
from surd.pipeline.build.damage import find_damage
from surd.pipeline.build.folder import Build
from surd.pipeline.inspection.summary import summarize
from surd.schemas import SurdError
from tests.pipeline.conftest import run_all
from tests.pipeline.finished_sets import imported
from tests.pipeline.runner.damage import MANIFEST, SELECT, SHARD, STATES, State, cut, document, half, scrambled, table

CAPTIONS = "caption/part-00000.parquet"
REMEDIES = ("surd verify", "surd build", "move it away", "move away", "move the folder away")


@pytest.fixture
def surd(monkeypatch, capsys):
    """Runs ``surd`` with some arguments; gives (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["surd", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "300")
        capsys.readouterr()
        try:
            main()
        except SystemExit as ended:
            return (int(ended.code or 0), *capsys.readouterr())
        return (0, *capsys.readouterr())

    return run


def assert_says_what_to_do(error: str, state: State) -> None:
    """One sentence with the damaged file, or a missing one beside it, and what repairs it."""
    assert error.startswith("error: ") and error.count("\n") == 1, error
    assert state.file in error or state.file.split("/")[0] + "/" in error or "is not finished" in error, error
    assert any(remedy in error for remedy in REMEDIES), error


@pytest.mark.parametrize("name", STATES)
def test_no_command_ends_in_a_traceback_and_each_says_which_file_and_what_repairs_it(
    name, imported_set, breakable, surd, tmp_path
):
    state, build = STATES[name], breakable
    key = Build(str(build)).read_table(SELECT, ["key"])["key"][0].as_py()
    state.harm(build / state.file)
    code, out, error = surd("verify", build, "--stages")
    if name == "build.json missing":
        assert code == 0, "shards and columns alone are a dataset"
    else:
        assert code == 1 and state.file.split("/")[0] in out, (out, error)
    for command in (
        ("inspect", build, key),
        ("select", build),
        ("columns", "list", build),
        ("export", build, "--to", "imagefolder", "--out", tmp_path / "images"),
        ("export", build, "--to", "authors", "--out", tmp_path / "authors"),
        ("report", build),
    ):
        code, _, error = surd(*command)
        assert code in (0, 2), command
        if code == 2:
            assert_says_what_to_do(error, state)
    try:
        imported(f"authors:{imported_set.parent / 'SURD'}", build)
    except SurdError as told:
        assert str(told) and "\n" not in str(told)


@pytest.mark.parametrize(
    ("file", "harm"),
    [(SELECT, cut), (SELECT, table(half)), (MANIFEST, cut), (MANIFEST, document(shards=[], count=0)), (CAPTIONS, cut)],
)
def test_a_build_that_continues_makes_a_file_of_another_size_anew(built, tmp_path, file, harm):
    root = tmp_path / "build"
    shutil.copytree(built.root, root)
    before = {path: path.read_bytes() for path in (*root.rglob("*.tar"), root / file)}
    harm(root / file)
    run_all(root, built.config)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("file", [SELECT, MANIFEST, CAPTIONS])
def test_a_build_that_continues_over_a_damaged_file_names_it_and_touches_no_other(built, tmp_path, file):
    root = tmp_path / "build"
    shutil.copytree(built.root, root)
    before = {path: path.read_bytes() for path in root.rglob("*.tar")}
    scrambled(root / file)
    stricter = built.config.model_copy(update={"correct": built.config.correct.model_copy(update={"tolerance": 0.5})})
    with pytest.raises(SurdError, match=f"{root}/{file} .*; .*surd (build|verify)"):
        summarize(Build(str(root)), run_all(root, stricter if file == CAPTIONS else built.config))
    assert {path: path.read_bytes() for path in root.rglob("*.tar")} == before


def test_a_report_of_a_build_that_stopped_halfway_says_which_stage_is_missing(built, tmp_path, surd):
    root = tmp_path / "build"
    shutil.copytree(built.root, root)
    parameters = built.config.model_dump(mode="json")
    request = request_build(out=str(root), profile=None, parameters=parameters, overwrite=True)
    Build(str(root)).write_json("build.json", build_record(request))
    for folder in ("correct", "select", "pack", "shards", "columns", "embed"):
        shutil.rmtree(root / folder)
    code, _, error = surd("report", root)
    assert code == 2 and "its stage correct is not finished (part 0); run the same surd build" in error
    code, _, error = surd("report", tmp_path)
    assert code == 2 and "holds no build.json; give the folder" in error
    code, _, error = surd("report", tmp_path / "nowhere")
    assert code == 2 and "holds no build.json" in error


def test_the_damaged_file_is_found_by_the_hashes_of_the_markers(breakable):
    build = Build(str(breakable))
    assert find_damage(build) is None
    shard = breakable / SHARD
    shard.write_bytes(shard.read_bytes()[:-512] + b"x" * 512)
    damage = find_damage(build)
    assert damage is not None and damage.file == SHARD and "surd verify" in str(damage)


def test_a_lost_manifest_is_a_finding_and_repaired(breakable, surd):
    before = (breakable / MANIFEST).read_bytes()
    (breakable / MANIFEST).unlink()
    code, out, _ = surd("verify", breakable)
    assert code == 1 and "shards/manifest.json" in out and "it is missing" in out
    assert surd("verify", breakable, "--repair")[0] == 0
    assert (breakable / MANIFEST).read_bytes() == before
