"""The wheel in an environment of its own, used in a project that has modules called like our folders."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.e2e.conftest import CHECKOUT
from tests.flows.pictures import draw_pictures

HIDING = "raise ImportError('this is a module of the user, not of surd')\n"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A fresh virtual environment with the wheel; the libraries it stands on are those of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    source = (
        folder / "source"
    )  # a copy: setuptools leaves a build/ beside what it builds, and takes stale files from it
    for room in ("schemas", "pretrained", "pipeline", "flows", "sur_adapter"):
        shutil.copytree(CHECKOUT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*build, str(folder), str(source)], check=True)
    (wheel,) = folder.glob("surd-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    python = folder / "venv/bin/python"
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "venv")}))
    # Only its path: a .pth file in there, such as that of an editable surd, is not read.
    (packages / "libraries.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", str(wheel)],
        check=True,
    )
    return python.parent


@pytest.fixture
def project(tmp_path) -> Path:
    """A user's project whose modules have the names of our folders, and three pictures."""
    for name in ("schemas.py", "flows.py"):
        (tmp_path / name).write_text(HIDING)
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").write_text(HIDING)
    draw_pictures(tmp_path / "photos", 3)
    return tmp_path


def run(installed: Path, project: Path, environment: dict[str, str], *command: str) -> str:
    env = environment | {"PYTHONPATH": str(project), "PATH": f"{installed}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_modules_are_those_of_the_wheel(installed, project, environment):
    program = "import surd.pipeline, surd.flows, surd.schemas, sur_adapter; print(surd.pipeline.__file__)"
    assert str(installed.parent) in run(installed, project, environment, "python", "-c", program)
    program = "from sur_adapter import SURStableDiffusionPipeline; print(SURStableDiffusionPipeline.__name__)"
    assert "SURStableDiffusionPipeline" in run(installed, project, environment, "python", "-c", program)


def test_the_commands_work(installed, project, environment):
    assert "the whole job" in run(installed, project, environment, "surd", "demo", "--help").lower()
    printed = run(installed, project, environment, "surd", "build", "--source", "folder:photos", "--out", "out")
    assert "collected" in printed and (project / "out/report.html").is_file()
    assert "--shards" in run(installed, project, environment, "sur-train", "--help")
