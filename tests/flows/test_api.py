"""The Python API does what the command line does; every block of docs/api.md runs as it stands."""

import io
import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from surd.flows import api
from surd.pipeline.acquisition.tombstones import FORGOTTEN
from surd.pipeline.build.folder import Build
from surd.pipeline.decisions import append
from surd.schemas import Decision, Reason

DOCS = Path(__file__).parents[2] / "docs/api.md"
BLOCKS = re.findall(r"```python\n(from surd\.flows import api\n.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def copy(built, tmp_path) -> str:
    shutil.copytree(built[0], tmp_path / "copy")
    return str(tmp_path / "copy")


@pytest.mark.parametrize("block", BLOCKS, ids=["build", "records", "select", "export"])
def test_a_block_of_the_documentation_has_ten_lines_at_most_and_runs(
    block, copy, pictures, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert len(block.splitlines()) <= 10
    exec(block.replace("folder:my_images", f"folder:{pictures}").replace("data/mine", copy), {})
    assert capsys.readouterr().out.strip()


def test_build_returns_the_summary_prints_nothing_and_skips_what_is_done(built, pictures, capsys):
    out, summary = built
    heard = []

    class Heard(api.Listener):
        def stage_done(self, stage, summary):
            heard.append(stage)

    again = api.build(str(out), source=f"folder:{pictures}", listener=Heard())
    assert again["run_units"] == 0 and again["kept"] == summary["kept"]
    assert heard[0] == "collect" and heard[-1] == "report"
    assert capsys.readouterr().out == ""
    assert api.forecast(str(out)).to_run == []


def test_records_are_all_of_them_with_their_pictures(built, pictures):
    out, summary = built
    records = list(api.records(str(out)))
    assert len(records) == summary["collected"]
    assert sum(record.kept for record in records) == summary["kept"]
    assert [record.key for record in api.records(str(out), kept=True)] == [one.key for one in records if one.kept]
    for record in records:
        given = (pictures / record.fields["source_id"]).read_bytes()
        assert record.image == given
        assert record.picture().size == Image.open(io.BytesIO(given)).size
        assert record.kept == (record.reason is None)
        json.dumps(record.to_dict())
    kept = next(record for record in records if record.kept)
    assert kept.simple and kept.complex and kept.fields["width"] and kept.fields["clip_simple"] is not None
    rejected = next(record for record in records if not record.kept)
    assert rejected.reason is Reason.NO_PROMPT and rejected.to_dict()["reason"] == "no_prompt"


def test_a_sentence_written_by_hand_is_the_records(copy):
    key = next(api.records(copy, kept=True)).key
    append(Build(copy), Decision(key=key, verdict="edit", simple="A hand-written sentence."))
    with api.select(copy) as chosen:
        record = next(record for record in api.records(copy, selection=chosen) if record.key == key)
    assert (record.simple, record.fields["method"]) == ("A hand-written sentence.", "hand")
    assert next(record for record in api.records(copy) if record.key == key).simple != record.simple


def test_select_keeps_what_the_thresholds_say_and_changes_nothing(built):
    out, summary = built
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    with api.select(str(out), min_clip_simple=1.0) as strict:
        kept = [record.key for record in api.records(str(out), selection=strict, kept=True)]
        assert kept == [row.key for rows in strict.rows() for row in rows if row.kept] and len(kept) < summary["kept"]
        reasons = {record.reason for record in api.records(str(out), selection=strict, kept=False)}
    assert Reason.BELOW_THRESHOLD in reasons
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_export_writes_what_surd_export_writes(built, tmp_path):
    out, summary = built
    assert api.export(str(out), "imagefolder", str(tmp_path / "set")) == summary["kept"]
    assert len((tmp_path / "set/train/metadata.jsonl").read_text().splitlines()) == summary["kept"]


def test_what_is_to_be_forgotten_is_in_no_export(copy, tmp_path):
    keys = Build(copy).read_table("shards/index.parquet", columns=["key"])["key"].to_pylist()
    stone = json.dumps({"key": keys[0], "when": "2026-11-29"})
    (Path(copy) / FORGOTTEN).write_text('{"salt": "00"}\n' + stone + "\n")
    assert api.export(copy, "parquet", str(tmp_path / "set")) == len(keys) - 1


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: api.build("/proc/surd", source="folder:/no/such"), "/proc/surd"),
        (lambda: api.build("data/x", params={"corect.tolerance": 1}), "did you mean 'correct'"),
        (lambda: api.records("/no/such/build"), "/no/such/build"),
        (lambda: api.select("/no/such/build").__enter__(), "/no/such/build"),
        (lambda: api.export("/no/such/build", "kohia", "/proc/surd"), "kohia"),
    ],
)
def test_a_mistake_is_a_surd_error_of_one_sentence(call, field):
    with pytest.raises(api.SurdError, match=re.escape(field)) as caught:
        call()
    assert "\n" not in str(caught.value)
