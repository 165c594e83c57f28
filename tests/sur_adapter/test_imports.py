"""The room's walls: of ours, sur_adapter imports only schemas."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOM = Path(__file__).parents[2] / "sur_adapter"
OURS = {"surd", "pipeline", "flows", "sur_adapter", "schemas", "tests"}


def imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {_room(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("sur_adapter" if node.level else _room(node.module or ""))
    return names


def _room(module: str) -> str:
    """The top-level name of a module; of ours, the one below ``surd``."""
    return module.removeprefix("surd.").split(".")[0]


def test_the_adapter_knows_schemas_alone() -> None:
    files = sorted(ROOM.rglob("*.py"))
    found = {name for file in files for name in imported(file)} & OURS
    assert len(files) > 8 and found == {"sur_adapter", "schemas"}


def test_nothing_here_can_unpickle() -> None:
    for file in ROOM.rglob("*.py"):
        names = imported(file)
        assert not names & {"pickle", "joblib", "dill"}, file
        loads = re.findall(r"torch\.load\(.*", file.read_text(encoding="utf-8"))
        assert all(call.endswith("weights_only=True)") for call in loads), file
