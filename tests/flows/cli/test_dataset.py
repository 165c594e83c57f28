"""The commands on a finished dataset: their findings, their repairs, and the exit codes that scripts read."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.pipeline.finished_sets import authors_set

QUIET = ("--param", "pack.max_count=5", "--param", "models.llm=none")


@pytest.fixture
def build(tmp_path, surd) -> Path:
    code, out, _ = surd("import", f"authors:{authors_set(tmp_path / 'SURD')}", "--out", tmp_path / "build", *QUIET)
    assert code == 0 and "kept" in out and "12" in out
    return tmp_path / "build"


def test_a_dataset_is_imported_verified_exported_and_imported_again(build, tmp_path, surd):
    code, out, _ = surd("verify", build, "--stages")
    assert code == 0 and out.startswith("sound: 12 samples in 3 shard(s), 2 column(s)")
    code, out, _ = surd("export", build, "--to", "authors", "--out", tmp_path / "out")
    assert code == 0 and "12 samples" in out
    assert surd("import", f"authors:{tmp_path / 'out'}", "--out", tmp_path / "again", *QUIET)[0] == 0
    for path in (build / "shards").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / "shards" / path.name).read_bytes()


@pytest.mark.parametrize("layout", ["img2dataset", "parquet", "authors"])
def test_a_disk_that_fills_up_is_one_sentence_and_running_again_goes_on(build, tmp_path, surd, layout):
    export = ("export", build, "--to", layout, "--out", tmp_path / "out")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))
    try:
        code, _, error = surd(*export)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 2 and error.startswith(
        "error: writing failed (File too large); free disk space, then run the same command again"
    )
    assert surd(*export)[0] == 0


def test_a_broken_shard_is_named_and_repaired(build, surd):
    shard = build / "shards" / "surd-00001.tar"
    before = shard.read_bytes()
    shard.write_bytes(before[:2000])
    code, out, _ = surd("verify", build)
    assert code == 1 and "broken: 1 file(s); the first: shards/surd-00001.tar: " in out
    code, out, _ = surd("verify", build, "--json")
    document = json.loads(out)
    assert code == 1 and document["broken"] == ["shards/surd-00001.tar"]
    assert "cut off" in document["findings"][0]["problem"]
    code, out, _ = surd("verify", build, "--repair")
    assert code == 0 and "shards/surd-00001.tar: repaired" in out and "sound: 12 samples" in out
    assert shard.read_bytes() == before


def test_what_cannot_be_repaired_leaves_exit_code_1(build, surd):
    (build / "shards" / "notes.txt").write_text("mine")
    code, out, _ = surd("verify", build, "--repair")
    assert code == 1 and "shards/notes.txt: not repaired: surd did not make it" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("verify", "nowhere"), "build is 'nowhere' and holds no shards/manifest.json"),
        (("export", "nowhere", "--to", "parquet", "--out", "x"), "holds no shards/manifest.json"),
        (("import", "authors:nowhere", "--out", "x"), "no folder is there"),
        (("import", "nowhere", "--out", "x"), "give one of authors:FOLDER"),
        (
            ("import", "authors:x", "--out", "x", "--param", "source=demo"),
            "takes its source from the argument SOURCE",
        ),
    ],
)
def test_mistakes_end_with_one_sentence_and_code_2(surd, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    code, _, err = surd(*arguments)
    assert code == 2 and err.startswith("error: ") and sentence in err and err.count("\n") == 1
    assert not list(tmp_path.rglob("*.parquet"))


def test_what_was_forgotten_is_gone_from_build_and_export_and_proved(build, tmp_path, surd):
    assert surd("export", build, "--to", "parquet", "--out", tmp_path / "out")[0] == 0
    keys = [row["key"] for row in pq.read_table(build / "shards/index.parquet").to_pylist()]
    code, _, error = surd("forget", build, "0" * 16)
    assert code == 2 and error.startswith(f"error: '{build}' has no record of '0000000000000000'; nothing was removed")
    assert surd("verify", build, "--forgotten")[0] == 2
    code, out, _ = surd("forget", build, keys[0], "--dry-run")
    assert code == 0 and "1 record(s) would be removed" in out and "surd-00000.tar" in out
    (tmp_path / "list.txt").write_text(f"# asked by mail\n{keys[0]}\n{keys[7]}\n")
    code, out, _ = surd("forget", build, "--list", tmp_path / "list.txt", "--export", tmp_path / "out")
    assert code == 0 and "2 record(s) removed" in out and "prove it: surd verify" in out
    code, out, _ = surd("verify", build, "--forgotten")
    assert code == 0 and out.startswith("nothing left of 2 record(s), in ")
    assert surd("verify", build, "--stages")[0] == 0
    exported = pq.read_table(tmp_path / "out/data/train-00000-of-00003.parquet")["key"].to_pylist()
    assert keys[0] not in exported and keys[1] in exported
    (build / "notes.txt").write_text(keys[7])
    code, out, _ = surd("verify", build, "--forgotten")
    assert code == 1 and out.startswith(f"notes.txt: key {keys[7]}\nleft of 2 record(s): 1 finding(s)")
    code, _, error = surd("forget", build, keys[0], "--export", tmp_path / "SURD")
    assert (code == 2 and "that '" in error and "does not know" in error) or "no export of surd" in error


def test_what_was_forgotten_is_gone_from_a_trainers_folder_and_leaves_in_none(build, tmp_path, surd):
    out = tmp_path / "kohya"
    code, printed, _ = surd("export", build, "--to", "kohya", "--out", out, "--caption", "complex", "--trigger", "sks")
    assert code == 0 and printed.startswith("12 samples: ")
    keys = [row["key"] for row in pq.read_table(build / "shards/index.parquet").to_pylist()]
    shards = shutil.copytree(build, tmp_path / "before")
    assert surd("forget", build, keys[0], "--export", out)[0] == 0
    assert {path.stem for path in (out / "images").iterdir()} == {*keys} - {keys[0]}
    assert (out / "images" / f"{keys[1]}.txt").read_text().startswith("sks, keywords, ")
    assert json.loads((out / "export.json").read_text())["samples"] == 11
    shutil.copy(build / "forgotten.jsonl", shards)  # as for a build that is to be made again
    code, printed, _ = surd("export", shards, "--to", "onetrainer", "--out", tmp_path / "onetrainer")
    assert code == 0 and "11 samples" in printed and "1 sample(s) left out: surd forget has removed" in printed
    code, _, error = surd("export", build, "--to", "kohya", "--out", tmp_path / "x", "--caption", "short")
    assert code == 2 and "no sample has several captions" in error and not (tmp_path / "x").exists()
