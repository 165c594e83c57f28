"""The stages, in the order data meets them: what each reads, which models it needs, and which config fields decide it.

Plain data: listing the stages loads none of them. ``Stage.load`` imports the one function of a stage's module.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from surd.schemas import (
    BuildConfig,
    Captioned,
    Cleaned,
    Corrected,
    Decoded,
    Deduped,
    Pair,
    Rewritten,
    Row,
    Safe,
    Scored,
    Selected,
    SourceRecord,
)

Scope = Literal["source", "partition", "build", "shard"]


@dataclass(frozen=True, kw_only=True)
class Extra:
    """What a stage reads only where a config ``field`` is set: other stages, fields, files below ``pipeline/`` (or the
    user's, as in Stage), and models.

    ``extensions``: the field names entry points of this group, whose versions count. ``newer``: there were builds
    before there was the field, so while it is not set the fingerprint says nothing of it.
    """

    field: str
    reads: tuple[str, ...] = ()
    config_fields: tuple[str, ...] = ()
    data_files: tuple[str, ...] = ()
    model_roles: tuple[str, ...] = ()
    extensions: str | None = None
    newer: bool = False

    def is_set(self, config: BuildConfig) -> bool:
        """Whether the config sets the field."""
        section, _, name = self.field.partition(".")
        return bool(getattr(getattr(config, section), name))


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage, as data. Its marker holds a fingerprint of everything named here.

    ``scope`` is its unit of work: ``partition`` and ``shard`` stages are maps over those; ``source`` and ``build``
    stages run once over everything (collect makes the partitions; dedup, select, pack and report reduce them).
    ``config_fields`` are sections (``dedup``) or fields (``fetch.max_pixels``) of BuildConfig; the stage reads no
    other. ``data_files`` lie below ``pipeline/``; where a config field stands before one (``correct.lexicon:...``),
    the user's file named there takes its place. ``witness_roles``: further models, where ``correct.witnesses`` has
    them. ``safety_models``: it depends on the files of the safety classifiers. ``also``: what it depends on besides in
    some builds. ``decisions``: the verdicts of persons (``decisions.jsonl``) that it obeys.
    """

    name: str
    version: int
    scope: Scope
    row: type[Row] | None = None
    reads: tuple[str, ...] = ()
    also: tuple[Extra, ...] = ()
    model_roles: tuple[str, ...] = ()
    witness_roles: tuple[str, ...] = ()
    config_fields: tuple[str, ...]
    data_files: tuple[str, ...] = ()
    safety_models: bool = False
    decisions: tuple[str, ...] = ()
    finishes: bool = False

    def roles(self, config: BuildConfig) -> tuple[str, ...]:
        """The roles whose models decide the stage's outcome with this config."""
        also = (role for extra in self.extras(config) for role in extra.model_roles)
        witnesses = (role for role in self.witness_roles if role in config.correct.witnesses)
        return (*self.model_roles, *also, *witnesses)

    def extras(self, config: BuildConfig) -> list[Extra]:
        """What it depends on besides with this config."""
        return [extra for extra in self.also if extra.is_set(config)]

    def load(self) -> Callable[..., Any]:
        """The stage's function, imported when first needed: a skipped stage loads no library.

        Maps are called with ``(build, unit, config, models)`` and return the unit's rows, or an empty list when the
        stage has none; the others with ``(build, config, models)``, and give the rows of one partition after another.
        """
        function: Callable[..., Any] = getattr(importlib.import_module(f"{__name__}.{self.name}"), self.name)
        return function

    def load_finish(self) -> Callable[..., None]:
        """``finish(build, config, models)`` of a stage that ``finishes``, to be called when all its units are done."""
        function: Callable[..., None] = importlib.import_module(f"{__name__}.{self.name}").finish
        return function


STAGES: tuple[Stage, ...] = (
    Stage(
        name="collect",
        version=4,
        scope="source",
        row=SourceRecord,
        config_fields=(
            "source",
            "limit",
            "seed",
            "partition_size",
            "demo",
            "collect",
            "urls",
            "civitai",
            "lexica",
            "fetch.allow_hosts",
        ),
        data_files=("metadata/comfyui/core_nodes.yaml", "metadata/comfyui/custom_nodes.yaml"),
    ),
    Stage(
        name="fetch",
        version=6,
        scope="partition",
        row=Pair,
        reads=("collect",),
        config_fields=("source", "seed", "demo", "civitai", "lexica", "fetch"),
        data_files=("metadata/comfyui/core_nodes.yaml", "metadata/comfyui/custom_nodes.yaml"),
    ),
    Stage(
        name="decode",
        version=2,
        scope="partition",
        row=Decoded,
        reads=("fetch",),
        config_fields=("fetch.max_pixels",),
    ),
    Stage(
        name="clean",
        version=5,
        scope="partition",
        row=Cleaned,
        reads=("collect", "fetch", "decode"),
        also=(
            Extra(
                field="prompts.caption_missing",
                config_fields=("prompts", "caption"),
                data_files=("caption.templates:sentences/caption_templates.yaml",),
                model_roles=("captioner",),
            ),
        ),
        model_roles=("clip",),
        config_fields=("clean",),
        data_files=("prompts/words.yaml",),
    ),
    Stage(
        name="dedup",
        version=3,
        scope="build",
        row=Deduped,
        reads=("collect", "fetch", "decode", "clean"),
        config_fields=("dedup",),
        decisions=("keep",),
    ),
    Stage(
        name="safety",
        version=2,
        scope="partition",
        row=Safe,
        reads=("fetch", "clean", "dedup"),
        config_fields=("safety", "clean.allow_nsfw"),
        safety_models=True,
    ),
    Stage(
        name="score",
        version=2,
        scope="partition",
        row=Scored,
        reads=("fetch", "clean", "safety"),
        also=(
            Extra(field="score.watermark", data_files=("score.watermark:",), newer=True),
            Extra(field="score.aesthetic", data_files=("score.aesthetic:",), newer=True),
        ),
        model_roles=("clip",),
        config_fields=("score",),
    ),
    Stage(
        name="caption",
        version=4,
        scope="partition",
        row=Captioned,
        reads=("fetch", "safety"),
        # What the shipped templates ask holds nothing of the prompt: another CLIP, for which clean counts tokens, then
        # makes no new captions.
        also=(
            Extra(
                field="caption.templates",
                reads=("clean",),
                config_fields=("facts.parser", "facts.max_chars"),
                data_files=("facts/vocabulary.yaml",),
            ),
        ),
        model_roles=("captioner",),
        config_fields=("caption",),
        data_files=("caption.templates:sentences/caption_templates.yaml",),
    ),
    Stage(
        name="rewrite",
        version=4,
        scope="partition",
        row=Rewritten,
        reads=("clean", "safety", "caption"),
        model_roles=("llm",),
        config_fields=("rewrite",),
        data_files=("rewrite.template:sentences/rewrite_template.yaml",),
    ),
    Stage(
        name="correct",
        version=5,
        scope="partition",
        row=Corrected,
        reads=("fetch", "clean", "score", "caption", "rewrite"),
        model_roles=("clip", "llm"),
        witness_roles=("vqa", "vlm"),
        config_fields=("correct", "facts"),
        data_files=(
            "correct.lexicon:sentences/lexicon.yaml",
            "correct.wordings:sentences/wordings.yaml",
            "facts.template:facts/llm_template.yaml",
            "facts/vocabulary.yaml",
            "facts/closed_classes.yaml",
        ),
    ),
    Stage(
        name="select",
        version=2,
        scope="build",
        row=Selected,
        reads=("clean", "score", "correct"),
        also=(
            Extra(field="select.filters", reads=("collect", "fetch", "safety"), extensions="surd.filters", newer=True),
            Extra(field="select.picture", reads=("fetch",), newer=True),
        ),
        model_roles=("clip",),
        config_fields=("select",),
        decisions=("reject", "approve", "keep", "edit"),
    ),
    Stage(
        name="pack",
        version=3,
        scope="build",
        reads=("collect", "fetch", "clean", "safety", "score", "correct", "select"),
        model_roles=("diffusion",),
        config_fields=("pack",),
    ),
    Stage(
        name="embed",
        version=2,
        scope="shard",
        reads=("pack",),
        model_roles=("embed_llm", "diffusion"),
        config_fields=("embed", "models.embed_llm", "models.diffusion"),  # columns are called by the models' names
        finishes=True,
    ),
    Stage(
        name="report",
        version=6,
        scope="build",
        reads=(
            "collect",
            "fetch",
            "decode",
            "clean",
            "dedup",
            "safety",
            "score",
            "caption",
            "rewrite",
            "correct",
            "select",
            "pack",
            "embed",
        ),
        config_fields=("report",),
    ),
)
BY_NAME = {stage.name: stage for stage in STAGES}
