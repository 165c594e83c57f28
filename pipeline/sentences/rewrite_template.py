"""Few-shot template of the chat that asks the LLM to rewrite a prompt as a plain sentence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from surd.pipeline.models.chat import Message
from surd.pipeline.sentences.yaml_file import read_yaml
from surd.schemas.paths import absolute

DEFAULT = Path(__file__).with_name("rewrite_template.yaml")
_MAX_PROMPT_CHARS = 600
#: Possible marks of a chat's structure: angle brackets (``<|im_end|>``, ``</s>``, the template's own
#: tags), and the bracketed ones of LLaMA.
_MARKUP = re.compile(r"[<>]|\[/?INST\]", re.IGNORECASE)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Example(_Model):
    """A prompt and the sentence it should become."""

    prompt: str = Field(min_length=1)
    caption: str | None = Field(default=None, min_length=1)
    sentence: str = Field(min_length=1)


class RewriteTemplate(_Model):
    """System message, question and examples (see ``rewrite_template.yaml``)."""

    version: Literal[1]
    system: str = Field(min_length=1)
    ask: str
    ask_with_caption: str | None = None
    examples: tuple[Example, ...] = ()
    quality_words: tuple[str, ...] = ()

    @field_validator("ask")
    @classmethod
    def _holds_the_prompt_once(cls, ask: str) -> str:
        if ask.count("{prompt}") != 1:
            raise ValueError("must hold {prompt} once")
        return ask

    @field_validator("ask_with_caption")
    @classmethod
    def _holds_both_once(cls, ask: str | None) -> str | None:
        if ask is not None and not ask.count("{prompt}") == ask.count("{caption}") == 1:
            raise ValueError("must hold {prompt} once and {caption} once")
        return ask

    def chat(self, prompt: str, caption: str | None = None) -> list[Message]:
        """The few-shot conversation that ends with the prompt to rewrite, and what a captioner saw in its picture.

        A template without ``ask_with_caption`` leaves the caption out.
        """
        messages = [{"role": "system", "content": self.system}]
        for example in self.examples:
            shown = example.caption if caption else None
            messages.append({"role": "user", "content": self._question(example.prompt, shown)})
            messages.append({"role": "assistant", "content": example.sentence})
        return [*messages, {"role": "user", "content": self._question(shortened(prompt), caption)}]

    def _question(self, prompt: str, caption: str | None) -> str:
        if self.ask_with_caption is None or not caption:
            return self.ask.replace("{prompt}", _without_markup(prompt))
        before, _, after = self.ask_with_caption.partition("{caption}")  # in one pass: a prompt may hold a placeholder
        parts = (part.replace("{prompt}", _without_markup(prompt)) for part in (before, after))
        return _without_markup(shortened(caption)).join(parts)

    def scene(self, keywords: Sequence[str]) -> str:
        """A prompt's keywords without the words that only praise the picture; all of them if nothing else is left."""
        kept = []
        for keyword in keywords:
            rest = " ".join(self.praise.sub(" ", keyword).split())
            if rest == " ".join(keyword.split()) or re.search(r"[^\W\d_]{3}|\d", rest):
                kept.append(rest)
        return ", ".join(kept) or ", ".join(keywords)

    @cached_property
    def praise(self) -> re.Pattern[str]:
        """Any of the quality words, as whole words."""
        longest_first = sorted(self.quality_words, key=lambda word: (-len(word), word))
        return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest_first)) or '(?!)'})(?![\w-])", re.IGNORECASE)


def _without_markup(text: str) -> str:
    return " ".join(_MARKUP.sub(" ", text).split())


def shortened(prompt: str, limit: int = _MAX_PROMPT_CHARS) -> str:
    """At most ``limit`` characters of a prompt, ending with a whole keyword, or at least with a whole word."""
    if len(prompt) <= limit:
        return prompt
    start = prompt[: limit + 1]
    for end, least in ((start.rfind(","), limit // 2), (start.rfind(" "), 1)):
        if end >= least:
            return start[:end].rstrip(" ,")
    return prompt[:limit]


def template_file(path: str | None) -> Path:
    """The file of a template; None: the one that ships."""
    return absolute(path) if path else DEFAULT


@lru_cache(maxsize=4)
def read_template(path: str | None) -> RewriteTemplate:
    """The template in a YAML file. Raises SurdError with line and column of an error."""
    return read_yaml(template_file(path), RewriteTemplate, "rewrite.template")
