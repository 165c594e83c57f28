"""Which folders are packages: ``schemas/``, ``pipeline/`` and ``flows/`` are imported as ``surd.schemas`` and so on.

Everything else about the distribution is in pyproject.toml, which has no way to say this for every folder below.
"""

from setuptools import find_packages, setup

ROOMS = ("schemas", "pipeline", "flows")

setup(
    packages=[f"surd.{name}" for name in find_packages(include=[f"{room}*" for room in ROOMS])]
    + find_packages(include=["sur_adapter*"]),
    package_dir={f"surd.{room}": room for room in ROOMS},
)
