"""prompt injection: finds in a prompt the words that address a language model instead of describing a picture."""

from __future__ import annotations

import re
import unicodedata

from pipeline.prompt_text import decoded

_MODEL = r"(?:chat ?gpt|gpt-?\d\w*|claude|gemini|llama|dan|an? (?:\w+ ){0,2}(?:ai|a\.i\.|assistant|chatbot|language model|llm)\b)"
_ORDERS = r"(?:previous|prior|above|preceding|earlier|foregoing|instructions?|directions?|directives?|guidelines?|rules|prompts?)"
_SAY = r"(?:say|print|write|output|return|repeat|respond|reply|answer|tell|state)"
#: What each rule is called in a row's detail, and what it finds. Orders only ("ignore", never "ignoring"), and only such
#: as concern instructions, answers or the model itself: pictures show people who ignore, answer and write, too.
RULES: dict[str, re.Pattern[str]] = {
    name: re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for name, pattern in {
        "chat template": r"<\|(?!(?:start|end)of_?text)[a-z_]{2,30}\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|</s>|"
        r"#{2,}\s*(?:instructions?|response|system|input|assistant|user)\b",
        "role": r"(?:^|[.,;!?>\])}\"]\s*)(?:system|assistant|developer)(?: (?:message|prompt|note))?\s*:\s*\S",
        "orders to ignore": r"\b(?:ignore|disregard|forget|override|bypass)\s+(?:\w+\s+){0,3}" + _ORDERS + r"\b",
        "new orders": r"\bnew (?:instructions?|orders|task|directive)\s*:|\b(?:follow|obey) (?:these|my|the following) "
        r"(?:new )?(?:instructions?|orders|commands?)\b",
        "another self": rf"\byou(?: are|'re| will be)(?: now)? (?:{_MODEL}|in developer mode)|\b(?:act|behave|pretend to be|pretend "
        rf"you are|roleplay) (?:as )?(?:if you were )?{_MODEL}|\bas an ai\b|\bdo anything now\b",
        "orders to answer": r"\b(?:respond|reply|answer)\s+(?:only|exactly|strictly|instead|always|with(?:\s+(?:only|just|exactly|the "
        r"(?:following|word|words|phrase|text|string)|json)|\s*[:\"'“‘])|in (?:json|one word))|"
        rf"\b(?:only|always|instead,?|must|please|simply|just) {_SAY} (?:only |exactly |with |that |:|[\"'“‘])|"
        rf"\b{_SAY} (?:only|exactly|nothing but|verbatim)\b.{{0,10}}[\"'“‘:]|\b{_SAY} (?:pwned|hacked)\b|"
        r"\band nothing else\b.{0,5}$|\brepeat after me\b",
        "about its answer": r"\b(?:the|your) (?:caption|answer|response|reply|output|rewrite) (?:is|must be|should be|will be)\b|"
        r"\binstead of (?:describing|captioning|rewriting|answering|summari[sz]ing)\b|\btell the user\b|"
        r"\bdo not (?:describe|rewrite|caption|follow|answer|summari[sz]e)\b",
        "its innards": r"\b(?:your|the) (?:system|hidden|initial|secret) (?:prompt|message|instructions?)\b|"
        r"\b(?:print|reveal|show|output|leak|give me|send) (?:me )?(?:all )?your (?:configuration|config|instructions?|prompt|rules|"
        r"system|api key|secrets?|training)\b|\bprompt injection\b|\bjailbreak(?:ed)? (?:mode|prompt)\b",
    }.items()
}  # fmt: skip


def find_injection(text: str) -> str | None:
    """The rule and the words that caught the text, or None. Sees through entities, invisible and wide characters."""
    text = unicodedata.normalize("NFKC", decoded(text))
    for name, rule in RULES.items():
        if match := rule.search(text):
            return f"{name}: {' '.join(match.group().split())[:80]}"
    return None
