"""score: turns kept pairs into CLIP embeddings of image and complex prompt, and their cosine."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from pipeline.build import Build
from pipeline.models import Models
from pipeline.models.clip import Clip, FloatArray
from pipeline.pixels import ahead, batched, to_rgb
from pipeline.quality import open_qualities
from schemas import Cleaned, Pair, Safe, Scored
from schemas.config import ScoreConfig

if TYPE_CHECKING:
    import torch


def score(build: Build, part: int, settings: ScoreConfig, models: Models) -> list[Scored]:
    """One partition's embeddings. Rejects nothing: thresholds belong to select."""
    rows = build.read_rows("safety", part, Safe)
    pairs = build.read_rows("fetch", part, Pair)
    prompts = build.read_rows("clean", part, Cleaned)
    kept = [at for at, row in enumerate(rows) if row.kept]
    scored = [Scored(**row.verdict()) for row in rows]
    if not kept:
        return scored
    clip, qualities = models.clip, open_qualities(settings.quality)

    def look(data: bytes) -> tuple[torch.Tensor, dict[str, float]]:
        picture = to_rgb(data)
        return clip.prepare(picture), {name: measure(picture) for name, measure in qualities.items()}

    seen = ahead(look, build.images(part, [pairs[at] for at in kept]), settings.batch_size)
    first = next(seen)  # which sets the first pictures decoding while the texts are encoded
    texts = embed_distinct(clip, [prompts[at].complex or "" for at in kept], settings.batch_size)
    images, measured = [], []
    for batch in batched(chain([first], seen), settings.batch_size):
        images.append(clip.embed_prepared([pixels for pixels, _ in batch]))
        measured += [of_image for _, of_image in batch]
    for at, image, text, of_image in zip(kept, np.concatenate(images), texts, measured, strict=True):
        scored[at] = scored[at].model_copy(
            update={
                "image_embedding": image.tolist(),
                "complex_embedding": text.tolist(),
                "clip_complex": float(image @ text),
                **of_image,
            }
        )
    return scored


def embed_distinct(clip: Clip, texts: list[str], batch_size: int) -> FloatArray:
    """Embeddings of ``texts``, each distinct text encoded once, texts of like length together."""
    distinct = sorted(set(texts), key=lambda text: (len(text), text))
    row_of = {text: row for row, text in enumerate(distinct)}
    return clip.embed_texts(distinct, batch_size)[[row_of[text] for text in texts]]
