"""What a captioner is asked about a picture, as the config has it, and which of its answers are captions."""

from __future__ import annotations

from collections.abc import Sequence

from surd.pipeline.models.caption_model import UNNAMED, CaptionAnswer, CaptionPrompt
from surd.pipeline.sentences.caption_templates import DEFAULT_NAMES, CaptionTemplate, Context, read_templates
from surd.pipeline.sentences.caption_text import MAX_WORDS, InvalidCaption, usable_caption
from surd.schemas import SurdError
from surd.schemas.config import CaptionConfig


class CaptionQuestions:
    """The questions of ``caption.templates``, the one of ``caption.prompt``, or none.

    ``prompted``: whether the captioner has to be asked; ``family``: see CaptionModel. Raises SurdError when the config
    asks something that is not valid, or that such a captioner cannot be asked.
    """

    def __init__(self, settings: CaptionConfig, prompted: bool, family: str) -> None:
        self._prompt = settings.prompt
        self._prompted = prompted
        self._templates: dict[str, CaptionTemplate] = {}
        self._language: str | None = None
        given = [f"caption.{name}" for name in ("templates", "names") if getattr(settings, name)]
        if given and settings.prompt:
            raise SurdError(f"caption.prompt and {given[0]} are both set; keep one of them")
        if given and not prompted:
            raise SurdError(
                f"{given[0]} is set, and models.captioner is a {family!r}, which answers no question; leave it out, or"
                " name a captioner that answers, such as LLaVA or Qwen2.5-VL"
            )
        if prompted and not settings.prompt:
            templates = read_templates(settings.templates)
            names = settings.names or (tuple(templates.templates) if settings.templates else DEFAULT_NAMES)
            self._templates = {
                name: template.model_copy(update={"ask": templates.task(family, name) or template.ask})
                for name, template in templates.named(names).items()
            }
            self._language = templates.language

    @property
    def placeholders(self) -> set[str]:
        """The placeholders for which the pair's context is needed."""
        return {name for template in self._templates.values() for name in template.placeholders}

    def of(self, context: Context) -> tuple[list[CaptionPrompt], list[str]]:
        """The prompts about one picture, and why others cannot be asked: its prompt gives nothing for a placeholder."""
        if not self._templates:
            return [CaptionPrompt(text=self._prompt or "")], []
        prompts, reasons = [], []
        for name, template in self._templates.items():
            if empty := [place for place in template.placeholders if not context.value(place)]:
                reasons.append(self.reason(name, f"its prompt gives nothing for {{{empty[0]}}}"))
            else:
                text = template.question(context)
                prompts.append(CaptionPrompt(name=name, text=text, max_new_tokens=template.max_new_tokens))
        return prompts, reasons

    def usable(self, answer: CaptionAnswer) -> str:
        """The caption in an answer. Raises InvalidCaption with the reason why there is none."""
        if answer.text is None:
            raise InvalidCaption(answer.why or "no answer")
        template = self._templates.get(answer.name)
        return usable_caption(
            answer.text,
            cut=answer.cut,
            max_words=template.max_words if template else MAX_WORDS,
            language=self._language,
            asked=self._prompted,
        )

    def usable_captions(self, answers: Sequence[CaptionAnswer]) -> tuple[dict[tuple[str, str], None], list[str]]:
        """The different usable captions as (text, name), in order, and why other answers are none."""
        captions: dict[tuple[str, str], None] = {}
        reasons = []
        for answer in answers:
            try:
                captions[self.usable(answer), answer.name] = None
            except InvalidCaption as why:
                reasons.append(self.reason(answer.name, str(why)))
        return captions, reasons

    def reason(self, name: str, why: str) -> str:
        """Why an answer was not used, with the name of its template."""
        return why if name == UNNAMED else f"{name}: {why}"
