"""The fingerprint of a unit: a sha256 over everything that decides its outcome."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from surd.pipeline.facts.similarity import installed
from surd.pipeline.models import Models
from surd.pipeline.models.nsfw import safety_files
from surd.pipeline.stages import Stage
from surd.schemas import BuildConfig, SurdError
from surd.schemas.entry_points import extensions
from surd.schemas.paths import absolute

_PIPELINE = Path(__file__).parents[1]


def basis_of(stage: Stage, config: BuildConfig, models: Models) -> dict[str, Any]:
    """What decides the outcome of all units alike: stage version, config fields, models, data files, source."""
    basis: dict[str, Any] = {
        "stage": stage.name,
        "version": stage.version,
        "settings": declared_values(config, stage.config_fields),
        "models": {role: models.revision(role) for role in stage.roles(config)},
    }
    for number, extra in enumerate(stage.also):
        if extra.is_set(config):
            data = [_file_hash(_data_file(entry, config)) for entry in extra.data_files]
            also: dict[str, Any] = {"settings": declared_values(config, extra.config_fields), "data": data}
            if extra.extensions:
                named = extensions(extra.extensions, _field(config, extra.field), extra.field)
                also["extensions"] = [one.version for one in named]
            basis[f"also {extra.field}" if number else "also"] = also
        elif extra.newer:
            unset = extra.field.rpartition(".")[2]
            basis["settings"] = {name: value for name, value in basis["settings"].items() if name != unset}
    if "facts" in stage.config_fields:
        basis["similarity"] = installed(
            config.facts.similarity
        )  # without the package, other values come in another order
    if files := _data_files(stage, config):
        basis["data"] = [_file_hash(file) for file in files]
    if stage.scope == "source":
        from surd.pipeline.sources import open_source

        basis["source"] = open_source(config).fingerprint()
    return basis


def digest(basis: Mapping[str, Any], inputs: Mapping[str, Mapping[str, str]]) -> str:
    """The fingerprint of a unit. ``inputs``: stage that it reads -> file -> sha256."""
    return hashlib.sha256(json.dumps({**basis, "inputs": inputs}, sort_keys=True).encode()).hexdigest()


def inputs(stage: Stage, config: BuildConfig) -> tuple[str, ...]:
    """The stages that a stage reads under this config."""
    also = (name for extra in stage.extras(config) for name in extra.reads)
    return tuple(dict.fromkeys((*stage.reads, *also)))


def declared_values(config: BuildConfig, fields: Iterable[str]) -> Mapping[str, Any]:
    """Field -> value as JSON, nested as in the config; of fields that all lie in one section, that section alone.

    A model role that is not given stands for the model that fills it.
    """
    values: dict[str, Any] = {}
    for path in fields:
        section, _, name = path.partition(".")
        if not name:
            values[section] = _plain(getattr(config, section))
        elif section == "models":
            values.setdefault(section, {})[name] = config.models.ref(name)
        else:
            values.setdefault(section, {})[name] = _plain(getattr(getattr(config, section), name))
    only = next(iter(values.values())) if len(values) == 1 else None
    return only if isinstance(only, dict) else values


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _data_files(stage: Stage, config: BuildConfig) -> list[Path]:
    files = [_data_file(entry, config) for entry in stage.data_files]
    return [*files, *safety_files(config.safety)] if stage.safety_models else files


def _data_file(entry: str, config: BuildConfig) -> Path:
    configurable, _, shipped = entry.rpartition(":")
    own = _field(config, configurable) if configurable else None
    return absolute(own) if own else _PIPELINE / shipped


def _field(config: BuildConfig, path: str) -> Any:
    section, _, name = path.partition(".")
    return getattr(getattr(config, section), name)


def _file_hash(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise SurdError(f"{str(file)!r} cannot be read ({error.strerror}); give the path of a file") from None
