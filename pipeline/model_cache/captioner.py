"""A captioner's answers about pictures, of which those that a build has are looked up."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence

from PIL import Image

from surd.pipeline.batching import batched, prefetch
from surd.pipeline.build.folder import Build
from surd.pipeline.build.progress import UnitProgress
from surd.pipeline.model_cache.models import dump_json
from surd.pipeline.model_cache.outputs import OutputCache, item, picture_item
from surd.pipeline.models import Models
from surd.pipeline.models.caption_model import CaptionAnswer, CaptionModel, CaptionPrompt
from surd.pipeline.models.vision_server import VisionServer
from surd.schemas import Pair
from surd.schemas.config import CaptionConfig
from surd.schemas.model_ref import server_ref
from surd.schemas.shard_format.pixels import to_rgb

_VERSION = 1  # of kept answers: raise it when the captioner gives another for the same picture, prompt and settings
_WINDOW = 8  # whole pictures decoded ahead of the model: more would only hold memory


class CachedCaptioner:
    """The captioner; of one in process the answers that a build has are looked up, and where it has all of them the
    model is not loaded. A server's client keeps its answers itself."""

    def __init__(self, models: Models, settings: CaptionConfig, cache: OutputCache) -> None:
        self._models, self._settings, self._space = models, settings, None
        if not server_ref(models.config.captioner):
            how = {name: getattr(settings, name) for name in ("k", "num_beams", "max_new_tokens", "seed", "max_side")}
            revision = models.revision("captioner")
            self._space = cache.space("caption", version=_VERSION, captioner=revision, **how)

    def kind(self) -> tuple[bool, str]:
        """Whether it has to be asked, and its family."""

        def look() -> tuple[bool, str]:
            return self._models.captioner.prompted, self._models.captioner.family

        if self._space is None:
            return look()
        (value,) = self._space.outputs([item("kind")], lambda _: [dump_json(look())])
        prompted, family = json.loads(value)
        return prompted, family

    def answers(
        self, build: Build, part: int, pairs: Sequence[Pair], prompts: Sequence[list[CaptionPrompt]]
    ) -> list[list[CaptionAnswer]]:
        """The answers about each picture."""

        def ask(places: list[int]) -> Iterator[list[CaptionAnswer]]:
            files = build.images(part, [pairs[place] for place in places])
            asked = [prompts[place] for place in places]
            return _answers(self._models.captioner, files, asked, self._settings, build.progress)

        def compute(places: list[int]) -> Iterator[bytes]:
            return (dump_json([dataclasses.asdict(answer) for answer in of_picture]) for of_picture in ask(places))

        if self._space is None:
            return list(ask(list(range(len(pairs)))))
        items = [
            picture_item(pair, [dataclasses.astuple(prompt) for prompt in of_picture])
            for pair, of_picture in zip(pairs, prompts, strict=True)
        ]
        kept = self._space.outputs(items, compute)
        return [[CaptionAnswer(**answer) for answer in json.loads(value)] for value in kept]


def _answers(
    captioner: CaptionModel,
    files: Iterator[bytes],
    prompts: Sequence[list[CaptionPrompt]],
    settings: CaptionConfig,
    progress: UnitProgress,
) -> Iterator[list[CaptionAnswer]]:
    """The answers about each picture. A server draws the files itself, as its requests get under way: in batches it
    would wait for the slowest of each."""
    how = {name: getattr(settings, name) for name in ("k", "num_beams", "max_new_tokens", "seed")}
    if isinstance(captioner, VisionServer):
        count = progress.begin(settings.k * sum(map(len, prompts)))
        yield from captioner.caption(files, **how, prompts=prompts, max_side=settings.max_side, on_done=count)
        return
    count = progress.begin(len(prompts))
    for batch in batched(zip(prefetch(to_rgb, files, _WINDOW), prompts, strict=True), settings.batch_size):
        shown = [_shown(picture, captioner, settings.max_side) for picture, _ in batch]
        yield from captioner.caption(shown, **how, prompts=[of_picture for _, of_picture in batch])
        count(len(batch))


def _shown(picture: Image.Image, captioner: CaptionModel, max_side: int) -> Image.Image:
    """The picture as a captioner that is asked gets it: those read as many tokens, or take as many bytes, as it has
    pixels. All others scale it to their own size anyway."""
    if captioner.prompted and max(picture.size) > max_side:
        picture = picture.copy()
        picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    return picture
