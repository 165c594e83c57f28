"""Stage caption: sentences that describe each kept image, of one or several named templates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from PIL import Image

from surd.pipeline.batching import batched, prefetch
from surd.pipeline.build.folder import Build
from surd.pipeline.build.rows import StageRows
from surd.pipeline.models import Models
from surd.pipeline.models.caption_model import CaptionAnswer, CaptionModel, CaptionPrompt
from surd.pipeline.models.captioner_check import captioner_family
from surd.pipeline.models.vision_server import VisionServer
from surd.pipeline.sentences.caption_context import contexts
from surd.pipeline.sentences.caption_questions import CaptionQuestions
from surd.pipeline.sentences.caption_templates import Context
from surd.pipeline.sentences.caption_text import InvalidCaption
from surd.schemas import BuildConfig, Captioned, Cleaned, Pair, Safe
from surd.schemas.config import CaptionConfig
from surd.schemas.shard_format.pixels import to_rgb

_WINDOW = 8  # whole pictures decoded ahead of the model: more would only hold memory
_MOST_REASONS = 500  # characters


def caption(build: Build, part: int, config: BuildConfig, models: Models) -> list[Captioned]:
    """One partition's captions: of each template up to ``caption.k`` different ones per image, the surest first.

    What a captioner answers is checked. A picture without any usable answer keeps its row, with null captions, and
    ``caption_dropped`` says why.
    """
    settings = config.caption
    captioned = StageRows(Captioned, build.read_rows("safety", part, Safe))
    if not captioned.kept:
        return captioned.rows
    pairs = captioned.of_kept(build.read_rows("fetch", part, Pair))
    questions = CaptionQuestions(settings, models.captioner.prompted, models.captioner.family)
    told = _contexts(build, part, config, captioned, questions)
    asked = [questions.of(context) for context in told]
    answers = _answers(models.captioner, build.images(part, pairs), [prompts for prompts, _ in asked], settings)
    for at, (_, unasked), of_picture in zip(captioned.kept, asked, answers, strict=True):
        captions, reasons = _checked(of_picture, questions)
        captioned.set(
            at,
            captions=[text for text, _ in captions] or None,
            caption_names=[name for _, name in captions] or None,
            caption_dropped="; ".join(dict.fromkeys([*unasked, *reasons]))[:_MOST_REASONS] or None,
        )
    return captioned.rows


def check_questions(config: BuildConfig) -> None:
    """Raises SurdError when what the captioner is to be asked is not valid, or not for this captioner."""
    family, prompted = captioner_family(config)
    CaptionQuestions(config.caption, prompted, family)


def _contexts(
    build: Build, part: int, config: BuildConfig, captioned: StageRows[Captioned], questions: CaptionQuestions
) -> Sequence[Context]:
    if not questions.placeholders:
        return [Context()] * len(captioned.kept)
    rows = captioned.of_kept(build.read_rows("clean", part, Cleaned))
    return contexts(rows, questions.placeholders, config.facts)


def _answers(
    captioner: CaptionModel, files: Iterator[bytes], prompts: Sequence[list[CaptionPrompt]], settings: CaptionConfig
) -> Iterator[list[CaptionAnswer]]:
    """The answers about each picture. A server draws the files itself, as its requests get under way: in batches it
    would wait for the slowest of each."""
    how = {name: getattr(settings, name) for name in ("k", "num_beams", "max_new_tokens", "seed")}
    if isinstance(captioner, VisionServer):
        yield from captioner.caption(files, **how, prompts=prompts, max_side=settings.max_side)
        return
    for batch in batched(zip(prefetch(to_rgb, files, _WINDOW), prompts, strict=True), settings.batch_size):
        shown = [_shown(picture, captioner, settings.max_side) for picture, _ in batch]
        yield from captioner.caption(shown, **how, prompts=[of_picture for _, of_picture in batch])


def _shown(picture: Image.Image, captioner: CaptionModel, max_side: int) -> Image.Image:
    """The picture as a captioner that is asked gets it: those read as many tokens, or take as many bytes, as it has
    pixels. All others scale it to their own size anyway."""
    if captioner.prompted and max(picture.size) > max_side:
        picture = picture.copy()
        picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    return picture


def _checked(
    answers: Sequence[CaptionAnswer], questions: CaptionQuestions
) -> tuple[dict[tuple[str, str], None], list[str]]:
    """The different usable captions as (text, name), in order, and why other answers are none."""
    captions: dict[tuple[str, str], None] = {}
    reasons = []
    for answer in answers:
        try:
            captions[questions.usable(answer), answer.name] = None
        except InvalidCaption as why:
            reasons.append(questions.reason(answer.name, str(why)))
    return captions, reasons
