"""Stage caption: sentences that describe each kept image, of one or several named templates."""

from __future__ import annotations

from collections.abc import Sequence

from surd.pipeline.build.folder import Build
from surd.pipeline.build.rows import StageRows
from surd.pipeline.model_cache.captioner import CachedCaptioner
from surd.pipeline.model_cache.outputs import OutputCache
from surd.pipeline.models import Models
from surd.pipeline.models.captioner_check import captioner_family
from surd.pipeline.sentences.caption_context import contexts
from surd.pipeline.sentences.caption_questions import CaptionQuestions
from surd.pipeline.sentences.caption_templates import Context
from surd.schemas import BuildConfig, Captioned, Cleaned, Pair, Safe

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
    with OutputCache(build.root, part, [row.key for row in captioned.rows]) as cache:
        captioner = CachedCaptioner(models, settings, cache)
        questions = CaptionQuestions(settings, *captioner.kind())
        told = _contexts(build, part, config, captioned, questions)
        asked = [questions.of(context) for context in told]
        answers = captioner.answers(build, part, pairs, [prompts for prompts, _ in asked])
    for at, (_, unasked), of_picture in zip(captioned.kept, asked, answers, strict=True):
        captions, reasons = questions.usable_captions(of_picture)
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
