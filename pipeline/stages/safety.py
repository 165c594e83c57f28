"""Stage safety: probabilities that images and prompts are not safe for work; rejects those over the thresholds.

The stage clean has already checked the source's level and the prompt's words, which costs nothing; the remaining rows
are scored by an image model and, if the config names one, by a text model, each picture and each prompt once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

from surd.pipeline.batching import batched, prefetch
from surd.pipeline.build.folder import Build
from surd.pipeline.build.rows import StageRows
from surd.pipeline.model_cache.outputs import OutputCache, picture_item, text_item
from surd.pipeline.models import Models
from surd.pipeline.models.nsfw import FloatArray, classifier_revision, load_image_classifier, load_text_classifier
from surd.schemas import BuildConfig, Cleaned, Deduped, Pair, Reason, Safe
from surd.schemas.config import SafetyConfig
from surd.schemas.shard_format.pixels import to_rgb

_VERSION = 1  # of the kept probabilities: raise it when a model gives another for the same picture or prompt
_PASSES = ("pictures", "prompts")


def safety(build: Build, part: int, config: BuildConfig, models: Models) -> list[Safe]:
    """One partition's verdicts. With ``clean.allow_nsfw`` the probabilities are recorded and nothing is rejected.

    Raises SurdError if a configured model is missing: nothing passes unchecked.
    """
    settings = config.safety
    safe = StageRows(Safe, build.read_rows("dedup", part, Deduped))
    if not settings.enabled or not safe.kept:
        return safe.rows
    pairs = safe.of_kept(build.read_rows("fetch", part, Pair))
    build.progress.expect(*(_PASSES if settings.text_model else _PASSES[:1]))
    with OutputCache(build.root, part, [row.key for row in safe.rows]) as cache:
        safe.fill("nsfw_image", _judge_images(build, part, pairs, settings, models, cache))
        if settings.text_model:
            prompts = [row.complex or "" for row in safe.of_kept(build.read_rows("clean", part, Cleaned))]
            safe.fill("nsfw_text", _judge_prompts(build, prompts, settings, models, cache))
    return safe.rows if config.clean.allow_nsfw else [_decide(row, settings) for row in safe.rows]


def _judge_images(
    build: Build, part: int, pairs: list[Pair], settings: SafetyConfig, models: Models, cache: OutputCache
) -> Iterator[float]:
    def compute(places: list[int]) -> Iterator[bytes]:
        # open_nsfw runs on the CPU: without a model of the user's own, torch is not needed to name a device.
        classifier = load_image_classifier(settings.image_model, models.device if settings.image_model else "cpu")

        def prepare(data: bytes) -> FloatArray:
            return classifier.prepare(to_rgb(data))

        images = build.images(part, [pairs[place] for place in places])
        count = build.progress.begin(len(places), "pictures")
        for batch in batched(prefetch(prepare, images, 2 * settings.batch_size), settings.batch_size):
            yield from (json.dumps(score).encode() for score in classifier.score(batch))
            count(len(batch))

    space = cache.space("safety-image", version=_VERSION, model=classifier_revision(settings.image_model))
    return map(json.loads, space.outputs([picture_item(pair) for pair in pairs], compute))


def _judge_prompts(
    build: Build, prompts: list[str], settings: SafetyConfig, models: Models, cache: OutputCache
) -> Iterator[float]:
    """Scores each distinct prompt once, prompts of similar length together."""
    distinct = sorted(set(prompts), key=lambda text: (len(text), text))

    def compute(places: list[int]) -> Iterator[bytes]:
        classifier = load_text_classifier(settings.text_model or "", models.device)
        count = build.progress.begin(len(places), "prompts")
        for batch in batched([distinct[place] for place in places], settings.batch_size):
            yield from (json.dumps(score).encode() for score in classifier.score(batch))
            count(len(batch))

    space = cache.space("safety-text", version=_VERSION, model=classifier_revision(settings.text_model))
    values = space.outputs([text_item(text) for text in distinct], compute)
    score_of = dict(zip(distinct, map(json.loads, values), strict=True))
    return (score_of[prompt] for prompt in prompts)


def _decide(row: Safe, settings: SafetyConfig) -> Safe:
    reject = partial(row.reject, "safety", Reason.NSFW)
    if row.nsfw_image is not None and row.nsfw_image > settings.max_image:
        rejected = reject(
            f"the image is not work-safe: {row.nsfw_image:.3f}, more than max_image {settings.max_image:g}"
        )
        return rejected.model_copy(update={"rule": "image"})
    if row.nsfw_text is not None and row.nsfw_text > settings.max_text:
        rejected = reject(f"the prompt is not work-safe: {row.nsfw_text:.3f}, more than max_text {settings.max_text:g}")
        return rejected.model_copy(update={"rule": "text"})
    return row
