"""Turns a config and this machine into ``build.json``: what was asked for and with what."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from surd.pipeline.build.folder import Build
from surd.pipeline.models import ROLES, Models
from surd.pipeline.net.urls import redact_secrets
from surd.schemas import BuildConfig, BuildRecord

STANDS_ON = ("surd", "diffusers", "open_clip_torch", "pillow", "prefect", "pyarrow", "torch", "transformers")
CHECKOUT = Path(__file__).parents[1]


def check(config: BuildConfig, root: str) -> BuildRecord:
    """The record of a build about to start, once it is clear that it can.

    Raises SurdError when the root cannot be written or a model role names what is not there.
    """
    Build(root).check_writable()
    models = Models(config.models)
    revisions = {role: f"{config.models.ref(role)} {models.revision(role)}" for role in ROLES}
    return BuildRecord(
        config=config.model_dump(mode="json") | {"source": redact_secrets(config.source)},
        versions={name: _version(name) for name in STANDS_ON},
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
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return found.stdout.strip() or None
