"""Text from outside on a terminal: shown, never obeyed; JSON stays JSON; names of folders mean nothing."""

import io
import json
import logging
import sys
import unicodedata

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from surd.schemas.console import PlainConsole
from surd.schemas.paths import absolute, list_names, open_path, remove
from surd.schemas.printable import json_line, printable, set_up_terminal
from tests.fuzz import FUZZED

NASTY = "\x1b]0;title\x07\x1b[31mred\x9b2J\r\u202egnp.exe\u2066 \ud800 [/bold][red]x[/red] :fox: 🧑‍🚀 שלום é"


def test_a_terminal_gets_no_character_that_it_would_obey():
    shown = printable(NASTY)
    assert "\\x1b]0;title\\x07\\x1b[31mred\\x9b2J\\r\\u202egnp.exe\\u2066 \\ud800" in shown
    assert "[/bold][red]x[/red] :fox: 🧑‍🚀 שלום é" in shown, "letters, emoji and brackets are shown as they are"
    assert printable("a\nb\tc") == "a\\nb\\tc" and printable("a\nb\tc", lines=True) == "a\nb\tc"


@pytest.mark.fuzz
@FUZZED
@given(st.text(alphabet=st.characters(codec=None)))
def test_whatever_is_printed_has_no_control_character_and_can_be_encoded(text):
    shown = printable(text)
    assert not [char for char in shown if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")]
    assert not {*"\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2069"} & {*shown}
    shown.encode()
    assert json.loads(json_line({"text": [text]})) == {"text": [text]}
    assert printable(json_line(text)) == json_line(text)


def test_the_console_prints_strings_as_they_are_in_lines_and_in_tables():
    out = io.StringIO()
    console = PlainConsole(file=out, force_terminal=True, width=200, color_system=None)
    table = Table("column [/bold]", title=NASTY.replace("\n", ""))
    table.add_row(NASTY)
    console.print(f"report: {NASTY}", soft_wrap=True)
    console.print(table)
    said = out.getvalue()
    assert said.count("[/bold][red]x[/red] :fox:") == 3 and said.count("\\x1b]0;title\\x07") == 3
    assert not {"\x07", "\x9b", "\u202e", "\ud800"} & {*said} and "\x1b]" not in said and "column [/bold]" in said


def test_a_terminal_that_knows_ascii_alone_gets_escapes(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    set_up_terminal()
    print("é 🧑")
    sys.stdout.flush()
    assert raw.getvalue() == b"\\xe9 \\U0001f9d1\n"


def test_a_warning_of_the_log_is_shown_and_not_obeyed():
    set_up_terminal()
    record = logging.LogRecord("surd", logging.WARNING, "", 0, "page %s", ("\x1b[2J",), None)
    assert logging.lastResort is not None and logging.lastResort.format(record) == "page \\x1b[2J"


@pytest.mark.parametrize("name", ["set [v1]", "a*", "what?", "a{b,c}", "x::y", "~such-a-user", "#frag", "100%"])
def test_names_in_folders_are_names_here_and_elsewhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    filesystem, path = open_path(name)
    assert path == str(tmp_path / name) == str(absolute(name))
    filesystem = fsspec.filesystem("memory")
    for folder in (name, "abc", "set v"):
        filesystem.pipe_file(f"/here/{folder}/deep/file", b"1")
    root = f"/here/{name}"
    assert list_names(filesystem, root) == ["deep"] and list_names(filesystem, f"{root}/nothing") == []
    assert list_names(filesystem, f"{root}/deep") == ["file"]
    remove(filesystem, root)
    assert not filesystem.exists(root) and filesystem.exists("/here/abc/deep/file")
    filesystem.rm("/here", recursive=True)
