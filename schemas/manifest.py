"""The documents of a build: shard manifest, column manifest, build record, completion marker, calibration."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from surd.schemas.shard_format.buckets import DIGITS

# Since 2: bfloat16, masks, shapes, pooled text and the empty prompt in columns; prompts and every score in the index.
FORMAT_VERSION = 2
#: The tar beside those of the shards, and the key of the one sample in it.
EMPTY_PROMPT_TAR, EMPTY_PROMPT_KEY = "empty.tar", "empty"


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")
    schema_version: int = FORMAT_VERSION


#: Poolings of an LLM's states that keep one vector a token.
TOKEN_LEVEL = ("tokens", "all-layers")
MOST_SIDE = 1 << 16  # pixels of a bucket


class ShardInfo(BaseModel):
    """One tar of a shard set."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(description="File name, e.g. surd-00000.tar.")
    count: int = Field(description="Samples in it.")
    bytes: int
    sha256: str


class Buckets(BaseModel):
    """The sizes that a column's images were resized and centre-cropped to, and which sample has which."""

    model_config = ConfigDict(extra="forbid")
    sizes: list[tuple[int, int]] = Field(
        min_length=1, max_length=len(DIGITS), description="Width and height of each bucket, pixels."
    )
    scale: int = Field(ge=1, description="Pixels a side that one number of the latents stands for.")
    numbers: list[str] = Field(
        description="For each of shards a text with a character a sample: its bucket, counted 0-9, a-z, A-Z."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.sizes)) < len(self.sizes):
            raise ValueError("sizes: one is listed twice")
        if any(not 0 < side <= MOST_SIDE or side % self.scale for size in self.sizes for side in size):
            raise ValueError(f"sizes: a side is a multiple of scale, {self.scale}, and at most {MOST_SIDE}")
        if set().union(*self.numbers) - set(DIGITS[: len(self.sizes)]):
            raise ValueError(f"numbers: a character stands for none of the {len(self.sizes)} sizes")
        return self


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
    text: Literal["simple", "complex"] | None = Field(
        default=None, description="Which prompt was embedded; null: latents."
    )
    layer: int | None = Field(default=None, description="Hidden layer of the LLM, 0 = embeddings; null: no LLM.")
    pooling: Literal["mean", "last", "tokens", "all-layers"] | None = Field(
        default=None,
        description="LLM: mean over the tokens or the last token, [width]; tokens: [tokens, width]; all-layers:"
        " [tokens, width], each token's mean over all layers, each normalised to mean 0 and variance 1; layer is null.",
    )
    shape: list[int | None] = Field(
        default=[], description="Of every array; null: differs from sample to sample. Empty: not stated (version 1)."
    )
    width: int = Field(description="Length of the last axis.")
    dtype: Literal["float16", "bfloat16", "float32"] = Field(
        description="Of the numbers; NumPy knows no bfloat16, so those are stored as their bits, uint16."
    )
    mask: bool = Field(
        default=False, description="Beside {key}.npy lies {key}.mask.npy, uint8 [tokens]: 1 where a token is real."
    )
    pooled: int | None = Field(
        default=None,
        description="Simple prompts' text states of a model with two text encoders: beside {key}.npy lies"
        " {key}.pooled.npy, [pooled], which its UNet takes beside the states; null: it takes none.",
    )
    image_size: int | None = Field(
        default=None,
        description="Latents: pixels a side to which images were resized and centre-cropped; in buckets, of the square"
        " that has about as many pixels.",
    )
    scaling_factor: float | None = Field(
        default=None, description="Latents: what the model multiplies them by; not yet applied."
    )
    shift_factor: float | None = Field(
        default=None, description="Latents: what it subtracts before; null: nothing. Not yet applied."
    )
    # Left out where there is none, so that other manifests stay as they were before there were buckets.
    buckets: Buckets | None = Field(
        default=None,
        exclude_if=lambda buckets: buckets is None,
        description="Latents in aspect-ratio buckets: the sizes, and beside {key}.npy lies {key}.size.npy, int32 [6]:"
        " height and width of the picture, top and left of the crop, height and width of its bucket.",
    )
    empty: ShardInfo | None = Field(
        default=None,
        description="Simple prompts' text states: the tar empty.tar, with those of the empty prompt under the key"
        " empty; null: there is none.",
    )
    count: int
    shards: list[ShardInfo]

    @property
    def of_tokens(self) -> bool:
        """Whether it holds a vector for each token of an LLM, [tokens, width]."""
        return self.pooling in TOKEN_LEVEL

    @property
    def tars(self) -> list[ShardInfo]:
        """Every tar of the column."""
        return self.shards + ([self.empty] if self.empty else [])

    @property
    def bucket_digits(self) -> dict[str, str]:
        """Name of a tar -> the buckets of its samples, a character each; empty where there are no buckets."""
        numbers = self.buckets.numbers if self.buckets else []
        return dict(zip((info.name for info in self.shards), numbers, strict=False))

    @model_validator(mode="after")
    def _check_text_states(self) -> Self:
        if self.kind != "clip" and self.mask:
            raise ValueError("mask: only a column of text states (kind clip) has one")
        if self.kind == "clip" and self.shape and (len(self.shape) != 2 or None in self.shape or 0 in self.shape):
            raise ValueError("shape: of text states it is [tokens, width]")
        if self.kind == "clip" and self.shape and self.shape[1] != self.width:
            raise ValueError(f"width: it is {self.width}, and the shape's is {self.shape[1]}")
        whole = self.kind == "clip" and self.text == "simple" and self.mask and bool(self.shape)
        if self.pooled is not None and (self.pooled < 1 or not whole):
            raise ValueError("pooled: only simple prompts' text states, with a mask and a shape, have pooled text")
        if self.empty is not None and (self.empty.name != EMPTY_PROMPT_TAR or not whole):
            raise ValueError(f"empty: it is {EMPTY_PROMPT_TAR} of simple prompts' text states, with a mask and a shape")
        return self

    @model_validator(mode="after")
    def _check_buckets(self) -> Self:
        if self.buckets is None:
            return self
        if self.kind != "latents" or len(self.shape) != 3 or self.shape[0] is None or self.shape[1:] != [None, None]:
            raise ValueError("buckets: only latents have some, with the shape [channels, null, null]")
        if [len(digits) for digits in self.buckets.numbers] != [info.count for info in self.shards]:
            raise ValueError("buckets: numbers has not one character for each sample of each shard")
        return self


class ShuffledScores(BaseModel):
    """What images score with the prompts of other images: the scale on which a build's cosines mean something."""

    model_config = ConfigDict(extra="forbid")
    pairs: int = Field(description="Shuffled pairs measured; pairs that share a prompt are not among them.")
    quantiles: dict[str, float] = Field(description="Cosine under which this share of the shuffled pairs lies.")
    rate: float | None = Field(default=None, description="The false-match rate asked for.")
    threshold: float | None = Field(default=None, description="The least cosine that so few shuffled pairs reach.")
    start: float = Field(description="Lower edge of the first bin.")
    step: float = Field(description="Width of a bin.")
    counts: list[int] = Field(description="Shuffled pairs per bin of cosine.")


class Calibration(_Document):
    """``calibration.json``: what shuffled pairs of the build score, and the thresholds that follow."""

    clip: str = Field(description="Model string and revision of the CLIP whose cosines these are.")
    images: int = Field(description="Images measured.")
    prompts: int = Field(description="Images whose prompts were set against every image.")
    simple: ShuffledScores | None = Field(default=None, description="Null: not measured.")
    complex: ShuffledScores | None = Field(default=None, description="Null: not measured.")
    notes: list[str] = Field(default=[], description="Why a rate that was asked for gave no threshold.")


class Threshold(BaseModel):
    """One least score of a selection rule."""

    model_config = ConfigDict(extra="forbid")
    column: Literal["clip_simple", "clip_complex"]
    least: float
    origin: str | None = Field(default=None, description="Where it came from; null: the config names it.")

    def unmet(self, score: float | None) -> str | None:
        """Why a score is not enough, as a person reads it; None when it is. A score that is NaN never is."""
        if score is not None and score >= self.least:
            return None
        known = "is missing" if score is None else f"{score:.3f} is under {self.least:.3g}"
        if score is not None and self.least - 1e-3 < score < self.least:
            known = f"{score:.6f} is under {self.least:.6f}"
        return f"{self.column} {known}" + (f", {self.origin}" if self.origin else "")


class SelectionRule(_Document):
    """What ``selection.parquet`` holds under ``surd.rule``: the settings and the thresholds they came to."""

    settings: dict[str, Any] = Field(description="The config section select.")
    thresholds: list[Threshold] = Field(description="All must be met, checked in this order.")
    notes: list[str] = Field(default=[], description="Where the rule does less than the settings ask, and why.")


class BuildRecord(_Document):
    """``build.json``: what was asked for and with what."""

    config: dict[str, Any] = Field(description="The resolved config.")
    versions: dict[str, str] = Field(description="Installed versions of surd and of what it stands on.")
    models: dict[str, str] = Field(description="Role -> model string and revision.")
    git_commit: str | None = Field(default=None, description="Of the checkout surd ran from, where there is one.")
    made_by: Literal["build", "import"] | None = Field(
        default=None, description="surd build or surd import; null: made before this was recorded."
    )
    profile: str | None = Field(
        default=None, description="The profile below the parameters, by name or absolute path; null: no profile."
    )
    parameters: dict[str, Any] | None = Field(
        default=None, description="Config fields given in this run or in earlier ones; null: the whole config."
    )
    source: str | None = Field(default=None, description="The source, with an absolute path where it has a path.")
    redacted: list[str] = Field(
        default=[], description="Config fields whose text held a secret that is left out here: give them again."
    )


class Marker(_Document):
    """Proof that a unit of a stage is finished, and from what: a row of ``<stage>/ledger.parquet``."""

    stage: str
    part: int
    parts: int = Field(description="Partitions this stage has.")
    fingerprint: str = Field(description="sha256 of input content, the stage's config, model revisions, stage version.")
    outputs: dict[str, str] = Field(description="File (relative to the build) -> sha256.")
    sizes: dict[str, int] = Field(default={}, description="File -> bytes, of the outputs whose size is known.")
    rows: int
    transient: int = Field(default=0, description="Rows rejected for what may pass: the next run redoes those alone.")
    seconds: float
