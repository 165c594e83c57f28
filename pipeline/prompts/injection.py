"""Prompt injection: words in a prompt that address a language model instead of describing a picture."""

from __future__ import annotations

import re
import unicodedata

from surd.pipeline.prompts.text import MAX_PROMPT, normalized

_MODEL = (
    r"(?:chat ?gpt|gpt-?\d\w*|claude|gemini|llama|dan"
    r"|an? (?:\w+ ){0,2}(?:ai|a\.i\.|assistant|chatbot|language model|llm)\b)"
)
_ORDERS = (
    r"(?:previous|prior|above|preceding|earlier|foregoing"
    r"|instructions?|directions?|directives?|guidelines?|rules|prompts?)"
)
_SAY = r"(?:say|print|write|output|return|repeat|respond|reply|answer|tell|state)"
_QUOTE = "[\"'“‘]"
#: Name of the rule in a row's detail -> its patterns. Orders only ("ignore", never "ignoring"), and only those about
#: instructions, answers or the model itself: pictures also show people who ignore, answer and write.
#: CLIP's own marks (<|startoftext|>) are not a chat template.
_PATTERNS: dict[str, tuple[str, ...]] = {
    "chat template": (
        r"<\|(?!(?:start|end)of_?text)[a-z_]{2,30}\|>",
        r"\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|</s>",
        r"(?<!#)#{2,}\s*(?:instructions?|response|system|input|assistant|user)\b",
    ),
    "role": (r"(?:^|[.,;!?>\])}\"]\s*)(?:system|assistant|developer)(?: (?:message|prompt|note))?\s*:\s*\S",),
    "orders to ignore": (rf"\b(?:ignore|disregard|forget|override|bypass)\s+(?:\w+\s+){{0,3}}{_ORDERS}\b",),
    "new orders": (
        r"\bnew (?:instructions?|orders|task|directive)\s*:",
        r"\b(?:follow|obey) (?:these|my|the following) (?:new )?(?:instructions?|orders|commands?)\b",
    ),
    "another self": (
        rf"\byou(?: are|'re| will be)(?: now)? (?:{_MODEL}|in developer mode)",
        rf"\b(?:act|behave|pretend to be|pretend you are|roleplay) (?:as )?(?:if you were )?{_MODEL}",
        r"\bas an ai\b|\bdo anything now\b",
    ),
    "orders to answer": (
        r"\b(?:respond|reply|answer)\s+(?:only|exactly|strictly|instead|always|in (?:json|one word))\b",
        r"\b(?:respond|reply|answer)\s+with\s+(?:only|just|exactly|the (?:following|words?|phrase|text|string)|json)\b",
        rf"\b(?:respond|reply|answer)\s+with\s*(?::|{_QUOTE})",
        rf"\b(?:only|always|instead,?|must|please|simply|just) {_SAY} (?:only |exactly |with |that |:|{_QUOTE})",
        rf"\b{_SAY} (?:only|exactly|nothing but|verbatim)\b.{{0,10}}(?::|{_QUOTE})",
        rf"\b{_SAY} (?:pwned|hacked)\b|\band nothing else\b.{{0,5}}$|\brepeat after me\b",
    ),
    "about its answer": (
        r"\byour (?:caption|answer|response|reply|output|rewrite) (?:is|must be|should be|will be)\b",
        r"\bthe (?:caption|output|response) (?:is|must be|should be|will be)\b",
        r"\binstead of (?:describing|captioning|rewriting|answering|summari[sz]ing)\b|\btell the user\b",
        r"\bdo not (?:describe|rewrite|caption|follow|answer|summari[sz]e)\b",
    ),
    "its innards": (
        r"\b(?:your|the) (?:system|hidden|initial|secret) (?:prompt|message|instructions?)\b",
        r"\b(?:print|reveal|show|output|leak|give me|send) (?:me )?(?:all )?your "
        r"(?:configuration|config|instructions?|prompt|rules|system|api key|secrets?|training)\b",
        r"\bprompt injection\b|\bjailbreak(?:ed)? (?:mode|prompt)\b",
    ),
}
RULES = {name: re.compile("|".join(patterns), re.IGNORECASE | re.MULTILINE) for name, patterns in _PATTERNS.items()}


def find_injection(text: str) -> str | None:
    """The rule that matched and the matched words, or None. Entities, invisible and wide characters are decoded.

    The first ``MAX_PROMPT`` letters are read, as of every prompt.
    """
    text = unicodedata.normalize("NFKC", normalized(text[:MAX_PROMPT]))
    for name, rule in RULES.items():
        if match := rule.search(text):
            return f"{name}: {' '.join(match.group().split())[:80]}"
    return None
