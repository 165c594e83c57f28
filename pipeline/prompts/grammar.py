"""Prompt grammar: a web prompt parsed into keywords with weights, and rendered back into text that parses the same.

One grammar for the dialects of the web: attention and prompt editing as the A1111 web UI reads them (its wiki, page
Features), extra networks, ComfyUI's and diffusers' embeddings, the templates of the dynamic-prompts extension,
Midjourney's flags and ``::`` weights, Danbooru's emoticon tags, and what scraping adds: HTML, entities, infotext.
One pass, no recursion, no backtracking: time is linear in the length of the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from surd.pipeline.prompts.dialects import Dialect, evident_dialect, to_common
from surd.pipeline.prompts.parser import MAX_WEIGHT, MIN_WEIGHT, Network, Parser, unwanted_in
from surd.pipeline.prompts.text import EMOTICON, MAX_PROMPT, plain_text, split_infotext
from surd.pipeline.prompts.tokens import SPLITS

__all__ = ["MAX_WEIGHT", "MIN_WEIGHT", "Network", "Prompt", "parse_prompt", "render"]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A parsed web prompt. ``weights[i]`` is the attention weight of ``keywords[i]``, the mean over its letters.

    ``unresolved`` are the templates (wildcards, choices) left in the text; their words are keywords all the same.
    ``cut``: the text breaks off inside a bracket or tag, after a word such as "with", at ``max_chars``, or it is longer
    than what is read of it.
    """

    keywords: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    networks: tuple[Network, ...] = ()
    negative: tuple[str, ...] = ()
    flags: tuple[tuple[str, str], ...] = ()
    unresolved: tuple[str, ...] = ()
    cut: bool = False

    @property
    def text(self) -> str:
        return ", ".join(self.keywords)


def parse_prompt(text: str, max_chars: int = 4000, dialect: Dialect | None = None) -> Prompt:
    """Parse any text; never raises. Unbalanced brackets are read as if closed at the end.

    Prompt editing ``[a:b:0.5]`` keeps the text that acted on more steps, the later of two equal ones; ``[a::0.5]``,
    ``[a:0.5]`` and alternation ``[a|b]`` keep every word, and none of them changes attention. Words under a negative
    weight, ``--no`` or an embedded "Negative prompt:" go to ``negative``. Keywords beyond ``max_chars`` are cut.
    Without a ``dialect`` the text decides, where it can be only one.
    """
    limit = max(MAX_PROMPT, max_chars)
    positive, negative = split_infotext(plain_text(text[:limit]))
    dialect = dialect or evident_dialect(positive)
    parser = Parser(to_common(positive, dialect))
    parser.read()
    keywords, weights, unwanted, complete = parser.keywords(max_chars)
    unwanted += unwanted_in(to_common(negative, dialect))
    return Prompt(
        keywords=tuple(keywords),
        weights=tuple(weights),
        networks=tuple(parser.networks),
        negative=tuple(unwanted),
        flags=tuple(parser.flags),
        unresolved=tuple(parser.unresolved),
        cut=parser.cut or not complete or len(text) > limit,
    )


def render(prompt: Prompt) -> str:
    """Text in the common dialect that parses as such to the same prompt, except for ``unresolved`` and ``cut``."""
    parts = [
        _escape(keyword) if weight == 1.0 else f"({_escape(keyword)}:{weight:g})"
        for keyword, weight in zip(prompt.keywords, prompt.weights, strict=True)
    ]
    for network in prompt.networks:
        weight = "" if network.weight is None else f":{network.weight:g}"
        parts.append(f"<{network.kind}:{network.name}{weight}>")
    parts.append(" ".join(f"--{name} {value}".rstrip() for name, value in prompt.flags))
    text = ", ".join(filter(None, parts))
    if prompt.negative:
        text += "\nNegative prompt: " + ", ".join(map(_escape, prompt.negative))
    return text


def _escape(keyword: str) -> str:
    if re.fullmatch(EMOTICON, keyword, re.IGNORECASE):
        return keyword
    # An escaped underscore is not a word character any more: BREAK next to one would stand alone.
    split = rf"(?<![^\W_])(?:{SPLITS})(?![^\W_])"
    return re.sub(rf"[\\()\[\]{{}}<>:|,;&_，、；。*`#]|(?<!\S)[-\u2013\u2014]|{split}", r"\\\g<0>", keyword)
