"""Stage score: CLIP embeddings of image and complex prompt, their cosine, and the picture's quality."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from surd.pipeline.batching import batched, prefetch
from surd.pipeline.build.folder import Build
from surd.pipeline.build.rows import StageRows
from surd.pipeline.images.sharpness import open_qualities
from surd.pipeline.models import Models
from surd.pretrained.clip_iqa import ANTONYMS, clip_iqa
from surd.schemas import BuildConfig, Cleaned, Pair, Safe, Scored
from surd.schemas.shard_format.pixels import to_rgb

if TYPE_CHECKING:
    import torch


def score(build: Build, part: int, config: BuildConfig, models: Models) -> list[Scored]:
    """One partition's embeddings. Rejects nothing: thresholds belong to select."""
    settings = config.score
    scored = StageRows(Scored, build.read_rows("safety", part, Safe))
    pairs = scored.of_kept(build.read_rows("fetch", part, Pair))
    prompts = [row.complex or "" for row in scored.of_kept(build.read_rows("clean", part, Cleaned))]
    if not pairs:
        return scored.rows
    clip, qualities = models.clip, open_qualities(settings.quality)

    def prepare(data: bytes) -> tuple[torch.Tensor, dict[str, float | None]]:
        picture = to_rgb(data)
        return clip.prepare(picture), {name: measure(picture) for name, measure in qualities.items()}

    prepared = prefetch(prepare, build.images(part, pairs), settings.batch_size)
    first = next(prepared)  # starts decoding the first pictures while the texts are encoded
    texts = clip.embed_distinct(prompts, settings.batch_size)
    images, measured = [], []
    for batch in batched(chain([first], prepared), settings.batch_size):
        images.append(clip.embed_prepared([pixels for pixels, _ in batch]))
        measured += [of_image for _, of_image in batch]
    embedded = np.concatenate(images)
    if "clip-iqa" in settings.quality:
        good = clip_iqa(embedded, clip.embed_texts(ANTONYMS), clip.logit_scale)
        measured = [{**of_image, "clip_iqa": float(value)} for of_image, value in zip(measured, good, strict=True)]
    for at, image, text, of_image in zip(scored.kept, embedded, texts, measured, strict=True):
        scored.set(
            at,
            image_embedding=image.tolist(),
            complex_embedding=text.tolist(),
            clip_complex=float(image @ text),
            **of_image,
        )
    return scored.rows
