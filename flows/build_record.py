"""``build.json``: the config of a build, its model revisions, library versions and git commit."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from surd.flows.build_request import BuildRequest
from surd.pipeline.build.folder import Build
from surd.pipeline.models import ROLES, Models
from surd.pipeline.net.urls import redact_secrets
from surd.schemas import BuildRecord

RECORDED_PACKAGES = ("surd", "diffusers", "open_clip_torch", "pillow", "prefect", "pyarrow", "torch", "transformers")
CHECKOUT = Path(__file__).parents[1]


def build_record(request: BuildRequest) -> BuildRecord:
    """The record of a build about to start, after checking that it can start.

    Raises SurdError when the folder cannot be written or the model of a role cannot be found.
    """
    config = request.config
    Build(request.out).check_writable()
    models = Models(config.models)
    revisions = {
        role: f"{config.models.ref(role)} {models.revision(role)}" for role in ROLES if config.models.ref(role)
    }
    redacted: list[str] = []
    return BuildRecord(
        config=without_secrets(config.model_dump(mode="json"), redacted),
        versions={name: _version(name) for name in RECORDED_PACKAGES},
        models=revisions,
        git_commit=_git_commit(),
        made_by=request.made_by,
        profile=request.profile,
        parameters=without_secrets(request.parameters, []),
        source=request.source,
        redacted=redacted,
    )


def without_secrets(values: Mapping[str, Any], redacted: list[str], prefix: str = "") -> dict[str, Any]:
    """Config values without what their URLs hold of passwords and keys; the names of fields that had any are added."""
    shown: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            shown[name] = without_secrets(value, redacted, f"{prefix}{name}.")
        elif isinstance(value, str) and (name == "source" or "://" in value) and redact_secrets(value) != value:
            shown[name] = redact_secrets(value)
            redacted.append(prefix + name)
        else:
            shown[name] = value
    return shown


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
