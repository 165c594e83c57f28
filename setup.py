"""Which folders are packages: ``schemas/``, ``pipeline/`` and ``flows/`` are imported as ``surd.schemas`` and so on.

Everything else about the distribution is in pyproject.toml, which cannot say this for every folder below them.
"""

from setuptools import find_namespace_packages, setup

ROOMS = ("schemas", "pipeline", "flows")

found = find_namespace_packages(include=[f"{room}*" for room in (*ROOMS, "sur_adapter")], exclude=["*__pycache__*"])
setup(
    packages=[name if name.startswith("sur_adapter") else f"surd.{name}" for name in found],
    package_dir={f"surd.{room}": room for room in ROOMS},
)
