"""The walls between rooms: who may import whom, where each library may be used, and nothing that unpickles.

The ladder of ``pipeline/`` and ``sur_adapter/``: a room imports only rooms listed for it, so nothing imports upward and
no circle can arise. A room is a folder or a file right below; of ``pipeline.stages`` each stage is a room of its own.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP = {
    "schemas": set(),
    "pretrained": {"schemas"},
    "pipeline": {"schemas", "pretrained"},
    "flows": {"schemas", "pipeline"},
    "sur_adapter": {"schemas", "pretrained"},
}
LEAVES = {"rejection", "untrusted_json", "batching", "tables"}
LIBRARIES = {"images", "metadata", "deduplication", "models", "prompts", "facts", "sentences", "net", *LEAVES}
STAGE = LIBRARIES | {"build", "decisions", "model_cache", "report", "selection", "acquisition", "dataset", "sources"}
PIPELINE = {
    "rejection": set(),
    "untrusted_json": set(),
    "batching": set(),
    "tables": set(),
    "net": {"rejection", "untrusted_json"},
    "images": {"rejection"},
    "metadata": {"images", "untrusted_json"},
    "deduplication": {"images", "batching", "tables"},
    "models": {"net", "batching", "untrusted_json"},
    "prompts": {"models", "metadata"},
    "facts": {"models", "prompts"},
    "sentences": {"models", "prompts", "facts", "untrusted_json"},
    "build": {"tables"},
    "decisions": {"build"},
    "model_cache": {"build", "models", "batching"},
    "report": {"build", "models", "net", "tables"},
    "selection": {"build", "decisions", "deduplication", "tables"},
    "view": {"build", "decisions", "net", "report", "selection"},
    "acquisition": {"build", "net", "images", "metadata", *LEAVES},
    "dataset": {"build", "images", "models", *LEAVES},
    "demo": {"models", "facts", "untrusted_json"},
    "sources": {"net", "metadata", "demo", *LEAVES},
    "stages": STAGE,
    "runner": {"stages", "build", "decisions", "facts", "models", "dataset", "sources", "net"},
    "inspection": {"runner", "stages", "dataset", "build", "model_cache", "models", "net"},
    "forget": {
        "runner",
        "stages",
        "dataset",
        "acquisition",
        "deduplication",
        "selection",
        "build",
        "decisions",
        "models",
        "model_cache",
        *LEAVES,
    },
    "imports": {"runner", "stages", "dataset", "build", "sources", "selection", "models", *LEAVES},
}
ADAPTER = {
    "": set(),
    "data": {""},
    "sampling": {""},
    "evaluation": {"", "sampling"},
    "training": {"", "data", "evaluation", "sampling"},
    "cli": {"", "data", "evaluation", "sampling", "training"},
}
MOST_EDGES = 104
UNPICKLERS = {"pickle", "cloudpickle", "dill", "joblib", "shelve"}


def imported(path: Path) -> Iterator[str]:
    """Every module or name that a file imports, dotted, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written out"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(room: str) -> list[Path]:
    found = sorted((ROOT / room).rglob("*.py"))
    assert found
    return found


def libraries(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


def rooms_of(name: str) -> list[str]:
    """``surd.pipeline.net.retry.describe`` -> pipeline, net, retry, describe."""
    parts = name.split(".")
    return parts[1:] if parts[0] == "surd" else parts if parts[0] in ("sur_adapter", "tests") else []


def unit(path: Path, room: str) -> str:
    parts = path.relative_to(ROOT / room).with_suffix("").parts
    return parts[0] if room == "pipeline" or len(parts) > 1 else ""


def edges(room: str) -> dict[tuple[str, str], str]:
    """(importing unit, imported unit) -> an example."""
    units = {unit(path, room) for path in files(room)}
    found = {}
    for path in files(room):
        for name in imported(path):
            parts = rooms_of(name)
            if len(parts) > 1 and parts[0] == room:
                target = parts[1] if parts[1] in units else ""
                if target != unit(path, room):
                    found[unit(path, room), target] = f"{path.relative_to(ROOT)} imports {name}"
    return found


@pytest.mark.parametrize("room", TOP)
def test_a_room_imports_only_the_rooms_it_may(room):
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files(room)
        for name in imported(path)
        if (parts := rooms_of(name)) and parts[0] not in {room, *TOP[room]}
    ]
    assert wrong == []


@pytest.mark.parametrize("room", TOP)
def test_our_own_rooms_are_imported_by_a_name_that_no_users_module_can_hide(room):
    wrong = [path for path in files(room) if libraries(path) & {"schemas", "pretrained", "pipeline", "flows", "tests"}]
    assert wrong == []


@pytest.mark.parametrize(("room", "ladder"), [("pipeline", PIPELINE), ("sur_adapter", ADAPTER)])
def test_no_import_goes_up_the_ladder(room, ladder):
    found = edges(room)
    units = {unit(path, room) for path in files(room)} - {"__init__"}
    assert units == set(ladder), "every room stands in the ladder"
    wrong = [example for (here, there), example in found.items() if there not in ladder.get(here, set())]
    assert wrong == []


@pytest.mark.parametrize("ladder", [PIPELINE, ADAPTER])
def test_the_ladder_itself_has_no_circle(ladder):
    left = dict(ladder)
    while left:
        free = [name for name, allowed in left.items() if not allowed & left.keys()]
        assert free, f"a circle among {sorted(left)}"
        left = {name: allowed for name, allowed in left.items() if name not in free}


def test_the_rooms_of_the_pipeline_are_joined_by_few_imports():
    assert len(edges("pipeline")) <= MOST_EDGES


def test_no_stage_imports_another_stage_or_what_runs_it():
    names = {path.stem for path in files("pipeline/stages")} - {"__init__"}
    wrong = [
        f"{path.name} imports {name}"
        for path in files("pipeline/stages")
        for name in imported(path)
        if (parts := rooms_of(name))[:2] == ["pipeline", "stages"]
        and len(parts) > 2
        and parts[2] in names - {path.stem}
    ]
    assert wrong == []


def test_the_list_of_stages_loads_none_of_them():
    assert {parts[0] for name in imported(ROOT / "pipeline/stages/__init__.py") if (parts := rooms_of(name))} == {
        "schemas"
    }


def test_schemas_are_light():
    heavy = {"torch", "transformers", "diffusers", "pandas"}
    assert {path for path in files("schemas") if libraries(path) & heavy} == set()
    pictures = {path for path in files("schemas") if libraries(path) & {"numpy", "PIL"}}
    assert {path.parent.name for path in pictures} == {"shard_format"}


@pytest.mark.parametrize("room", ["schemas", "pretrained", "pipeline", "sur_adapter"])
def test_only_flows_knows_prefect_and_ray(room):
    assert {path for path in files(room) if libraries(path) & {"prefect", "prefect_ray", "ray"}} == set()


def test_only_the_command_line_of_flows_draws_on_a_terminal_and_no_flow_imports_it():
    for path in files("flows"):
        if path.parent.name == "cli":
            assert not libraries(path) & {"prefect", "prefect_ray", "ray"}, path
        else:
            assert not libraries(path) & {"rich", "typer"}, path
            assert not [name for name in imported(path) if name.startswith("surd.flows.cli")], path


def test_flows_never_touches_a_pixel():
    assert {path for path in files("flows") if libraries(path) & {"PIL", "torch", "torchvision", "numpy"}} == set()


@pytest.mark.parametrize("room", TOP)
def test_nothing_unpickles(room):
    for path in files(room):
        assert not libraries(path) & UNPICKLERS, path
        loads = [line for line in path.read_text(encoding="utf-8").splitlines() if "torch.load(" in line]
        assert all("weights_only=True" in line for line in loads), path


def test_no_two_public_classes_have_one_name():
    where: dict[str, set[str]] = {}
    for room in TOP:
        for path in files(room):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    where.setdefault(node.name, set()).add(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in where.items() if len(paths) > 1} == {}
