"""Stage score: CLIP embeddings of image and complex prompt, their cosine, and the picture's quality."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from surd.pipeline.batching import batched, prefetch
from surd.pipeline.build.folder import Build
from surd.pipeline.build.rows import StageRows
from surd.pipeline.images.qualities import Quality, open_qualities
from surd.pipeline.model_cache.models import CachedModels, dump_json, dump_vector, load_vector
from surd.pipeline.model_cache.outputs import OutputCache, picture_item
from surd.pipeline.models import Models
from surd.pipeline.models.clip import FloatArray
from surd.pretrained.aesthetic import check_width, load_aesthetic_head
from surd.pretrained.clip_iqa import ANTONYMS, clip_iqa
from surd.schemas import BuildConfig, Cleaned, Pair, Safe, Scored
from surd.schemas.config import ScoreConfig
from surd.schemas.shard_format.pixels import to_rgb

if TYPE_CHECKING:
    import torch

#: Of what is kept: raise it when the same picture gets another vector, or another quality.
_VECTORS = 1
_QUALITIES = 1


def score(build: Build, part: int, config: BuildConfig, models: Models) -> list[Scored]:
    """One partition's embeddings. Rejects nothing: thresholds belong to select."""
    settings = config.score
    scored = StageRows(Scored, build.read_rows("safety", part, Safe))
    pairs = scored.of_kept(build.read_rows("fetch", part, Pair))
    prompts = [row.complex or "" for row in scored.of_kept(build.read_rows("clean", part, Cleaned))]
    if not pairs:
        return scored.rows
    with OutputCache(build.root, part, [row.key for row in scored.rows]) as cache:
        clip = CachedModels(models, cache, "score").clip
        pictures = _Pictures(build, part, pairs, settings, models, cache)
        texts = clip.embed_distinct(prompts, settings.batch_size)  # while the first pictures are decoded
        embedded, measured = pictures.see()
        if "clip-iqa" in settings.quality:
            good = clip_iqa(embedded, clip.embed_texts(ANTONYMS), clip.logit_scale)
            _add(measured, "clip_iqa", good)
        if settings.aesthetic:
            head = load_aesthetic_head(settings.aesthetic)
            check_width(head, embedded.shape[1], settings.aesthetic, str(models.config.clip))
            _add(measured, "aesthetic", head.scores(embedded))
    for at, image, text, of_image in zip(scored.kept, embedded, texts, measured, strict=True):
        scored.set(
            at,
            image_embedding=image.tolist(),
            complex_embedding=text.tolist(),
            clip_complex=float(image @ text),
            **of_image,
        )
    return scored.rows


def _add(measured: list[dict[str, float | None]], name: str, values: Sequence[float] | npt.NDArray[np.float64]) -> None:
    for of_image, value in zip(measured, values, strict=True):
        of_image[name] = float(value)


class _Pictures:
    """The embeddings and qualities of a partition's pictures. A picture of which something is not kept from before is
    decoded once, from here on, for what it lacks."""

    def __init__(
        self, build: Build, part: int, pairs: Sequence[Pair], settings: ScoreConfig, models: Models, cache: OutputCache
    ) -> None:
        self._models, self._batch_size, self._progress = models, settings.batch_size, build.progress
        self._items = [picture_item(pair) for pair in pairs]
        self._qualities = open_qualities(settings)
        self._vectors = cache.space("score-image", version=_VECTORS, clip=models.revision("clip"))
        self._measures = {
            name: cache.space("score-quality", version=_QUALITIES, names=[name, *_identity(quality)])
            for name, quality in self._qualities.items()
        }
        self._embedded = self._vectors.read(self._items)
        self._measured = {name: space.read(self._items) for name, space in self._measures.items()}
        known = zip(self._embedded, *self._measured.values(), strict=True)
        self._unseen = [place for place, kept in enumerate(known) if None in kept]
        if None in self._embedded:
            _ = models.clip  # loaded by one thread
        images = build.images(part, [pairs[place] for place in self._unseen])
        prepared = prefetch(self._prepare, zip(self._unseen, images, strict=True), self._batch_size)
        self._prepared = chain(list(islice(prepared, 1)), prepared)  # starts decoding

    def see(self) -> tuple[FloatArray, list[dict[str, float | None]]]:
        """Embeddings [pictures, width], and the measure of each quality, by name."""
        count = self._progress.begin(len(self._unseen))
        for batch in batched(zip(self._unseen, self._prepared, strict=True), self._batch_size):
            unseen = [(place, pixels) for place, (pixels, _) in batch if pixels is not None]
            vectors = self._models.clip.embed_prepared([pixels for _, pixels in unseen]) if unseen else ()
            for (place, _), vector in zip(unseen, vectors, strict=True):
                self._embedded[place] = dump_vector(vector)
                self._vectors.write(self._items[place], dump_vector(vector))
            for place, (_, measured) in batch:
                for name, value in measured.items():
                    self._measured[name][place] = dump_json({name: value})
                    self._measures[name].write(self._items[place], dump_json({name: value}))
            count(len(batch))
        embedded = np.stack([load_vector(value) for value in self._embedded if value is not None])
        qualities: list[dict[str, float | None]] = [{} for _ in self._items]
        for measures in self._measured.values():
            for of_image, measure in zip(qualities, measures, strict=True):
                of_image |= json.loads(measure or b"{}")
        return embedded, qualities

    def _prepare(self, image: tuple[int, bytes]) -> tuple[torch.Tensor | None, dict[str, float | None]]:
        """What CLIP sees of a picture, and its measures: as far as they are not kept."""
        place, picture = image[0], to_rgb(image[1])
        lacking = [name for name, values in self._measured.items() if values[place] is None]
        measured = {name: self._qualities[name].measure(picture) for name in lacking}
        return self._models.clip.prepare(picture) if self._embedded[place] is None else None, measured


def _identity(quality: Quality) -> list[str]:
    return [quality.identity] if quality.identity else []
