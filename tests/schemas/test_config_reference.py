"""The reference of config fields, on its page and on the command line."""

import json

import pytest

from docs import config as config_page
from surd.flows.cli import main as cli
from surd.schemas import BuildConfig
from surd.schemas.config.reference import config_fields


def test_the_page_is_what_the_script_writes():
    assert config_page.PAGE.read_text(encoding="utf-8") == config_page.page(), "run `python -m docs.config --write`"


def test_every_field_is_there_and_says_what_it_means():
    fields = list(config_fields())
    assert {field.name.partition(".")[0] for field in fields} == set(BuildConfig.model_fields) - {"schema_version"}
    assert [field.name for field in fields if not field.meaning] == []


def test_the_command_shows_a_profiles_values_and_refuses_what_is_no_field(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["surd", "config", "select.min_clip_simple", "fetch", "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0 and "fetch.retries" in shown and "select.min_clip_simple" in shown
    assert not any(name.startswith("select.") and name != "select.min_clip_simple" for name in shown)
    monkeypatch.setattr("sys.argv", ["surd", "config", "fetc"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2 and "'fetc'" in capsys.readouterr().err
