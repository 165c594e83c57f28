"""The bare name of the deployment is completed on Prefect's command line, and nothing else is."""

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from surd.flows.prefect_plugin import complete

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("deployment run build-surd", "deployment run build-surd/build-surd"),
        (
            "deployment run build-surd --param limit=3 --watch",
            "deployment run build-surd/build-surd --param limit=3 --watch",
        ),
        ("deployment run --watch build-surd", "deployment run --watch build-surd/build-surd"),
        ("deployment run -p limit=3 build-surd", "deployment run -p limit=3 build-surd/build-surd"),
        ("deployment inspect build-surd", "deployment inspect build-surd/build-surd"),
    ],
)
def test_a_bare_name_is_completed(typed, read):
    assert complete(typed.split()) == read.split()


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "deployment",
        "deployment ls",
        "deployment run build-surd/build-surd",
        "deployment run other",
        "deployment run other/other --tag build-surd",
        "deploy --name build-surd",
        "work-pool create build-surd",
        "flow-run ls",
    ],
)
def test_everything_else_is_left_alone(typed):
    assert complete(typed.split()) == typed.split()


def test_prefect_finds_the_plugin_by_its_entry_point():
    (found,) = entry_points(group="prefect.plugins", name="surd")
    assert found.value == "surd.flows.prefect_plugin"


def test_the_hook_fits_prefects_specification_and_loads_nothing_heavy():
    program = (
        "import sys\n"
        "sys.argv = ['prefect', 'deployment', 'run', 'build-surd']\n"
        "import prefect\n"
        "print(sys.argv[-1], 'torch' in sys.modules, 'pyarrow' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["build-surd/build-surd", "False", "False"]
    assert ran.stderr == ""


def test_outside_a_checkout_the_plugin_is_not_switched_on(tmp_path):
    program = (
        "import sys; sys.argv = ['prefect', 'deployment', 'run', 'build-surd']; import prefect; print(sys.argv[-1])"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["build-surd"]
