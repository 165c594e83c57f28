"""safety: turns kept images and prompts into probabilities that they are not safe for work, and rejects what is not.

The source's own level and the prompt's words were judged by clean, which costs nothing; what came through is judged by
an image model and, where the config names one, by a text model.
"""

from __future__ import annotations

from functools import partial

from pipeline.build import Build
from pipeline.models import Models
from pipeline.models.safety import (
    FloatArray,
    ImageClassifier,
    load_image_classifier,
    load_text_classifier,
)
from pipeline.pixels import ahead, batched, to_rgb
from schemas import BuildConfig, Cleaned, Deduped, Pair, Reason, Safe
from schemas.config import SafetyConfig


def safety(build: Build, part: int, settings: BuildConfig, models: Models) -> list[Safe]:
    """One partition's verdicts. With ``clean.allow_nsfw`` the probabilities are noted and nothing is rejected.

    Raises SurdError when a model that the config asks for is not there: nothing passes unseen.
    """
    rows = build.read_rows("dedup", part, Deduped)
    safe = [Safe(**row.verdict()) for row in rows]
    kept = [at for at, row in enumerate(rows) if row.kept]
    if not settings.safety.enabled or not kept:
        return safe
    for at, probability in zip(kept, _judge_images(build, part, kept, settings.safety), strict=True):
        safe[at] = safe[at].model_copy(update={"nsfw_image": probability})
    if settings.safety.text_model:
        for at, probability in zip(kept, _judge_prompts(build, part, kept, settings.safety, models), strict=True):
            safe[at] = safe[at].model_copy(update={"nsfw_text": probability})
    return safe if settings.clean.allow_nsfw else [_decide(row, settings.safety) for row in safe]


def _judge_images(build: Build, part: int, kept: list[int], settings: SafetyConfig) -> list[float]:
    classifier = load_image_classifier()
    pairs = build.read_rows("fetch", part, Pair)
    images = build.images(part, [pairs[at] for at in kept])
    prepared = ahead(_prepare, images, 2 * settings.batch_size)
    return [score for batch in batched(prepared, settings.batch_size) for score in classifier.score(batch)]


def _prepare(data: bytes) -> FloatArray:
    return ImageClassifier.prepare(to_rgb(data))


def _judge_prompts(build: Build, part: int, kept: list[int], settings: SafetyConfig, models: Models) -> list[float]:
    """Each distinct prompt is read once, prompts of like length together."""
    cleaned = build.read_rows("clean", part, Cleaned)
    prompts = [cleaned[at].complex or "" for at in kept]
    classifier = load_text_classifier(settings.text_model or "", models.device)
    distinct = sorted(set(prompts), key=lambda text: (len(text), text))
    score_of: dict[str, float] = {}
    for batch in batched(distinct, settings.batch_size):
        score_of |= dict(zip(batch, classifier.score(batch), strict=True))
    return [score_of[prompt] for prompt in prompts]


def _decide(row: Safe, settings: SafetyConfig) -> Safe:
    reject = partial(row.reject, "safety", Reason.NSFW)
    if row.nsfw_image is not None and row.nsfw_image > settings.max_image:
        found = reject(f"the image is not work-safe: {row.nsfw_image:.3f}, more than max_image {settings.max_image:g}")
        return found.model_copy(update={"rule": "image"})
    if row.nsfw_text is not None and row.nsfw_text > settings.max_text:
        found = reject(f"the prompt is not work-safe: {row.nsfw_text:.3f}, more than max_text {settings.max_text:g}")
        return found.model_copy(update={"rule": "text"})
    return row
