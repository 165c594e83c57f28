"""``build.json``: the config of a build, its model revisions, library versions and git commit."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from surd.pipeline.build.folder import Build
from surd.pipeline.models import ROLES, Models
from surd.pipeline.net.urls import redact_secrets
from surd.schemas import BuildConfig, BuildRecord

RECORDED_PACKAGES = ("surd", "diffusers", "open_clip_torch", "pillow", "prefect", "pyarrow", "torch", "transformers")
CHECKOUT = Path(__file__).parents[1]


def build_record(config: BuildConfig, root: str) -> BuildRecord:
    """The record of a build about to start, after checking that it can start.

    Raises SurdError when the folder cannot be written or the model of a role cannot be found.
    """
    Build(root).check_writable()
    models = Models(config.models)
    revisions = {role: f"{config.models.ref(role)} {models.revision(role)}" for role in ROLES}
    return BuildRecord(
        config=config.model_dump(mode="json") | {"source": redact_secrets(config.source)},
        versions={name: _version(name) for name in RECORDED_PACKAGES},
        models=revisions,
        git_commit=_git_commit(),
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _git_commit() -> str | None:
    if not (CHECKOUT / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(CHECKOUT), "rev-parse", "--verify", "--quiet", "HEAD"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return result.stdout.strip() or None
