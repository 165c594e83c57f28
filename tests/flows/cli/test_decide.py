"""surd decide and surd review: what a person types, what is kept of it, and what is said back."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import pytest

from surd.flows.cli.main import main
from surd.flows.import_dataset import Import, import_dataset
from surd.flows.listener import SILENT
from surd.pipeline.build.folder import Build
from surd.pipeline.decisions.review import Precision
from surd.pipeline.forget.forget import RemovalRequest, forget, plan_removal
from surd.pipeline.forget.leftovers import find_leftovers
from tests.object_store import BUCKET
from tests.pipeline.finished_sets import authors_set

pytest_plugins = ["tests.object_fixtures"]
FIELDS = {"pack.max_count": 5, "models.llm": "none"}


@pytest.fixture
def surd(monkeypatch, capsys):
    """Runs ``surd`` with some arguments and input; gives (exit code, stdout, stderr)."""

    def run(*arguments, typed=""):
        monkeypatch.setattr(sys, "argv", ["surd", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        monkeypatch.setenv("COLUMNS", "200")
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code or 0
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Twelve finished samples, and their build beside them."""
    root = tmp_path_factory.mktemp("decide")
    authors_set(root / "SURD")
    import_again(root)
    return root


def import_again(root: Path) -> None:
    layout = f"authors:{root / 'SURD'}"
    import_dataset(Import(layout=layout, out=str(root / "build"), fields=FIELDS, pooling=None), SILENT)


@pytest.fixture
def root(source, tmp_path) -> Path:
    """A copy of both."""
    shutil.copytree(source / "build", tmp_path / "build")
    (tmp_path / "SURD").symlink_to(source / "SURD")
    return tmp_path


def samples(root: Path) -> dict[str, str]:
    index = Build(str(root / "build")).read_table("shards/index.parquet", columns=["key", "simple"]).to_pylist()
    return {row["key"]: row["simple"] for row in index}


def test_decisions_are_listed_shown_and_taken_back(root, surd):
    build, (one, other, *_) = root / "build", sorted(samples(root))
    code, out, _ = surd("decide", build, one, other, "--reject", "[bold]blurred\x1b[2J[/bold]")
    assert code == 0 and "reject: 2 record(s)" in out
    assert surd("decide", build, other, "--withdraw")[0] == 0
    code, out, _ = surd("decide", build, "--list")
    assert one in out and other not in out and "[bold]blurred" in out and "\x1b" not in out and "1 record(s)" in out
    listed = json.loads(surd("decide", build, "--list", "--json")[1])
    assert [(row["key"], row["verdict"]) for row in listed["decisions"]] == [(one, "reject")]
    assert "decided by hand: reject: [bold]blurred" in surd("inspect", build, one)[1]
    assert json.loads(surd("inspect", build, one, "--json")[1])["decided_by_hand"][0]["verdict"] == "reject"
    assert "decided_by_hand" not in json.loads(surd("inspect", build, other, "--json")[1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--approve"], "KEY is missing"),
        (["0" * 16], "no decision is given"),
        (["0" * 16, "--approve", "--keep"], "--approve and --keep are given"),
        (["abc", "--approve"], "KEY is 'abc'"),
        (["0" * 16, "1" * 16, "--edit", "A fox."], "--edit is given with 2 keys"),
        (["0" * 16, "--edit", " "], "--edit is empty"),
        (["0" * 16, "--reject", "x" * 501], "--reject is not valid"),
        (["0" * 16, "--list"], "--list takes only BUILD"),
    ],
)
def test_what_is_not_clear_is_one_sentence_and_decides_nothing(root, surd, arguments, words):
    code, _, error = surd("decide", root / "build", *arguments)
    assert code == 2 and error.startswith(f"error: {words}") and error.count("\n") == 1
    assert not (root / "build" / "decisions.jsonl").exists()


def test_a_folder_without_a_build_is_said_and_stays_empty(tmp_path, surd):
    code, _, error = surd("decide", tmp_path, "0" * 16, "--approve")
    assert code == 2 and "holds no build.json" in error and list(tmp_path.iterdir()) == []


def test_what_a_decision_cannot_do_is_said(root, surd):
    build, (one, *_) = root / "build", sorted(samples(root))
    assert "is not in the build yet" in surd("decide", build, "0" * 16, "--approve")[1]
    opened = Build(str(build))
    forget(opened, plan_removal(opened, RemovalRequest(records=[one])))
    code, _, error = surd("decide", build, one, "--approve")
    assert code == 2 and "was removed by surd forget" in error
    assert [str(each) for each in find_leftovers(opened)] == []


def test_an_import_obeys_too(root, surd):
    one, other, *_ = sorted(samples(root))
    surd("decide", root / "build", one, "--reject", "blurred")
    surd("decide", root / "build", other, "--edit", "A fox sleeps.")
    import_again(root)
    now = samples(root)
    assert one not in now and now[other] == "A fox sleeps." and len(now) == 11


def test_a_review_is_drawn_once_goes_on_and_gives_the_interval(root, surd):
    build = root / "build"
    code, out, _ = surd("review", build, "--sample", 4, typed="y\n\nmaybe\nn\n")
    assert code == 0 and "precision 50.0% (1 of 2), 95% interval 9.5% to 90.5% (Wilson), of 12 samples" in out
    assert "2 not judged yet" in out and "--reject" in out
    pictures = [line.split()[-1] for line in out.splitlines() if line.startswith("  picture")]
    assert len(set(pictures)) == 3 and not any(Path(picture).exists() for picture in pictures)
    code, out, error = surd("review", build, "--sample", 4, "--json", typed="y\ny\n")
    found = json.loads(out)
    assert (found["answered"], found["yes"], found["left"], found["population"]) == (4, 3, 0, 12)
    assert found["interval"] == pytest.approx([0.3006, 0.9544], abs=1e-4) and "3 of 4" in error
    drawn = json.loads((build / "reviews" / "4-0.jsonl").read_bytes().splitlines()[0])["keys"]
    assert len(set(drawn)) == 4 and surd("review", build, "--sample", 4, typed="n\n" * 9)[1].startswith(
        "precision 75.0%"
    )
    assert json.loads(surd("review", build, "--sample", 99, "--json", typed="q")[1])["left"] == 12


def test_a_sample_that_has_changed_is_asked_about_again_and_one_that_went_is_left_out(root, surd):
    build = root / "build"
    surd("review", build, "--sample", 12, typed="y\n" * 12)
    one, other, *_ = sorted(samples(root))
    surd("decide", build, one, "--reject", "blurred")
    surd("decide", build, other, "--edit", "A fox sleeps.")
    import_again(root)
    found = json.loads(surd("review", build, "--sample", 12, "--json")[1])
    assert (found["answered"], found["left"], found["gone"]) == (10, 1, 1)


def test_nothing_of_a_removed_record_is_left_in_reviews(root, surd):
    build, (one, *_) = Build(str(root / "build")), sorted(samples(root))
    surd("review", build.root, "--sample", 12, typed="y\n" * 12)
    surd("decide", build.root, one, "--reject", "my face")
    forget(build, plan_removal(build, RemovalRequest(records=[one])))
    assert [str(each) for each in find_leftovers(build)] == []
    assert json.loads(surd("review", build.root, "--sample", 12, "--json")[1])["answered"] == 11


def test_the_interval_is_wilsons():
    assert Precision.of(186, 200).interval == pytest.approx((0.8859, 0.9578), abs=1e-4)
    assert Precision.of(10, 10).interval == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert Precision.of(0, 0).share is None


def test_all_of_it_on_an_object_store(objects, source, surd):
    build, layout = f"s3://{BUCKET}/build", f"authors:{source / 'SURD'}"
    asked = Import(layout=layout, out=build, fields=FIELDS, pooling=None)
    import_dataset(asked, SILENT)
    one, other, *_ = Build(build).read_table("shards/index.parquet", columns=["key"])["key"].to_pylist()
    surd("decide", build, one, "--reject", "blurred")
    surd("decide", build, other, "--edit", "A fox sleeps.")
    assert "precision 100.0% (2 of 2)" in surd("review", build, "--sample", 3, typed="y\ny\nq\n")[1]
    import_dataset(asked, SILENT)
    rows = Build(build).read_table("shards/index.parquet", columns=["key", "simple"]).to_pylist()
    now = {row["key"]: row["simple"] for row in rows}
    assert one not in now and now[other] == "A fox sleeps."
    assert "build/decisions.jsonl" in objects.names() and objects.names("build/decisions/") == []
    assert "2 record(s)" in surd("decide", build, "--list")[1]
