"""Which columns a build has or its config asks for: name, model and role of each."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from surd.pipeline.build.damage import DamagedFile, reading
from surd.pipeline.build.folder import Build
from surd.pipeline.models import Models
from surd.schemas import ColumnManifest, ShardManifest
from surd.schemas.config import EmbedConfig, ModelsConfig, Pooling
from surd.schemas.shard_format.manifests import InvalidManifest, odd_tar_name, parse_manifest

M = TypeVar("M", ShardManifest, ColumnManifest)


@dataclass(frozen=True, kw_only=True)
class ColumnSpec:
    """What a column holds and who makes it. ``buckets``: latents of aspect-ratio buckets instead of the square.
    ``revision``: the weights it was made with, once it is there."""

    kind: Literal["llm", "latents", "clip"]
    model: str
    text: Literal["simple", "complex"] | None = None
    layer: int | None = None
    pooling: Pooling | None = None
    buckets: bool = False
    revision: str | None = field(default=None, compare=False)

    @classmethod
    def of(cls, manifest: ColumnManifest) -> ColumnSpec:
        """The column that a manifest describes."""
        fields = manifest.model_dump(include={"kind", "model", "text", "layer", "pooling", "revision"})
        return cls(**fields, buckets=manifest.buckets is not None)

    @property
    def name(self) -> str:
        """``llm-<model>-l<layer>[-last|-tokens]``, ``llm-<model>-all-layers``, ``latents``, ``latents-buckets``,
        ``clip-simple`` or ``clip-complex``.

        The LLM is told by the last part of its name.
        """
        if self.kind == "latents":
            return "latents-buckets" if self.buckets else "latents"
        if self.kind == "clip":
            return f"clip-{self.text}"
        stem = re.sub(r"\.gguf$", "", self.model.rstrip("/").rsplit("/", 1)[-1])
        slug = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")
        if self.pooling == "all-layers":
            return f"llm-{slug}-all-layers"
        return f"llm-{slug}-l{self.layer}" + ("" if self.pooling == "mean" else f"-{self.pooling}")

    @property
    def conditions_unet(self) -> bool:
        """Whether UNets are trained on its states: the empty prompt and SDXL's pooled text belong to it then."""
        return self.kind == "clip" and self.text == "simple"

    @property
    def role(self) -> str:
        """The model role that computes it."""
        return "embed_llm" if self.kind == "llm" else "diffusion"

    def models(self, models: Models) -> Models:
        """``models`` with this column's own model in its role."""
        return Models(models.config.model_copy(update={self.role: self.model}))


def columns_asked(settings: EmbedConfig, models: ModelsConfig) -> list[ColumnSpec]:
    """The columns that a config asks for."""
    llm, diffusion = models.ref("embed_llm"), models.diffusion
    asked = [
        ColumnSpec(kind="llm", model=llm, text="simple", layer=layer, pooling=pooling)
        for layer in sorted(set(settings.layers))
        for pooling in sorted(set(settings.pooling) - {"all-layers"})
    ]
    if "all-layers" in settings.pooling:
        asked.append(ColumnSpec(kind="llm", model=llm, text="simple", pooling="all-layers"))
    own = {
        "latents": ColumnSpec(kind="latents", model=diffusion),
        "latents-buckets": ColumnSpec(kind="latents", model=diffusion, buckets=True),
        "clip-simple": ColumnSpec(kind="clip", model=diffusion, text="simple"),
        "clip-complex": ColumnSpec(kind="clip", model=diffusion, text="complex"),
    }
    return asked + [column for name, column in own.items() if name in settings.columns]


def columns_present(build: Build) -> dict[str, ColumnManifest]:
    """The finished columns of a build, by name. Raises SurdError when a manifest is not valid."""
    found = {}
    for name in column_folders(build):
        file = f"columns/{name}/manifest.json"
        if build.exists(file):
            found[name] = _manifest(build, file, ColumnManifest, "column")
    return found


def column_folders(build: Build) -> list[str]:
    """Names of the columns of a build, finished or not. Raises SurdError where ``columns`` is no folder."""
    if build.is_file("columns"):
        raise DamagedFile(build, "columns", "is a file where a folder belongs")
    return build.listdir("columns")


def drop_column(build: Build, name: str) -> None:
    """Remove a column and the markers of its shards."""
    build.remove(f"columns/{name}")
    build.remove(marker_folder(name))


def marker_folder(name: str) -> str:
    """The folder of a column's ledger, in which each shard is a unit."""
    return f"embed/{name}"


def shard_manifest(build: Build) -> ShardManifest:
    """What shards a build has. Raises SurdError when the manifest is not valid, or lists a tar elsewhere."""
    file = "shards/manifest.json"
    manifest = _manifest(build, file, ShardManifest, "shard")
    if odd := odd_tar_name(manifest):
        raise DamagedFile(build, file, f"is not a valid shard manifest ({odd!r} is not a valid tar name)")
    return manifest


def _manifest(build: Build, file: str, model: type[M], kind: str) -> M:
    with reading(build, file):
        data = build.read_bytes(file)
    try:
        return parse_manifest(data, model)
    except InvalidManifest as error:
        raise DamagedFile(build, file, f"is not a valid {kind} manifest ({error.problem})") from None
