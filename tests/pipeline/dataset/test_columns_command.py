"""``surd columns`` adds columns without touching anything else, tells of them, and takes them away."""

import hashlib
import json
import shutil
import sys

import pyarrow.parquet as pq
import pytest

from surd.flows.cli.main import main
from surd.pipeline.build.folder import Build
from surd.pipeline.build.lock import LOCK
from surd.pipeline.models import _content_hash
from surd.pipeline.runner.plan import units
from surd.pipeline.runner.run_unit import finish, run_unit
from surd.pipeline.stages import BY_NAME
from surd.schemas import BuildRecord, load_config
from tests.flows.tiny_llm import save_tiny_llm


@pytest.fixture
def surd(monkeypatch, capsys):
    """Runs ``surd columns``, or ``surd verify``, with some arguments; gives (exit code, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(
            sys, "argv", ["surd", *(["columns"] if arguments[0] != "verify" else []), *map(str, arguments)]
        )
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


@pytest.fixture
def build(built, tmp_path):
    """A copy of a finished build whose LLM is a tiny one, with a column of it."""
    copy = shutil.copytree(built.root, tmp_path / "build", ignore=shutil.ignore_patterns("columns", "embed"))
    llm = save_tiny_llm(tmp_path / "tiny-llm")
    fields = {"models.embed_llm": str(llm), "embed": {"layers": [1], "pooling": ["mean"], "columns": []}}
    config = load_config(built.config.model_dump(), fields)
    record = BuildRecord(config=config.model_dump(mode="json"), versions={}, models={})
    Build(str(copy)).write_json("build.json", record)
    embed = BY_NAME["embed"]
    for unit in range(units(embed, Build(str(copy)))):
        run_unit(embed, unit, str(copy), config)
    finish(embed, str(copy), config)
    return copy


@pytest.fixture
def other_llm(tmp_path):
    return save_tiny_llm(tmp_path / "other-llm")


def hashes(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != LOCK)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_an_added_column_is_listed_sound_and_beside_everything_else_as_it_was(surd, build, other_llm):
    before = hashes(build)
    code, out, _ = surd("add", build, "--llm", other_llm, "--layer", 0, "--layer", 2, "--pooling", "tokens")
    assert code == 0
    new = {"llm-other-llm-l0-tokens", "llm-other-llm-l2-tokens"}
    assert {line.split(":")[0] for line in out.splitlines()} == new
    after = hashes(build)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[1] for name in after.keys() - before.keys()} == new
    listed = json.loads(surd("list", build, "--json")[1])
    assert listed.keys() > new and listed["llm-other-llm-l2-tokens"]["shape"] == [None, 16]
    assert surd("verify", build)[0] == 0


def test_the_diffusion_models_columns_are_added_by_name(surd, build):
    code, out, _ = surd("add", build, "latents", "latents-buckets", "clip-simple", "clip-complex")
    assert code == 0 and len(out.splitlines()) == 4
    told = surd("list", build)[1]
    for name in ("latents", "latents-buckets", "clip-simple", "clip-complex", "48 x 8 x 8", "48 x bucket x bucket"):
        assert name in told
    assert surd("verify", build)[0] == 0


def test_adding_again_changes_nothing_and_goes_on_where_it_was_killed(surd, build):
    surd("add", build, "clip-simple")
    before = hashes(build)
    assert surd("add", build, "clip-simple")[0] == 0
    assert hashes(build) == before
    tar = next((build / "columns/clip-simple").glob("*.tar"))
    tar.unlink()
    (build / "columns/clip-simple/manifest.json").unlink()
    assert "unfinished" in surd("list", build)[1]
    assert surd("add", build, "clip-simple")[0] == 0
    assert {name: sha for name, sha in hashes(build).items() if name.startswith("columns/")} == {
        name: sha for name, sha in before.items() if name.startswith("columns/")
    }


def test_a_dropped_column_is_gone(surd, build):
    before = hashes(build)
    surd("add", build, "latents")
    code, out, _ = surd("drop", build, "latents")
    assert (code, out) == (0, "dropped latents\n")
    assert hashes(build) == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["add", "BUILD"], "no column is named; name latents"),
        (["add", "BUILD", "latent"], "'embed.columns.0' is 'latent'"),
        (["add", "BUILD", "--layer", "1", "--pooling", "median"], "'embed.pooling.0' is 'median'"),
        (["add", "BUILD", "--layer", "9"], "asks for 9; choose 0 to 2"),
        (["add", "BUILD", "--layer", "1", "--llm", "/no/such/model"], "/no/such/model"),
        (["drop", "BUILD", "latents"], "column 'latents' is not in"),
        (["list", "/no/such/build"], "/no/such/build"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_sentence_and_changes_nothing(surd, build, arguments, sentence):
    before = hashes(build)
    code, out, err = surd(*(build if argument == "BUILD" else argument for argument in arguments))
    assert code == 2 and out == ""
    assert sentence in err and err.startswith("error: ") and err.count("\n") == 1
    assert hashes(build) == before


def test_latents_of_a_damaged_shard_are_refused_naming_it(surd, build):
    tar = build / "shards" / "surd-00000.tar"
    tar.write_bytes(tar.read_bytes()[:3000])
    code, _, err = surd("add", build, "latents")
    assert code == 2 and "surd-00000.tar is damaged" in err and err.count("\n") == 1
    assert not list(build.glob("columns/latents/*"))


def test_a_build_of_an_older_surd_whose_index_has_no_prompts_is_told_to_build_again(surd, build):
    index = build / "shards" / "index.parquet"
    pq.write_table(pq.read_table(index).drop_columns(["simple", "complex"]), index)
    code, _, err = surd("add", build, "clip-simple")
    assert code == 2 and "cannot be read for the prompts" in err and err.count("\n") == 1


def test_a_column_of_another_model_by_the_same_name_is_not_overwritten(surd, build, other_llm):
    surd("add", build, "--llm", other_llm, "--layer", 1)
    (other_llm / "generation_config.json").write_text('{"changed": true}')
    _content_hash.cache_clear()  # as in a process of its own
    code, _, err = surd("add", build, "--llm", other_llm, "--layer", 1)
    assert code == 2 and "drop it first" in err
