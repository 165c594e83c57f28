"""bench-scale runs its parts as processes, and believes none that contradicts itself."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest

from tests.bench.scale import main

FIGURE = {"value": 1.0, "goal": "<= 1.5", "met": True}


@pytest.fixture
def part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of parts, which Python finds as ``parts``."""
    (tmp_path / "parts").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "parts"


def write(folder: Path, name: str, figures: object, *, met: bool, code: int) -> None:
    document = json.dumps({"met": met, "figures": figures})
    (folder / f"{name}.py").write_text(
        dedent(f"""
            import sys
            print("on the way")
            print({document!r})
            sys.exit({code})
        """)
    )


def results(capsys: pytest.CaptureFixture[str], parts: list[str]) -> tuple[int, dict]:
    code = main([], parts, "parts")
    return code, json.loads(capsys.readouterr().out)


def test_the_figures_of_all_parts_are_one(part: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(part, "one", {"ratio": FIGURE}, met=True, code=0)
    write(part, "two", {"ratio": FIGURE, "seconds": FIGURE}, met=True, code=0)
    code, result = results(capsys, ["one", "two"])
    assert code == 0 and result["met"] and not result["errors"]
    assert list(result["figures"]) == ["one.ratio", "two.ratio", "two.seconds"]


def test_a_missed_goal_fails_the_whole(part: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(part, "one", {"ratio": FIGURE | {"met": False}}, met=False, code=1)
    write(part, "two", {"ratio": FIGURE}, met=True, code=0)
    code, result = results(capsys, ["one", "two"])
    assert code == 1 and not result["errors"] and result["figures"]["two.ratio"]["met"]


@pytest.mark.parametrize(
    ("figures", "met", "exit_code", "why"),
    [
        ({"ratio": FIGURE}, True, 1, "exit code is 1"),
        ({"ratio": FIGURE | {"met": False}}, True, 0, "its figures say False"),
        ({"ratio": {"value": 1}}, True, 0, "no figures"),
        ({}, True, 0, "lacks figures"),
        (None, True, 0, "no figures"),
    ],
)
def test_a_part_that_contradicts_itself_is_an_error(
    part: Path, capsys: pytest.CaptureFixture[str], figures: object, met: bool, exit_code: int, why: str
) -> None:
    write(part, "one", figures, met=met, code=exit_code)
    code, result = results(capsys, ["one"])
    assert code == 1 and not result["met"] and why in result["errors"]["one"]


def test_a_part_that_is_missing_or_crashes_is_an_error(part: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (part / "crashes.py").write_text("print('{}')\nraise RuntimeError('broken')\n")
    write(part, "whole", {"ratio": FIGURE}, met=True, code=0)
    code, result = results(capsys, ["missing", "crashes", "whole"])
    assert code == 1 and set(result["errors"]) == {"missing", "crashes"} and result["figures"]
