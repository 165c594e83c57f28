"""The command line, run in the process of the tests."""

import sys

import pytest

from surd.flows.cli.main import main


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
