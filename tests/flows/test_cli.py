"""The command line: teaches, tells, and answers a mistake with one sentence and exit code 2."""

import json
import subprocess
import sys

import pytest

from flows.cli import main
from pipeline.build import Build, part_file
from pipeline.stages import STAGES
from schemas import Reason, Status


@pytest.fixture
def surd(monkeypatch, capsys):
    """Runs ``surd`` with some arguments; gives (exit code, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["surd", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


def keys(out, status):
    rows = [
        row
        for part in range(2)
        for row in Build(str(out)).read_table(part_file("select", part), columns=["key", "status"]).to_pylist()
    ]
    return [row["key"] for row in rows if row["status"] == status]


def test_help_lists_the_commands_and_loads_nothing_heavy():
    program = (
        "import atexit, sys; sys.argv = ['surd', '--help']\n"
        "atexit.register(lambda: print({'torch', 'prefect', 'transformers'} & set(sys.modules) or 'light'))\n"
        "from flows.cli import main; main()"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert all(name in ran.stdout for name in ("build", "report", "inspect", "models", "schema", "demo"))
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


def test_a_profile_naming_a_model_folder_that_is_not_there_leaves_a_former_build_alone(surd, built, tmp_path):
    out, _ = built
    (tmp_path / "mine.yaml").write_text("models: {captioner: ./gone}\n")
    before = sorted(path.name for path in out.rglob("*"))
    code, _, err = surd("build", "--profile", tmp_path / "mine.yaml", "--out", out)
    assert (code, "./gone" in err) == (2, True)
    assert sorted(path.name for path in out.rglob("*")) == before


def test_build_says_what_was_already_done_and_where_the_report_is(surd, built, asked, tmp_path):
    out, summary = built
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({name: value for name, value in asked.items() if name != "source"}))
    code, told, _ = surd("build", "--source", asked["source"], "--config", config, "--out", out)
    assert code == 0
    lines = told.splitlines()
    assert [line.split()[0] for line in lines[:12]] == [stage.name for stage in STAGES]
    assert all("already done" in line for line in lines[:12])
    assert f"nothing to do: all {summary['run_units']} units were already done" in told
    assert Reason.NO_PROMPT.meaning in told
    assert lines[-1] == f"report: {out / 'report.html'}"


def test_inspect_tells_all_of_a_kept_record(surd, built):
    out, _ = built
    key = keys(out, Status.KEPT)[0]
    code, told, _ = surd("inspect", out, key, "--json")
    found = json.loads(told)
    assert (code, found["key"], found["status"]["status"]) == (0, key, "kept")
    assert list(found["stages"]) == [stage.name for stage in STAGES if stage.row]
    assert found["shard"]["key"] == key
    assert found["paths"]["sample"] == str(out / "shards" / found["shard"]["shard"])
    assert str(out / "fetch/part-0000") in found["paths"]["original"]
    told = surd("inspect", out, key[:8])[1]
    assert key in told
    assert found["stages"]["correct"]["simple"].split()[0] in told


def test_inspect_tells_why_a_record_was_rejected(surd, built):
    out, _ = built
    key = keys(out, Status.REJECTED)[0]
    found = json.loads(surd("inspect", out, key, "--json")[1])
    assert found["status"]["reason"] == "no_prompt"
    assert found["status"]["rejected_by"] in ("fetch", "clean")
    assert found["shard"] is None and "sample" not in found["paths"]


@pytest.mark.parametrize(("key", "sentence"), [("zzzz", "no record"), ("", "records begin so")])
def test_inspect_of_an_unknown_or_unclear_key_is_one_sentence(surd, built, key, sentence):
    code, _, err = surd("inspect", built[0], key)
    assert (code, sentence in err) == (2, True)


def test_report_makes_the_page_again_and_touches_nothing_else(surd, built):
    out, _ = built
    (out / "report.html").unlink()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    code, told, _ = surd("report", out)
    assert (code, told.strip()) == (0, str(out / "report.html"))
    assert (out / "report.html").exists()
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")} == before


def test_models_tells_what_is_present_and_what_is_not(surd, tmp_path):
    (tmp_path / "mine.yaml").write_text("models: {captioner: ./gone}\n")
    code, told, _ = surd("models", "--profile", tmp_path / "mine.yaml")
    lines = {line.split()[0]: line.split()[1] for line in told.splitlines() if line[:1].strip()}
    assert code == 0
    assert (lines["clip"], lines["captioner"]) == ("yes", "no")


def test_schema_writes_a_file_for_every_model(surd, tmp_path):
    code, told, _ = surd("schema", "--out", tmp_path)
    assert code == 0
    assert str(tmp_path / "BuildConfig.schema.json") in told.split()
    assert all(json.loads(path.read_text()) for path in tmp_path.glob("*.json"))
