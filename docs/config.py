"""Writes docs/config.md, the fields of a build's config, from their definitions: `python -m docs.config --write`."""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

from surd.schemas.config.reference import config_fields, section_meanings

PAGE = Path(__file__).with_name("config.md")
_HEAD = """# Config

Every field of a build, its default, and what it may be. Set one with `surd build --param fetch.retries=5`, several in a
YAML file for `--config`, all of a kind in a profile (`flows/profiles/`). `surd config --profile small` shows the values
of a profile. Made by `python -m docs.config --write`.
"""


def page() -> str:
    """The whole page."""
    meanings = section_meanings()
    parts = [_HEAD]
    for section, fields in groupby(config_fields(), lambda field: field.section):
        title, meaning = (section, meanings.get(section, "")) if section else ("Build", "What is built, and how.")
        rows = "\n".join(
            f"| `{field.name}` | `{_cell(field.default)}` | {_cell(field.kind)} | {_cell(field.meaning)} |"
            for field in fields
        )
        lead = f"{meaning}\n\n" if meaning else ""
        parts.append(f"## {title}\n\n{lead}| field | default | may be | meaning |\n| --- | --- | --- | --- |\n{rows}\n")
    return "\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        print(page())
