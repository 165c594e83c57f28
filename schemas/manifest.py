"""What a finished build says of itself: shard manifest, column manifest, build record, completion marker."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

FORMAT_VERSION = 1


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")
    schema_version: int = FORMAT_VERSION


class ShardInfo(BaseModel):
    """One tar of a shard set."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(description="File name, e.g. surd-00000.tar.")
    count: int = Field(description="Samples in it.")
    bytes: int
    sha256: str


class ShardManifest(_Document):
    """``shards/manifest.json``: the image shards."""

    count: int = Field(description="Samples in all shards.")
    diffusion: str = Field(description="The diffusion model the dataset was made for (a model string).")
    shards: list[ShardInfo]


class ColumnManifest(_Document):
    """``columns/<column>/manifest.json``: a parallel set of tars with one ``{key}.npy`` a sample, in shard order."""

    column: str
    kind: Literal["llm", "latents", "clip"]
    model: str = Field(description="Model string.")
    revision: str = Field(description="Content hash of a local model, or the hub revision.")
    layer: int = Field(description="Hidden layer, 0 = embeddings.")
    pooling: Literal["mean", "tokens"] = Field(description="mean: [width]; tokens: [tokens, width].")
    width: int
    dtype: str = Field(description="NumPy dtype of the arrays.")
    text: str = Field(description="Which prompt was embedded: simple or complex.")
    count: int
    shards: list[ShardInfo]


class BuildRecord(_Document):
    """``build.json``: what was asked for and with what."""

    config: dict[str, Any] = Field(description="The resolved config.")
    versions: dict[str, str] = Field(description="Installed versions of surd and of what it stands on.")
    models: dict[str, str] = Field(description="Role -> model string and revision.")
    git_commit: str | None = Field(default=None, description="Of the checkout surd ran from, where there is one.")


class Marker(_Document):
    """``<stage>/part-NNNNN.done.json``: proof that a partition of a stage is finished, and from what."""

    stage: str
    part: int
    parts: int = Field(description="Partitions this stage has.")
    fingerprint: str = Field(description="sha256 of input content, the stage's config, model revisions, stage version.")
    outputs: dict[str, str] = Field(description="File (relative to the build) -> sha256.")
    rows: int
    seconds: float
