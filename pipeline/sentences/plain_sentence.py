"""plain_sentence: turns an LLM's answer into one plain sentence about the prompt's scene, or says why it is none."""

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
#: A part of a prompt that speaks to whoever reads it. What it says is no evidence of what the picture shows.
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
#: Words that are in any sentence about any picture, so that sharing them says nothing.
_COMMON = frozenset(
    _WORD.findall(
        "a an the this that these those it its his her their some and or of in on at to by as with without from into"
        " onto for over under is are was were be being been has have had there here front picture image photo"
        " photograph scene background foreground shows showing shown depicts depicting features featuring one left"
        " right side top"
    )
)


class Unusable(Exception):
    """An answer that is no plain sentence of its own; the text says why."""


def rewritten_sentence(answer: str, prompt: str, template: RewriteTemplate, *, cut: bool = False) -> str:
    """The first sentence of an answer to ``prompt``; ``cut`` says that the answer stopped at the token limit.

    Raises Unusable: no sentence, chat markup, a refusal, keywords, quality words, words of the template's examples, an
    answer that has nothing of the prompt in it, or something that the prompt orders its reader to say.
    """
    sentence = _first_sentence(answer, cut)
    _check_words(sentence, prompt, template)
    return sentence


def plain_sentence(answer: str) -> str | None:
    """The first sentence of an answer; None when it has not the form of one."""
    try:
        return _first_sentence(answer, cut=False)
    except Unusable:
        return None


def _first_sentence(answer: str, cut: bool) -> str:
    if mark := _CHAT_MARK.search(answer):
        raise Unusable(f"chat markup ({mark.group()[:20].strip()})")
    if _REFUSAL.search(answer):
        raise Unusable("a refusal")
    match = _SENTENCE.search(_LABEL.sub("", answer.strip().strip("\"'`*- "), count=1).lstrip("\"'`*- \n"))
    sentence = " ".join(match.group().split()).strip("\"'`* ") if match else ""
    if not sentence:
        raise Unusable("an empty answer")
    _check_form(sentence, cut)
    sentence = sentence[0].upper() + sentence[1:]
    return sentence if sentence[-1] in ".!?" else f"{sentence}."


def _check_form(sentence: str, cut: bool) -> None:
    words = sentence.split()
    if len(words) < 3:
        raise Unusable("fewer than three words")
    if len(words) > _MAX_WORDS:
        raise Unusable(f"more than {_MAX_WORDS} words")
    if cut and sentence[-1] not in ".!?":
        raise Unusable("broken off at max_new_tokens")
    commas = sentence.count(",")
    if commas > len(words) / 3 or (commas >= 3 and commas > len(words) / 8) or _TAG_MARKUP.search(sentence):
        raise Unusable("keywords, no sentence")
    if _PERSONAL.search(sentence):
        raise Unusable("it speaks of itself or to its reader")


def _check_words(sentence: str, prompt: str, template: RewriteTemplate) -> None:
    if praise := template.praise.search(sentence):
        raise Unusable(f"a quality word ({praise.group().lower()})")
    scene, orders = _parted(prompt)
    evidence, said = content_words(scene), content_words(sentence)
    if said & (content_words(orders) - evidence):
        raise Unusable("it obeys the prompt")
    if _copied(sentence, evidence, template):
        raise Unusable("it copies an example of the template")
    # Without a word of the Latin alphabet a prompt shares none with any English sentence, which then says nothing.
    if (evidence or orders) and not evidence & said:
        raise Unusable("it shares no word with the prompt")


def _parted(prompt: str) -> tuple[str, str]:
    """What a prompt says of its scene, and what it orders its reader to do, which all behind an override is."""
    scene: list[str] = []
    orders: list[str] = []
    overridden = False
    for part in re.split(r"[,.;:\n]", prompt):
        order = _ORDER.search(part)
        overridden = overridden or bool(order and order.group("override"))
        (orders if order or overridden else scene).append(part)
    return ". ".join(scene), ". ".join(orders)


def _copied(sentence: str, evidence: set[str], template: RewriteTemplate) -> bool:
    """Whether four words in a row are an example's, with a content word that the prompt does not back."""
    shown = {run for example in template.examples for run in _runs(example.sentence)}
    return any(content_words(" ".join(run)) - evidence for run in _runs(sentence) if run in shown)


def _runs(sentence: str) -> list[tuple[str, ...]]:
    words = _WORD.findall(sentence.lower())
    return list(zip(words, words[1:], words[2:], words[3:], strict=False))


def content_words(text: str) -> set[str]:
    """The stems of what a text speaks of: without common words, endings and the difference of 3 and three."""
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
