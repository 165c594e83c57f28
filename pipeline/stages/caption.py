"""Stage caption: sentences that describe each kept image."""

from __future__ import annotations

from surd.pipeline.batching import batched, prefetch
from surd.pipeline.build.folder import Build
from surd.pipeline.build.rows import StageRows
from surd.pipeline.models import Models
from surd.pipeline.models.caption_model import CaptionPrompt
from surd.schemas import BuildConfig, Captioned, Pair, Safe
from surd.schemas.shard_format.pixels import to_rgb

_WINDOW = 8  # whole pictures decoded ahead of the model: more would only hold memory


def caption(build: Build, part: int, config: BuildConfig, models: Models) -> list[Captioned]:
    """One partition's captions, up to ``caption.k`` different ones per image, the surest first."""
    settings = config.caption
    captioned = StageRows(Captioned, build.read_rows("safety", part, Safe))
    pairs = captioned.of_kept(build.read_rows("fetch", part, Pair))
    pictures = prefetch(to_rgb, build.images(part, pairs), _WINDOW)
    for batch in batched(zip(captioned.kept, pictures, strict=True), settings.batch_size):
        prompts = [[CaptionPrompt(text=settings.prompt)] for _ in batch] if settings.prompt else None
        answers = models.captioner.caption(
            [image for _, image in batch],
            k=settings.k,
            num_beams=settings.num_beams,
            max_new_tokens=settings.max_new_tokens,
            seed=settings.seed,
            prompts=prompts,
        )
        for (at, _), of_picture in zip(batch, answers, strict=True):
            texts = dict.fromkeys(answer.text for answer in of_picture if answer.text)
            captioned.set(at, captions=list(texts), caption_names=["caption"] * len(texts))
    return captioned.rows
