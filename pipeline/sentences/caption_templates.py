"""Templates of what a captioner is asked: each gives a caption of its own name, with context from the pair's prompt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from surd.pipeline.prompts.language import LANGUAGES
from surd.pipeline.sentences.caption_text import MAX_WORDS
from surd.pipeline.sentences.rewrite_template import shortened
from surd.pipeline.sentences.yaml_file import read_yaml
from surd.schemas import SurdError
from surd.schemas.paths import absolute

DEFAULT = Path(__file__).with_name("caption_templates.yaml")
#: Which of the shipped templates are asked where ``caption.names`` says nothing: each costs another pass of the model.
DEFAULT_NAMES = ("medium",)
PLACEHOLDERS = ("prompt", "keywords", "facts")
_PLACEHOLDER = re.compile(r"\{(\s*\w+\s*)\}")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
#: Names of captions that come from elsewhere, and of a choice among them.
_TAKEN = ("caption", "rewrite", "fusion", "simple", "mixed")
#: Possible marks of a chat's structure, and of a picture's place in it: ``<|im_end|>``, ``<image>``, ``[INST]``,
#: ``[IMG]``. A prompt of the web that holds one would be read as another turn, or as a second picture.
_MARKUP = re.compile(r"<[^<>\s]{1,40}>|[<>]|\[/?(?:INST|IMG)[A-Z_]*\]", re.IGNORECASE)
_FACTS = 30  # a longer list would be most of the question


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a pair's prompt says, for the placeholders: cleaned text, keywords without praise, facts as phrases."""

    prompt: str = ""
    keywords: Sequence[str] = ()
    facts: Sequence[str] = ()

    def value(self, placeholder: str) -> str:
        """The text for a placeholder, without markup; "" where the prompt has nothing for it."""
        values = {
            "prompt": self.prompt,
            "keywords": ", ".join(self.keywords),
            "facts": "; ".join(self.facts[:_FACTS]),
        }
        return shortened(without_markup(values[placeholder]))


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CaptionTemplate(_Model):
    """One question, and the limits of its answer."""

    ask: str = Field(min_length=1)
    max_words: int = Field(default=MAX_WORDS, ge=3)
    max_new_tokens: int | None = Field(default=None, ge=1)

    @field_validator("ask")
    @classmethod
    def _has_known_placeholders(cls, ask: str) -> str:
        if not ask.strip():
            raise ValueError("must ask something")
        for name in _PLACEHOLDER.findall(ask):
            if name not in PLACEHOLDERS:
                known = ", ".join(f"{{{one}}}" for one in PLACEHOLDERS)
                raise ValueError(f"unknown placeholder {{{name}}}; the placeholders are {known}")
        return ask.strip()

    @property
    def placeholders(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(_PLACEHOLDER.findall(self.ask)))

    def question(self, context: Context) -> str:
        """The question about one pair. What stands for a placeholder is not searched for others."""
        return _PLACEHOLDER.sub(lambda match: context.value(match.group(1)), self.ask)


class CaptionTemplates(_Model):
    """All templates of a file (see ``caption_templates.yaml``)."""

    version: Literal[1]
    language: str | None = None
    templates: dict[str, CaptionTemplate] = Field(min_length=1)
    tasks: dict[str, dict[str, Annotated[str, Field(min_length=1)]]] = {}

    @field_validator("language")
    @classmethod
    def _is_known(cls, language: str | None) -> str | None:
        if language is not None and language not in LANGUAGES:
            raise ValueError(f"must be one of {', '.join(LANGUAGES)}, or null for any")
        return language

    @field_validator("templates")
    @classmethod
    def _have_free_names(cls, templates: dict[str, CaptionTemplate]) -> dict[str, CaptionTemplate]:
        for name in templates:
            if name in _TAKEN:
                raise ValueError(f"the name {name!r} is taken; choose another")
            if not _NAME.fullmatch(name):
                raise ValueError(f"the name {name!r} must be small letters, digits, - and _, at most 32")
        return templates

    def named(self, names: Sequence[str]) -> dict[str, CaptionTemplate]:
        """The templates of these names, in their order. Raises SurdError for a name that the file lacks."""
        for name in names:
            if name not in self.templates:
                raise SurdError(
                    f"caption.names holds {name!r}: there is no such template; choose from {', '.join(self.templates)}"
                )
        return {name: self.templates[name] for name in names}

    def task(self, family: str, name: str) -> str | None:
        """What a model of a ``family`` that knows tasks is asked for a caption; None: the template's own question.

        Raises SurdError when the file lists tasks for the family, and none for this caption.
        """
        tasks = self.tasks.get(family)
        if tasks is None:
            return None
        if name not in tasks:
            raise SurdError(
                f"caption.names holds {name!r}: a {family!r} has no task for it; choose from"
                f" {', '.join(tasks)}, or list a task for it in a file of your own: caption.templates"
            )
        return tasks[name]


def without_markup(text: str) -> str:
    """A text of the web on one line, without what may be marks of a chat or of a picture."""
    return " ".join(_MARKUP.sub(" ", text).split())


@lru_cache(maxsize=4)
def read_templates(path: str | None) -> CaptionTemplates:
    """The templates in a YAML file; None: the shipped one. Raises SurdError with line and column of an error."""
    return read_yaml(absolute(path) if path else DEFAULT, CaptionTemplates, "caption.templates")
