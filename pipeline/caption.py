"""caption: turns kept images into sentences that say what the picture shows."""

from __future__ import annotations

from pipeline.build import Build
from pipeline.models import Models
from pipeline.pixels import ahead, batched, to_rgb
from schemas import Captioned, Pair, Safe
from schemas.config import CaptionConfig

_WINDOW = 8  # whole pictures decoded ahead of the model: more would only hold memory


def caption(build: Build, part: int, settings: CaptionConfig, models: Models) -> list[Captioned]:
    """One partition's captions, up to ``settings.k`` different ones per image, the surest first."""
    rows = build.read_rows("safety", part, Safe)
    pairs = build.read_rows("fetch", part, Pair)
    kept = [at for at, row in enumerate(rows) if row.kept]
    captioned = [Captioned(**row.verdict()) for row in rows]
    pixels = ahead(to_rgb, build.images(part, [pairs[at] for at in kept]), _WINDOW)
    for batch in batched(zip(kept, pixels, strict=True), settings.batch_size):
        captions = models.captioner.caption(
            [image for _, image in batch],
            k=settings.k,
            num_beams=settings.num_beams,
            max_new_tokens=settings.max_new_tokens,
            seed=settings.seed,
        )
        for (at, _), texts in zip(batch, captions, strict=True):
            captioned[at] = captioned[at].model_copy(update={"captions": texts})
    return captioned
