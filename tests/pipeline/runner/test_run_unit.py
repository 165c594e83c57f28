"""A stage is done once: what changed is redone with what depends on it, and nothing else."""

import shutil
import subprocess
import sys

import pytest

from surd.pipeline.build.folder import Build, part_file
from surd.pipeline.runner.fingerprint import declared_values
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.stages import BY_NAME, STAGES
from surd.schemas import BuildConfig, Row, Status, SurdError, load_config
from surd.schemas.config import FetchConfig
from tests.pipeline.conftest import redone, run_all


@pytest.fixture
def copy(built, tmp_path):
    """A private copy of the shared build: builds are movable."""
    shutil.copytree(built.root, tmp_path / "copy")
    return tmp_path / "copy"


def test_a_second_run_redoes_nothing_also_after_the_build_was_moved(built, copy):
    assert redone(run_all(copy, built.config)) == set()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"select.min_clip_simple": 0.99}, {"select", "pack", "report"}),
        ({"correct.tolerance": 0.0001}, {"correct", "select", "pack", "embed", "report"}),
        ({"caption.k": 1}, {"caption", "rewrite", "correct", "select", "pack", "embed", "report"}),
        ({"embed.layers": [4]}, {"embed", "report"}),
        ({"report.samples": 2}, {"report"}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_changed_setting_redoes_its_stage_and_only_what_its_output_changes(built, copy, change, expected):
    done = redone(run_all(copy, load_config(built.config.model_dump(), change)))
    assert next(iter(change)).split(".")[0] in done
    assert done <= expected


def test_a_killed_build_continues_with_the_partition_that_was_not_marked(built, copy):
    Build(str(copy)).remove_marker("score", 1)
    (copy / part_file("score", 1)).unlink()
    outcomes = run_all(copy, built.config)
    assert [(o.stage, o.unit) for o in outcomes if not o.skipped] == [("score", 1)]


def test_every_stage_has_one_row_per_source_record_and_rejections_carry_on(built):
    build = built.build
    for part in range(build.part_count()):
        before: list[Row] = []
        for stage in STAGES:
            if stage.row is None:
                continue
            rows = build.read_rows(stage.name, part, stage.row)
            if before:
                assert [row.key for row in rows] == [row.key for row in before]
                gone = [row for row in before if row.status is Status.REJECTED]
                assert {row.key: row.verdict() for row in gone}.items() <= {r.key: r.verdict() for r in rows}.items()
            before = rows


def test_a_stage_run_twice_gives_the_same_bytes(built, copy):
    build = Build(str(copy))
    for stage in STAGES:
        if stage.name in ("collect", "report"):
            continue
        marker = build.marker(stage.name, 0)
        build.remove_marker(stage.name, 0)
        run_unit(BY_NAME[stage.name], 0, str(copy), built.config)
        again = build.marker(stage.name, 0)
        assert marker and again
        assert again.outputs == marker.outputs, stage.name


def test_a_rebuild_from_nothing_gives_byte_identical_shards(built, tmp_path):
    run_all(tmp_path / "again", built.config)
    again = Build(str(tmp_path / "again"))
    names = built.build.listdir("shards")
    assert [n for n in names if n.endswith(".tar")] and again.listdir("shards") == names
    for name in names:
        if name != "manifest.json":
            assert again.read_bytes(f"shards/{name}") == built.build.read_bytes(f"shards/{name}"), name


def test_the_contract_loads_no_library_of_a_stage():
    """Every command and every process that fetches waits for it."""
    ask = "import sys, pipeline.stages; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    assert "pydantic" in loaded
    assert not {"aiohttp", "inflect", "open_clip", "pandas", "prefect", "torch", "transformers"} & set(loaded)


@pytest.mark.parametrize("name", ["collect", "fetch", "safety", "embed"])
def test_a_new_default_of_another_stage_redoes_nothing(name):
    config = BuildConfig()
    told = declared_values(config, BY_NAME[name].config_fields)
    assert told and not {"caption", "rewrite", "correct", "select", "pack", "report"} & told.keys()


def test_a_new_default_of_the_same_section_redoes_only_the_stage_that_reads_it():
    config = BuildConfig(source="demo", fetch=FetchConfig(allow_hosts=["127.0.0.1"], max_pixels=9, concurrency=7))
    told = {
        name: declared_values(config, BY_NAME[name].config_fields) for name in ("collect", "fetch", "decode", "clean")
    }
    assert told["collect"]["fetch"] == {"allow_hosts": ["127.0.0.1"]} and told["decode"] == {"max_pixels": 9}
    assert told["fetch"]["fetch"] == config.fetch.model_dump(mode="json")
    assert told["clean"] == config.clean.model_dump(mode="json")


def test_a_model_folder_that_is_not_there_is_one_sentence(built, copy):
    config = load_config(built.config.model_dump(), {"models.clip": "/no/such/clip"})
    with pytest.raises(SurdError, match=r"'/no/such/clip'.*no such folder"):
        run_unit(BY_NAME["score"], 0, str(copy), config)
