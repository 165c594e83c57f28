"""Which folders are packages: ``schemas/``, ``pretrained/``, ``pipeline/`` and ``flows/`` are ``surd.NAME``.

Everything else about the distribution is in pyproject.toml, which cannot say this for every folder below them.
"""

from setuptools import find_namespace_packages, setup

ROOMS = ("schemas", "pretrained", "pipeline", "flows")

found = find_namespace_packages(include=[f"{room}*" for room in (*ROOMS, "sur_adapter")], exclude=["*__pycache__*"])
setup(
    packages=[name if name.startswith("sur_adapter") else f"surd.{name}" for name in found],
    package_dir={f"surd.{room}": room for room in ROOMS},
)
