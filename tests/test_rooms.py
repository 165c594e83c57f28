"""The walls between rooms: who may import whom, and nothing that unpickles."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "schemas": set(),
    "pipeline": {"schemas"},
    "flows": {"schemas", "pipeline"},
    "sur_adapter": {"schemas"},
}
UNPICKLERS = {"pickle", "cloudpickle", "dill", "joblib", "shelve"}


def imports(room: str) -> dict[str, set[str]]:
    """Each module of a room -> the top-level names it imports, wherever in the file."""
    found = {}
    for path in sorted((ROOT / room).rglob("*.py")):
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add((node.module or "").split(".")[0] if node.level == 0 else room)
        found[str(path.relative_to(ROOT))] = names
    return found


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_the_rooms_it_may(room):
    forbidden = set(MAY_IMPORT) - MAY_IMPORT[room] - {room} | {"tests"}
    found = imports(room)
    assert found
    assert {path: names & forbidden for path, names in found.items() if names & forbidden} == {}


@pytest.mark.parametrize("room", ["schemas", "pipeline", "sur_adapter"])
def test_only_flows_knows_prefect_and_ray(room):
    assert {path for path, names in imports(room).items() if names & {"prefect", "prefect_ray", "ray"}} == set()


def test_flows_never_touches_a_pixel():
    assert {
        path for path, names in imports("flows").items() if names & {"PIL", "torch", "torchvision", "numpy"}
    } == set()


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_nothing_unpickles(room):
    assert {path for path, names in imports(room).items() if names & UNPICKLERS} == set()
