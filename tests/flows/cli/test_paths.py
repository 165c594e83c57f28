"""Folders of any name: every command finds what another wrote there, and prints the path as it is."""

from __future__ import annotations

import sys

import pytest

from sur_adapter.data.shard_dataset import ShardDataset
from surd.flows.cli.main import main
from tests.pipeline.finished_sets import authors_set

QUIET = ("--param", "pack.max_count=5", "--param", "models.llm=none")
NAMES = [
    "set [v1] a{b,c}", "100% #frag", "it's \"q\"", "[/bold]", "*? :fox:", "🧑‍🚀 é", "~x", "-x", "a::b",
    "back\\slash $HOME `id` &amp; <b>",
]  # fmt: skip


@pytest.fixture
def surd(monkeypatch, capsys):
    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["surd", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "120")
        try:
            main()
        except SystemExit as ended:
            assert not ended.code, capsys.readouterr()
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("name", NAMES)
def test_a_dataset_in_a_folder_of_any_name_is_imported_read_exported_and_imported_back(
    name, tmp_path, monkeypatch, surd
):
    monkeypatch.chdir(tmp_path)
    source = authors_set(tmp_path / f"from {name}", count=6)
    build = tmp_path / name
    out = surd("import", f"authors:{source}", "--out", name, *QUIET)
    assert f"report: {name}/report.html" in out, "the path is printed as it was given"
    assert build.is_dir() and {path.name for path in tmp_path.iterdir()} == {
        name.split("/")[0],
        f"from {name}".split("/")[0],
    }
    assert surd("verify", build, "--stages").startswith("sound: 6 samples in 2 shard(s), 2 column(s)")
    assert f"{build}/report.html" in surd("report", build)
    assert "llm-13b-l39" in surd("columns", "list", build)
    assert f"6 samples: {name} out" in surd("export", build, "--to", "imagefolder", "--out", f"{name} out")
    surd("import", f"imagefolder:{name} out", "--out", f"{name} back", *QUIET)
    shards = sorted(path.name for path in (build / "shards").iterdir())
    for shard in shards:
        assert (build / "shards" / shard).read_bytes() == (tmp_path / f"{name} back/shards" / shard).read_bytes()
    dataset = ShardDataset(f"{build}/shards/surd-{{00000..00001}}.tar", columns=["llm-13b-l39"])
    assert len(dataset) == 6 and [*dataset.columns] == ["llm-13b-l10-tokens", "llm-13b-l39"]
