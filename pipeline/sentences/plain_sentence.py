"""Checks on LLM answers: one plain sentence about the prompt's scene, or the reason why the answer is not usable."""

from __future__ import annotations

import re

from surd.pipeline.sentences.rewrite_template import RewriteTemplate

_MAX_WORDS = 40
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]?")
_LABEL = re.compile(
    r"^(?:(?:sure|certainly|of course|okay|ok)\b[^:\n]{0,60}[:!]\s*)?"
    r"(?:(?:here(?:'s| is)|(?:the |plain |simple |one )*(?:sentence|caption|answer|output|description|rewrite))\b"
    r"[^:\n]{0,60}:\s*)?",
    re.IGNORECASE,
)
_CHAT_MARK = re.compile(
    r"<[^>\n]*>|<\||\|>|\[/?INST\]|<<|>>|^\s*#{2,}|\b(?:user|assistant|system)\s*:|^(?:user|assistant|system)\s*$",
    re.IGNORECASE | re.MULTILINE,
)
_REFUSAL = re.compile(
    r"\b(?:i['’]?m sorry|i am sorry|i apologi[sz]e|as an? (?:ai|artificial|assistant|large language)|language model"
    r"|i (?:can['’]?t|cannot|can not|could not|couldn['’]?t|won['’]?t|am unable|do not|don['’]?t)"
    r"|i['’]?m (?:unable|not able))\b",
    re.IGNORECASE,
)
_PERSONAL = re.compile(r"\bI\b|\b(?:[Mm]e|[Mm]y|[Mm]yself|[Yy]ou|[Yy]our)\b")
_TAG_MARKUP = re.compile(r"[_{}|\\]|\(\(|:\s*\d|--\w")
#: A part of a prompt that addresses its reader. It is not evidence of what the picture shows.
_ORDER = re.compile(
    r"\b(?P<override>(?:ignore|disregard|forget|override)\b.*\b(?:instruction|prompt|previous|above|rule|earlier))"
    r"|^\W*(?:please |now |and |then )*"
    r"(?:say|print|output|reply|respond|answer|repeat|return|echo|tell|translate)\b\W+\w"
    r"|\b(?:write|reply|respond|answer)\b\W+(?:only|exactly|just)\b"
    r"|\b(?:you are|you're|you must|act as|pretend|system prompt|new instructions?)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[a-z]+|\d+")
_NUMBERS = {"one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8"}
#: Words of any sentence about any picture: sharing them proves nothing.
_COMMON = frozenset(
    _WORD.findall(
        "a an the this that these those it its his her their some and or of in on at to by as with without from into"
        " onto for over under is are was were be being been has have had there here front picture image photo"
        " photograph scene background foreground shows showing shown depicts depicting features featuring one left"
        " right side top"
    )
)


class InvalidRewrite(Exception):
    """An answer that is not a usable plain sentence; the text is the reason."""


def rewritten_sentence(
    answer: str, prompt: str, template: RewriteTemplate, *, cut: bool = False, caption: str | None = None
) -> str:
    """The first sentence of an answer to ``prompt``; ``cut``: the answer stopped at the token limit; ``caption``: what
    was shown of the picture, whose words count as the prompt's do.

    Raises InvalidRewrite on chat markup, refusals, keywords instead of a sentence, quality words, a copy of one of the
    template's examples, an answer that shares no word with the prompt, and one that obeys an order in the prompt.
    """
    sentence = _first_sentence(answer, cut)
    _check_words(sentence, prompt, template, caption or "")
    return sentence


def plain_sentence(answer: str) -> str | None:
    """The first sentence of an answer; None if it does not have the form of one."""
    try:
        return _first_sentence(answer, cut=False)
    except InvalidRewrite:
        return None


def _first_sentence(answer: str, cut: bool) -> str:
    if mark := _CHAT_MARK.search(answer):
        raise InvalidRewrite(f"chat markup ({mark.group()[:20].strip()})")
    if _REFUSAL.search(answer):
        raise InvalidRewrite("a refusal")
    match = _SENTENCE.search(_LABEL.sub("", answer.strip().strip("\"'`*- "), count=1).lstrip("\"'`*- \n"))
    sentence = " ".join(match.group().split()).strip("\"'`* ") if match else ""
    if not sentence:
        raise InvalidRewrite("an empty answer")
    _check_form(sentence, cut)
    sentence = sentence[0].upper() + sentence[1:]
    return sentence if sentence[-1] in ".!?" else f"{sentence}."


def _check_form(sentence: str, cut: bool) -> None:
    words = sentence.split()
    if len(words) < 3:
        raise InvalidRewrite("fewer than three words")
    if len(words) > _MAX_WORDS:
        raise InvalidRewrite(f"more than {_MAX_WORDS} words")
    if cut and sentence[-1] not in ".!?":
        raise InvalidRewrite("broken off at max_new_tokens")
    commas = sentence.count(",")
    if commas > len(words) / 3 or (commas >= 3 and commas > len(words) / 8) or _TAG_MARKUP.search(sentence):
        raise InvalidRewrite("keywords, no sentence")
    if _PERSONAL.search(sentence):
        raise InvalidRewrite("it speaks of itself or to its reader")


def _check_words(sentence: str, prompt: str, template: RewriteTemplate, caption: str) -> None:
    if praise := template.praise.search(sentence):
        raise InvalidRewrite(f"a quality word ({praise.group().lower()})")
    scene, orders = _split_orders(prompt)
    evidence, stated = content_words(f"{scene}. {caption}"), content_words(sentence)
    if stated & (content_words(orders) - evidence):
        raise InvalidRewrite("it obeys the prompt")
    if _copied(sentence, evidence, template):
        raise InvalidRewrite("it copies an example of the template")
    # A prompt without Latin letters shares no word with any English sentence, so that proves nothing.
    if (evidence or orders) and not evidence & stated:
        raise InvalidRewrite("it shares no word with the prompt")


def _split_orders(prompt: str) -> tuple[str, str]:
    """The parts of a prompt that describe its scene, and those that order its reader: all after an override."""
    scene: list[str] = []
    orders: list[str] = []
    overridden = False
    for part in re.split(r"[,.;:\n]", prompt):
        order = _ORDER.search(part)
        overridden = overridden or bool(order and order.group("override"))
        (orders if order or overridden else scene).append(part)
    return ". ".join(scene), ". ".join(orders)


def _copied(sentence: str, evidence: set[str], template: RewriteTemplate) -> bool:
    """Whether four words in a row are an example's, with a content word that is not in the prompt."""
    examples = {run for example in template.examples for run in _runs(example.sentence)}
    return any(content_words(" ".join(run)) - evidence for run in _runs(sentence) if run in examples)


def _runs(sentence: str) -> list[tuple[str, ...]]:
    words = _WORD.findall(sentence.lower())
    return list(zip(words, words[1:], words[2:], words[3:], strict=False))


def content_words(text: str) -> set[str]:
    """Stems of the content words of a text, without common words; digits and number words count as the same."""
    words = (_NUMBERS.get(word, word) for word in _WORD.findall(text.lower()))
    return {_stem(word) for word in words if word not in _COMMON and (len(word) > 1 or word.isdigit())} - {"1"}


def _stem(word: str) -> str:
    """Rough, but the same for the forms of one word: running, runs, runner -> run."""
    if word.isdigit() or len(word) <= 3:
        return word
    for ending in ("ings", "ing", "ers", "er", "ies", "ied", "es", "ed", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word
