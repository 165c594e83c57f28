"""What a row of each stage is: one pydantic model per stage.

Every stage writes one row per source record and never drops one. A row that was rejected keeps its place: its
``status`` says so, ``reason`` and ``rejected_by`` say why and where, and the columns of later stages are null.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from surd.schemas.reason import Reason, Status

RECORD_SCHEMA_VERSION = 2

Embedding = Annotated[list[float], pa.list_(pa.float32())]
Scores = Annotated[list[float], pa.list_(pa.float32())]


class Row(BaseModel):
    """One source record as one stage left it."""

    model_config = ConfigDict(extra="forbid", validate_default=True)
    schema_version: ClassVar[int] = RECORD_SCHEMA_VERSION
    #: Nullable columns that a file has only where a row has a value: without them it is what earlier versions wrote.
    only_if_measured: ClassVar[tuple[str, ...]] = ()

    key: str = Field(pattern=r"^[0-9a-f]{16}$", description="First 16 hex digits of sha256(source, source id).")
    status: Status = Field(default=Status.KEPT, description="kept or rejected, as of this stage.")
    reason: Reason | None = Field(default=None, description="Why it was rejected.")
    rejected_by: str | None = Field(default=None, description="The stage that rejected it.")
    detail: str | None = Field(
        default=None,
        description="Free text for a person: the error, the twin, the score, why a kept row has no prompt yet.",
    )

    @model_validator(mode="after")
    def _a_rejected_row_has_a_reason(self) -> Self:
        rejected = self.status is Status.REJECTED
        if rejected != (self.reason is not None) or rejected != (self.rejected_by is not None):
            raise ValueError("a rejected row has a reason and a stage; a kept row has neither")
        return self

    @property
    def kept(self) -> bool:
        return self.status is Status.KEPT

    def verdict(self) -> dict[str, Any]:
        """The columns every stage shares, to carry a row on to the next stage."""
        return {name: getattr(self, name) for name in Row.model_fields}

    def reject(self, stage: str, reason: Reason, detail: str | None = None) -> Self:
        """This row, rejected by ``stage``. ``detail`` is cut to 500 characters; without one the row keeps its own."""
        update = {
            "status": Status.REJECTED,
            "reason": reason,
            "rejected_by": stage,
            "detail": (detail or self.detail or "")[:500] or None,
        }
        return self.model_copy(update=update)


class SourceRecord(Row):
    """What a source says about an image, before any download (stage *collect*)."""

    source: str = Field(description="The source as the config names it, e.g. demo, gallery:https://..., folder:photos.")
    source_id: str = Field(description="The source's own id of the record: stable over runs and machines.")
    url: str | None = Field(
        default=None, description="Where the bytes are: http(s) URL, or a path for a folder source."
    )
    page_url: str | None = Field(default=None, description="The page a person would open.")
    prompt: str | None = Field(default=None, description="The prompt as the source states it, untouched.")
    negative_prompt: str | None = None
    params: str | None = Field(default=None, description="Other generation parameters as the source states them, JSON.")
    author: str | None = None
    licence: str | None = None
    terms: str | None = Field(default=None, description="What the site or the list says of its use, beyond a licence.")
    nsfw_level: str | None = Field(default=None, description="The source's own level, lower case.")
    created_at: str | None = None
    extra: str | None = Field(default=None, description="Whatever else the source says of the image, JSON.")


class Pair(Row):
    """An acquired image with its complex prompt (stage *fetch*). Bytes lie in ``fetch/part-NNNNN.tar``."""

    transient: bool | None = Field(default=None, description="Rejected for what may pass: the next run asks again.")
    opt_out: str | None = Field(default=None, description="The header, or rule, that keeps it out of training data.")
    sha256: str | None = Field(default=None, description="Of the bytes as they are kept.")
    ext: str | None = Field(default=None, description="png, jpg or webp, sniffed from the bytes.")
    size: int | None = Field(default=None, description="Bytes.")
    offset: int | None = Field(default=None, description="Of the bytes in the partition's tar.")
    width: int | None = Field(default=None, description="Pixels.")
    height: int | None = Field(default=None, description="Pixels.")
    original_sha256: str | None = Field(default=None, description="Before re-encoding; null: the bytes are original.")
    original_width: int | None = Field(default=None, description="Before re-encoding.")
    original_height: int | None = Field(default=None, description="Before re-encoding.")
    prompt: str | None = Field(default=None, description="The prompt: the source's word, else the file's.")
    negative_prompt: str | None = None
    prompt_origin: str | None = Field(default=None, description="source or file.")
    tool: str | None = Field(default=None, description="The program that wrote the file's metadata.")
    params: str | None = Field(default=None, description="Generation parameters found in the file, JSON.")
    models: list[str] | None = Field(default=None, description="Names of the models that the file states.")
    loras: list[str] | None = Field(default=None, description="Names of the LoRAs that the file states.")


class Decoded(Row):
    """An image that decodes to its end (stage *decode*). Its miniature lies in ``decode/part-NNNNN.miniatures.npy``."""

    phash: str | None = Field(default=None, description="64-bit perceptual hash (DCT) of the miniature, 16 hex digits.")


class Cleaned(Row):
    """The complex prompt, cleaned (stage *clean*)."""

    only_if_measured: ClassVar[tuple[str, ...]] = ("prompt_origin",)

    complex: str | None = Field(default=None, description="Without weights, LoRA tags and markup; whitespace normal.")
    keywords: list[str] | None = Field(default=None, description="The comma-separated parts of the cleaned prompt.")
    weights: Scores | None = Field(default=None, description="The attention weight of each keyword, 1.0 by default.")
    loras: list[str] | None = Field(
        default=None, description="Names of LoRA, LyCORIS, hypernetwork and embedding tags."
    )
    subjects: list[str] | None = Field(default=None, description="The keywords that say what is shown.")
    styles: list[str] | None = Field(default=None, description="Those of medium, artist, lighting, rendering.")
    qualities: list[str] | None = Field(default=None, description="Those of praise and provenance: masterpiece, 8k.")
    language: str | None = Field(default=None, description="ISO 639-1, e.g. en; null: the words do not tell.")
    clip_tokens: int | None = Field(default=None, description="Of the cleaned prompt, with the marks of models.clip.")
    truncated: bool | None = Field(default=None, description="CLIP reads fewer tokens (77, SigLIP 64): not the end.")
    cut: bool | None = Field(default=None, description="It breaks off, or was cut at max_chars.")
    prompt_origin: str | None = Field(
        default=None, description="captioner: its caption stands for the prompt that is missing; null: as fetch says."
    )


class Deduped(Row):
    """Which clusters of like images and of like prompts a row belongs to (stage *dedup*)."""

    cluster: str | None = Field(default=None, description="Key of the row that stands for the cluster.")
    distance: int | None = Field(
        default=None, description="Hamming distance of the perceptual hash to that row, once one lies over the other."
    )
    difference: float | None = Field(
        default=None, description="Largest colour difference to that row's image over any eighth of a side, 0 to 255."
    )
    prompt_cluster: str | None = Field(default=None, description="Key of the best row with an almost identical prompt.")
    prompt_similarity: float | None = Field(default=None, description="Jaccard similarity of the prompt to that row's.")


class Safe(Row):
    """How safe for work a row is (stage *safety*)."""

    nsfw_image: float | None = Field(default=None, description="Probability that the image is not work-safe.")
    nsfw_text: float | None = Field(default=None, description="The same of the prompt; null without a text model.")
    rule: str | None = Field(default=None, description="Which rule rejected the row: image or text.")


class Scored(Row):
    """CLIP embeddings of image and complex prompt (stage *score*)."""

    only_if_measured: ClassVar[tuple[str, ...]] = (
        "brisque", "clip_iqa", "colourfulness", "entropy", "text_area", "watermark", "aesthetic",
    )  # fmt: skip

    image_embedding: Embedding | None = Field(default=None, description="Unit length.")
    complex_embedding: Embedding | None = Field(default=None, description="Unit length.")
    clip_complex: float | None = Field(default=None, description="Cosine of image and complex prompt.")
    sharpness: float | None = Field(default=None, description="Variance of the Laplacian; null: not asked for.")
    brisque: float | None = Field(
        default=None, description="About 0 (good) to 100 (bad); null: not asked for, or not measurable."
    )
    clip_iqa: float | None = Field(
        default=None, description="P(good photo) against bad photo, by the CLIP model; null: not asked for."
    )
    colourfulness: float | None = Field(default=None, description="Hasler and Süsstrunk's; 0 grey, 109 extreme.")
    entropy: float | None = Field(default=None, description="Of the luminance's histogram, bits, 0 to 8.")
    text_area: float | None = Field(default=None, description="Share of the picture that is text, 0 to 1.")
    watermark: float | None = Field(default=None, description="Probability of a watermark, by LAION's detector.")
    aesthetic: float | None = Field(default=None, description="LAION's aesthetic score, 1 to 10.")


class Captioned(Row):
    """What the captioner sees (stage *caption*)."""

    captions: list[str] | None = Field(default=None, description="Texts, of each template the surest first.")
    caption_names: list[str] | None = Field(
        default=None, description="The template of each caption (short, medium ...); caption: of none."
    )
    caption_dropped: str | None = Field(default=None, description="Why answers of the captioner were not used.")


class Rewritten(Row):
    """The complex prompt as plain sentences by the LLM (stage *rewrite*)."""

    rewrites: list[str] | None = None
    rewrite_dropped: str | None = Field(default=None, description="Why answers of the LLM were not used.")


class Corrected(Row):
    """The simple prompt after semantic correction (stage *correct*)."""

    simple: str | None = Field(default=None, description="One plain sentence.")
    method: str | None = Field(default=None, description="Where it came from: caption, rewrite or fusion.")
    decision: str | None = Field(default=None, description="keep, repair or reject.")
    before: str | None = Field(default=None, description="The best candidate before its facts were repaired.")
    repairs: list[str] | None = Field(default=None, description="Repaired facts: count: two -> three (0.71 -> 0.83).")
    worded_from: str | None = Field(default=None, description="The sentence before it was worded another way.")
    facts_checked: int | None = Field(default=None, description="Facts of the sentence that CLIP was asked about.")
    clip_simple: float | None = Field(default=None, description="Cosine of image and simple prompt.")
    clip_complex: float | None = Field(default=None, description="Cosine of image and complex prompt.")
    text_simple: float | None = Field(default=None, description="Cosine of complex prompt and simple prompt.")
    simple_embedding: Embedding | None = Field(default=None, description="Of the simple prompt, unit length.")
    candidates: list[str] | None = Field(default=None, description="All candidates, best first.")
    candidate_scores: Scores | None = Field(default=None, description="Their cosines with the image.")
    candidate_text_scores: Scores | None = Field(default=None, description="Their cosines with the complex prompt.")
    captions: str | None = Field(
        default=None, description="Every caption that stayed, checked: a JSON list of Caption, the best first."
    )


class Selected(Row):
    """The final verdict (stage *select*)."""

    only_if_measured: ClassVar[tuple[str, ...]] = ("by_hand", "simple_by_hand")

    clip_simple: float | None = None
    clip_complex: float | None = None
    cluster: str | None = Field(
        default=None, description="Key of the sample that stands for all of its like; null without semantic dedup."
    )
    similarity: float | None = Field(default=None, description="Cosine of this image and that sample's image.")
    by_hand: str | None = Field(
        default=None, description="What a person decided of it: reject, approve, keep, edit; null: nothing."
    )
    simple_by_hand: str | None = Field(
        default=None, description="The simple prompt that a person wrote; it has no score. Null: that of correct."
    )

    def applied(self, corrected: Corrected) -> Corrected:
        """The row of correct with the sentence that a person wrote, if one did; the former one is ``before``.

        Its other captions stay as they were.
        """
        if self.simple_by_hand is None:
            return corrected
        return corrected.model_copy(
            update={
                "simple": self.simple_by_hand,
                "method": "hand",
                "before": corrected.simple,
                "repairs": None,
                "worded_from": None,
                "clip_simple": None,
                "text_simple": None,
                "simple_embedding": None,
            }
        )


class Caption(BaseModel):
    """One of several captions of a sample: what ``{key}.captions.json`` holds a list of."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(description="Of its template (short, medium, long ...), or caption, rewrite, fusion, simple.")
    text: str
    score: float | None = Field(default=None, description="Cosine of image and text; null: not measured.")
    model: str | None = Field(default=None, description="The captioner or LLM it is from; null: not known.")
    dropped: list[str] = Field(
        default=[], fail_fast=True, description="Facts that were taken out or exchanged, and why."
    )


class Sample(BaseModel):
    """A finished sample: what ``{key}.json`` holds in a shard."""

    model_config = ConfigDict(extra="forbid")
    schema_version: int = RECORD_SCHEMA_VERSION
    key: str
    simple: str
    complex: str
    method: str = Field(description="Where the simple prompt came from: caption, rewrite, fusion, hand or imported.")
    clip_simple: float | None = Field(default=None, description="Null: not measured.")
    clip_complex: float | None = Field(default=None, description="Null: not measured.")
    sha256: str
    ext: str
    width: int
    height: int
    source: str
    source_id: str
    page_url: str | None = None
    author: str | None = None
    licence: str | None = None
    terms: str | None = None
    negative_prompt: str | None = None
    tool: str | None = None
