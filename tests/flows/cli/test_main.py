"""The command line: its help, its output, and one sentence with exit code 2 for a mistake."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from surd.pipeline.build.folder import Build, part_file
from surd.pipeline.models import Models
from surd.pipeline.stages import STAGES
from surd.pipeline.stages.select import select
from surd.schemas import BuildConfig, BuildRecord, Reason, Selected, Status
from tests.pipeline.score_table import unit, write_end, write_part


def keys(out, status):
    rows = [
        row
        for part in range(2)
        for row in Build(str(out)).read_table(part_file("select", part), columns=["key", "status"]).to_pylist()
    ]
    return [row["key"] for row in rows if row["status"] == status]


@pytest.mark.parametrize("command", ["surd.flows.cli.start:main", "sur_adapter.cli.start:train"])
def test_ctrl_c_while_modules_are_imported_is_one_line(command):
    module, _, name = command.partition(":")
    program = (
        f"from {module} import {name}; import builtins\n"
        "real = builtins.__import__\n"
        "def interrupted(module, *rest):\n"
        "    if module == 'typer': raise KeyboardInterrupt\n"
        "    return real(module, *rest)\n"
        f"builtins.__import__ = interrupted; {name}()"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "stopped\n")


def test_help_lists_the_commands_and_loads_nothing_heavy():
    program = (
        "import atexit, sys; sys.argv = ['surd', '--help']\n"
        "atexit.register(lambda: print({'torch', 'prefect', 'transformers'} & set(sys.modules) or 'light'))\n"
        "from surd.flows.cli.main import main; main()"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert all(
        name in ran.stdout
        for name in ("build", "select", "verify", "export", "import", "report", "inspect", "models", "schema", "demo")
    )
    assert ran.stdout.splitlines()[-1] == "light"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["build", "--profile", "dmo"], "did you mean 'demo'"),
        (["build", "--param", "corect.tolerance=1"], "did you mean 'correct'"),
        (["build", "--param", "limit"], "field=value"),
        (["build", "--limit", "-1"], "'limit' is -1"),
        (["build", "--config", "/no/such.yaml"], "/no/such.yaml"),
        (["build", "--out", "/proc/surd"], "/proc/surd"),
        (["build", "--param", "models.clip=/no/such/model"], "/no/such/model"),
        (["models", "--profile", "dmo"], "did you mean 'demo'"),
        (["inspect", "/no/such/build", "0123"], "/no/such/build"),
        (["report", "/no/such/build"], "/no/such/build"),
        (["select"], "BUILD is missing"),
        (["select", "/no/such/build"], "/no/such/build"),
        (["select", "/no/such/build", "--out", "b.csv"], "end its name with .parquet"),
        (["select", "/no/such/build", "--param", "caption.k=1"], "surd build --param"),
        (["select", "--diff", "/no/such/a", "/no/such/b.parquet"], "there is no /no/such/a/selection.parquet"),
        (["select", "data/mine", "--diff", "a", "b"], "only its two selections"),
        (["schema", "--out", "/proc/surd"], "/proc/surd"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_sentence_and_exit_code_2(surd, arguments, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = surd(*arguments)
    assert code == 2
    assert sentence in err
    assert err.startswith("error: ") and err.count("\n") == 1
    assert out == ""


def test_a_model_folder_that_is_not_there_leaves_a_former_build_alone(surd, built):
    out, _ = built
    before = sorted(path.name for path in out.rglob("*"))
    code, _, err = surd("build", "--param", "models.captioner=./gone", "--out", out)
    assert (code, "./gone" in err) == (2, True)
    assert sorted(path.name for path in out.rglob("*")) == before


def test_build_says_what_was_already_done_and_where_the_report_is(surd, built, parameters, tmp_path):
    out, summary = built
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({name: value for name, value in parameters.items() if name != "source"}))
    code, stdout, _ = surd("build", "--source", parameters["source"], "--config", config, "--out", out)
    assert code == 0
    lines = stdout.splitlines()
    assert [line.split()[0] for line in lines[: len(STAGES)]] == [stage.name for stage in STAGES]
    assert all("already done" in line for line in lines[: len(STAGES)])
    assert f"nothing to do: all {summary['run_units']} units were already done" in stdout
    assert Reason.NO_PROMPT.meaning in stdout
    assert lines[-1] == f"report: {out / 'report.html'}"


def test_after_a_build_of_other_pictures_the_demos_models_are_named(surd, monkeypatch, tmp_path):
    summary = {
        "collected": 1,
        "rejected": {},
        "kept": 1,
        "shards": 1,
        "report": "r",
        "run_units": 1,
        "skipped_units": 0,
    }
    monkeypatch.setattr("surd.flows.run_in_process.run_build", lambda *_: summary)
    code, _, notes = surd("build", "--source", f"folder:{tmp_path}", "--out", tmp_path / "b")
    assert (
        code == 0
        and notes.startswith("note: models.clip, models.captioner and models.vqa: made for the demo;")
        and "--profile" in notes
    )
    for param in (
        "source=demo",
        "models={clip: ViT-B-32/openai, captioner: Salesforce/blip, vqa: Salesforce/blip-vqa-base}",
    ):
        source = () if "demo" in param else ("--source", f"folder:{tmp_path}")
        assert surd("build", *source, "--param", param, "--out", tmp_path / "b")[2] == ""


def test_inspect_shows_all_of_a_kept_record(surd, built):
    out, _ = built
    key = keys(out, Status.KEPT)[0]
    code, stdout, _ = surd("inspect", out, key, "--json")
    record = json.loads(stdout)
    assert (code, record["key"], record["status"]["status"]) == (0, key, "kept")
    assert list(record["stages"]) == [stage.name for stage in STAGES if stage.row]
    assert record["shard"]["key"] == key
    assert record["paths"]["sample"] == str(out / "shards" / record["shard"]["shard"])
    assert str(out / "fetch/part-0000") in record["paths"]["original"]
    stdout = surd("inspect", out, key[:8])[1]
    assert key in stdout
    assert record["stages"]["correct"]["simple"].split()[0] in stdout


def test_inspect_shows_why_a_record_was_rejected(surd, built):
    out, _ = built
    key = keys(out, Status.REJECTED)[0]
    record = json.loads(surd("inspect", out, key, "--json")[1])
    assert record["status"]["reason"] == "no_prompt"
    assert record["status"]["rejected_by"] in ("fetch", "clean")
    assert record["shard"] is None and "sample" not in record["paths"]


@pytest.mark.parametrize(("key", "sentence"), [("zzzz", "no record"), ("", "records have it")])
def test_inspect_of_an_unknown_or_unclear_key_is_one_sentence(surd, built, key, sentence):
    code, _, err = surd("inspect", built[0], key)
    assert (code, sentence in err) == (2, True)


def test_report_makes_the_page_again_and_touches_nothing_else(surd, built):
    out, _ = built
    (out / "report.html").unlink()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    code, stdout, _ = surd("report", out)
    assert (code, stdout.strip()) == (0, str(out / "report.html"))
    assert (out / "report.html").exists()
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")} == before


@pytest.fixture
def scored(tmp_path):
    """A build of 200 pairs up to correct, with the first selection written."""
    rng = np.random.default_rng(0)
    images = unit(rng.standard_normal((200, 16)))
    texts = unit(images + 0.25 * rng.standard_normal((200, 16)))
    build, keys = Build(str(tmp_path / "scored")), [f"{(at * 2654435761) % 2**32:016x}" for at in range(200)]
    for part in (0, 1):
        here = slice(100 * part, 100 * part + 100)
        write_part(build, part, keys[here], images[here], texts[here], lost=keys[:7])
    write_end(build, 2, 200)
    config = BuildConfig()
    models = Models(config.models)
    clip = {"clip": f"{config.models.clip} {models.revision('clip')}"}
    build.write_json("build.json", BuildRecord(config=config.model_dump(mode="json"), versions={}, models=clip))
    for part, rows in enumerate(select(build, config, models)):
        build.write_rows("select", part, Selected, rows)
    return tmp_path / "scored"


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_select_shows_what_other_thresholds_would_keep_and_changes_nothing(surd, scored):
    out = scored
    before = contents(out)
    code, stdout, _ = surd("select", out, "--json")
    first = json.loads(stdout)
    assert code == 0 and first["collected"] == 200 == first["kept"] + sum(first["rejected"].values())
    assert first["rejected"]["mismatch"] == 7 and first["selection"] is None
    stricter = json.loads(surd("select", out, "--param", "select.min_clip_complex=0.8", "--json")[1])
    assert stricter["kept"] < first["kept"] and stricter["rejected"]["mismatch"] == 7
    stdout = surd("select", out, "--param", "select.min_clip_complex=0.8")[1]
    assert "clip_complex >= 0.8" in stdout and Reason.BELOW_THRESHOLD.meaning in stdout and "false-match" in stdout
    assert contents(out) == before


def test_select_writes_a_selection_only_to_out(surd, scored, tmp_path):
    out = scored
    target = tmp_path / "files" / "b.parquet"
    assert surd("select", out, "--out", target, "--dry-run")[0] == 0 and not target.exists()
    code, stdout, _ = surd("select", out, "--out", target)
    assert (code, stdout.splitlines()[-1]) == (0, f"selection: {target}")
    assert target.read_bytes() == (out / "selection.parquet").read_bytes()  # the same rule, so the same file
    code, _, err = surd("select", out, "--out", out / "selection.parquet")
    assert (code, "the build's own selection" in err) == (2, True)
    code, _, err = surd("select", out, "--out", "/proc/surd/b.parquet")
    assert (code, "/proc/surd/b.parquet" in err and err.count("\n") == 1) == (2, True)


def test_select_diff_shows_what_came_and_went_and_why(surd, scored, tmp_path):
    out = scored
    loose, strict = tmp_path / "loose.parquet", tmp_path / "strict.parquet"
    surd("select", out, "--param", "select.false_match_rate_complex=null", "--out", loose)
    surd("select", out, "--param", "select.min_clip_simple=0.8", "--out", strict)
    compared = json.loads(surd("select", "--diff", out, loose, "--json")[1])
    assert compared["went"] == {"count": 0, "by_reason": {}, "rows": []}
    gone = [row for row in Build(str(out)).read_table("select/part-00000.parquet").to_pylist() if row["reason"]]
    came = {row["key"]: row for row in compared["came"]["rows"]}
    assert compared["came"]["by_reason"] == {"below_threshold": len(came)} and len(came) > 0
    for row in gone:
        assert (row["key"] in came) == (row["rejected_by"] == "select")
    some = next(row for row in gone if row["rejected_by"] == "select")
    assert came[some["key"]]["detail"] == some["detail"] and "1% false-match threshold" in some["detail"]
    assert came[some["key"]]["simple"] == f"A picture of thing {some['key']}."
    assert came[some["key"]]["a"]["clip_complex"] == came[some["key"]]["b"]["clip_complex"] == some["clip_complex"]
    went = json.loads(surd("select", "--diff", loose, strict, "--json")[1])["went"]  # two files: only the rule is known
    assert went["by_reason"] == {"below_threshold": went["count"]} and went["count"] > 0
    assert all(row["detail"].startswith("clip_simple ") for row in went["rows"])
    assert all(row["simple"] is None for row in went["rows"])
    stdout = surd("select", "--diff", loose, strict, "--limit", "2")[1]
    assert f"0 came, {went['count']} went" in stdout and f"and {went['count'] - 2} more only in A" in stdout
    assert went["rows"][0]["key"] in stdout and went["rows"][2]["key"] not in stdout


def test_select_diff_names_the_kept_duplicate_of_an_image_that_went(surd, scored, tmp_path):
    few = tmp_path / "few.parquet"
    surd("select", scored, "--param", "select.max_similarity=0.6", "--out", few)
    went = json.loads(surd("select", "--diff", scored, few, "--json")[1])["went"]
    assert went["by_reason"] == {"duplicate_semantic": went["count"]} and went["count"] > 0
    kept = set(Build(str(tmp_path)).read_table("few.parquet")["key"].to_pylist())
    assert all(kept & set(row["detail"].replace(",", "").split()) for row in went["rows"])
    alone = tmp_path / "alone.parquet"  # without a build beside it the reason is unknown
    surd("select", scored, "--out", alone)
    assert json.loads(surd("select", "--diff", alone, few, "--json")[1])["went"]["by_reason"] == {
        "unknown": went["count"]
    }


def test_select_diff_of_two_builds_names_records_that_the_other_lacks(surd, scored, tmp_path):
    out = scored
    other = tmp_path / "other"
    shutil.copytree(out, other)
    table = Build(str(other)).read_table("selection.parquet")
    Build(str(other)).write_table("selection.parquet", table.slice(5))
    for part in (0, 1):
        rows = Build(str(other)).read_table(part_file("select", part))
        Build(str(other)).write_table(part_file("select", part), rows.filter(pc.is_in(rows["key"], table["key"][5:])))
    went = json.loads(surd("select", "--diff", out, other, "--json")[1])["went"]
    assert went["by_reason"] == {"not_in_build": 5} and went["rows"][0]["simple"]


def test_select_diff_of_another_file_is_one_sentence(surd, scored, tmp_path):
    out = scored
    (tmp_path / "text.parquet").write_text("key\n")
    pq.write_table(pa.table({"key": ["0" * 16]}), tmp_path / "other.parquet")
    for name in ("text.parquet", "other.parquet"):
        code, _, err = surd("select", "--diff", out, tmp_path / name)
        assert (code, err.count("\n"), f"{name}': it is not a selection" in err) == (2, 1, True)


def test_select_of_a_build_without_scores_is_one_sentence(surd, scored):
    out = scored
    Build(str(out)).remove_marker("correct", 1)
    code, _, err = surd("select", out)
    assert (code, "its stage correct is not finished (part 1); run the same surd build" in err) == (2, True)


def test_models_shows_what_is_present_and_what_is_not(surd, tmp_path):
    (tmp_path / "mine.yaml").write_text("models: {captioner: ./gone}\n")
    code, stdout, _ = surd("models", "--profile", tmp_path / "mine.yaml")
    lines = {line.split()[0]: line.split()[1] for line in stdout.splitlines() if line[:1].strip()}
    assert code == 0
    assert (lines["clip"], lines["captioner"]) == ("yes", "no")


def test_schema_writes_a_file_for_every_model(surd, tmp_path):
    code, stdout, _ = surd("schema", "--out", tmp_path)
    assert code == 0
    assert str(tmp_path / "BuildConfig.schema.json") in stdout.split()
    assert all(json.loads(path.read_text()) for path in tmp_path.glob("*.json"))
