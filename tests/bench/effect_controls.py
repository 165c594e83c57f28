"""Controls of bench-effect that are not trained: what stands in the place of the LLM, and prompts whose words compel
weighs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compel import Compel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, set_seed

from sur_adapter.base_model import Pipeline
from surd.pipeline.facts.fact import Fact
from surd.pipeline.facts.parse import extract

#: Compel's weight of the words that carry facts; its users write 1.1 to 1.5.
WEIGHT = 1.25
#: Facts stated by nouns, numbers, adjectives and verbs.
FACT_KINDS = ("entity", "count", "attribute", "action")
#: Name of the folder of the LLM of random weights, and so of its columns: ``llm-random-l15``.
RANDOM_LLM = "random"
#: Name of the folder of the base model's own text encoder, read in the place of an LLM.
TEXT_LLM = "text-encoder"


def random_llm(like: Path, folder: Path, seed: int) -> Path:
    """A folder of a causal LM of the architecture, shapes and tokenizer of the one in ``like``, its weights random.

    They are drawn from ``seed`` as transformers draws them for a training from nothing. A folder that is there is kept.
    """
    if (folder / "config.json").is_file():
        return folder
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    set_seed(seed)
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(like))
    model.save_pretrained(partial)
    AutoTokenizer.from_pretrained(like).save_pretrained(partial)
    partial.rename(folder)
    return folder


def text_encoder_llm(base: Path, folder: Path) -> Path:
    """A folder of the text encoder of the model in ``base`` and its tokenizer, to be read as an LLM is."""
    if not folder.exists():
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(base / "text_encoder", partial)
        shutil.copytree(base / "tokenizer", partial, dirs_exist_ok=True)
        partial.rename(folder)
    return folder


class CompelPipeline:
    """The base model given prompts in compel's syntax. It stands where ``render`` expects a pipeline."""

    def __init__(self, pipe: Pipeline) -> None:
        self.pipe, self.unet, self.device = pipe, pipe.unet, pipe.device
        self.compel = Compel(tokenizer=pipe.tokenizer, text_encoder=pipe.text_encoder)

    def __call__(self, prompts: Sequence[str], **options: Any) -> Any:
        return self.pipe(prompt_embeds=self.compel(list(prompts)), **options)


def weighed(prompts: Sequence[str], weight: float = WEIGHT) -> list[str]:
    """Prompts in compel's syntax: ``three red cats`` -> ``(three)1.25 (red)1.25 (cats)1.25``.

    Weighed are the things, their numbers and attributes and what they do, as the project's own parser finds them.
    """
    return [_weighed(sentence.text, sentence.facts, weight) for sentence in extract(list(prompts))]


def _weighed(text: str, facts: Sequence[Fact], weight: float) -> str:
    spans = sorted({(fact.start, fact.end) for fact in facts if fact.kind in FACT_KINDS and 0 <= fact.start < fact.end})
    parts, at = [], 0
    for start, end in spans:
        # A part of a word cannot be weighed: compel reads what follows as the weight.
        if start < at or _joins(text[start - 1 : start]) or _joins(text[end : end + 1]):
            continue
        parts += [_escaped(text[at:start]), f"({_escaped(text[start:end])}){weight:g}"]
        at = end
    return "".join([*parts, _escaped(text[at:])])


def _joins(letter: str) -> bool:
    return letter.isalnum() or letter in ("-", "'", "’", "_", "+")


def _escaped(text: str) -> str:
    """Without what compel would read as its own: parentheses, and a word's plus or minus signs."""
    return re.sub(r"(?<=\w)([+-]+)(?!\w)", r" \1", re.sub(r"([()])", r"\\\1", text))
