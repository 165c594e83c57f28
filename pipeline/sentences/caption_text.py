"""Checks on what a captioner answered: its sentences about the picture alone, or the reason why it is not usable."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from surd.pipeline import untrusted_json
from surd.pipeline.prompts.language import detect_language

_FENCE = re.compile(r"^```\w{0,12}\s*|\s*```$")
#: Under which an answer as an object may hold the caption, if it holds nothing else.
_KEYS = ("caption", "description", "text", "answer", "sentence", "output")
_JSON = re.compile(r"[\[{]\s*[\"\[{\]}]")
_LABEL = re.compile(
    r"^(?:(?:sure|certainly|of course|okay|ok|absolutely)\b[^:\n]{0,60}?[:!,.]\s*)?"
    r"(?:(?:here(?:'s|’s| is)\b[^:.\n]{0,60}|(?:(?:the|a|plain|simple|short|detailed|image|picture|long) ){0,4}"
    r"(?:caption|answer|description|sentence|output)(?: (?:of|for) (?:the|this) (?:image|picture|photo))?):\s*)?",
    re.IGNORECASE,
)
_CHAT_MARK = re.compile(
    r"<[^<>\n]{0,80}>|<\||\|>|\[/?INST\]|<<|>>|\b(?:user|assistant|system)\s?:|^(?:user|assistant|system)$",
    re.IGNORECASE | re.MULTILINE,
)
_ITEM = re.compile(r"^(?:[-*•]|\d{1,2}[.)])\s")
_QUOTED = re.compile(r'"[^"]{0,200}"|“[^”]{0,200}”')
_REFUSAL = re.compile(
    r"\b(?:(?:i['’]?m|i am) (?:so |very )?sorry|^sorry|i apologi[sz]e|as an? (?:ai|artificial|assistant|large language)"
    r"|language model|(?:i|we) (?:can['’]?t|cannot|can not|could not|couldn['’]?t|won['’]?t|am unable|do not|don['’]?t)"
    r"|(?:i['’]?m|i am) (?:unable|not able|not comfortable)|^unable to"
    r"|no (?:image|picture|photo)\b.{0,30}\b(?:provided|attached|uploaded|available|included)"
    r"|(?:provide|upload|attach|share|send) (?:me )?(?:the|an|a|your) (?:image|picture|photo))\b",
    re.IGNORECASE,
)
#: A sentence to the reader about the answer itself, as chat models like to add.
_CHATTER = re.compile(
    r"^(?:let me know|feel free|would you like|is there anything|do you (?:want|need)|if you (?:have|need|want|would)"
    r"|i hope (?:this|that)|please (?:let|note)|note that|\(?note:)\b",
    re.IGNORECASE,
)
_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’)\]]*+(?=\s|$)|[。！？]++[」』”]*+")
_ABBREVIATION = re.compile(r"(?:\b(?:mr|mrs|ms|dr|st|no|vs|approx|e\.g|i\.e|u\.s|jr)|\b[A-Z])\.$", re.IGNORECASE)
#: Of an answer whose template names no number of its own.
MAX_WORDS = 100
_WORD = re.compile(r"\w+")
#: So often in a row a word, or a phrase of up to so many words, is a model in a loop: "very, very" is English.
_LOOP_OF_WORDS, _LOOP_OF_PHRASES, _LONGEST_PHRASE = 4, 3, 12


class InvalidCaption(Exception):
    """An answer that is not usable as a caption; the text is the reason."""


def usable_caption(
    answer: str, *, cut: bool = False, max_words: int = MAX_WORDS, language: str | None = None, asked: bool = True
) -> str:
    """The caption in a captioner's answer, on one line.

    ``cut``: the answer stopped at the token limit, and what follows its last whole sentence is left out. Whole
    sentences beyond ``max_words`` are left out too, and so is everything from where a model repeats itself or begins to
    talk to its reader. ``language``: that of the caption (ISO 639-1); None: any. ``asked``: False of models that were
    asked nothing, whose text is a caption whatever its form.

    Raises InvalidCaption on refusals, JSON, lists, chat markup, another language, and where no sentence is left.
    """
    text = _prose(answer) if asked else " ".join(answer.split())
    if not _WORD.search(text):
        raise InvalidCaption("an answer without words" if text else "an empty answer")
    if asked and language and (found := detect_language(text)) not in (None, language):
        raise InvalidCaption(f"in another language ({found})")
    kept = _whole(list(sentences(text)), cut)
    if asked:
        kept = _about_the_picture(kept)
    kept = _unrepeated(kept)
    caption = "".join(_within(kept, max_words)).strip()
    if asked:
        _check_form(caption)
    return caption


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text on one line, with their end marks and the space before; the last may have no mark."""
    start = 0
    for mark in _END.finditer(text):
        if _ABBREVIATION.search(text, max(start, mark.end() - 8), mark.end()):
            continue
        yield text[start : mark.end()]
        start = mark.end()
    if text[start:].strip():
        yield text[start:]


def _prose(answer: str) -> str:
    """An answer's sentences on one line: without label, emphasis and headings, out of an object of one text."""
    text = _FENCE.sub("", answer.strip())
    if _JSON.match(text):
        text = _of_object(text)
    if mark := _CHAT_MARK.search(text):
        raise InvalidCaption(f"chat markup ({mark.group()[:20].strip()})")
    lines = [line.strip() for line in text.replace("**", "").replace("`", "").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if sum(bool(_ITEM.match(line)) for line in lines) > 1:
        raise InvalidCaption("a list, no sentences")
    text = _LABEL.sub("", " ".join(" ".join(lines).split()), count=1)
    if len(text) > 1 and (text[0], text[-1]) in {('"', '"'), ("“", "”"), ("'", "'")} and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return text


def _of_object(text: str) -> str:
    """The text of an object that holds one caption and nothing else; with more it is not known which is meant."""
    try:
        value = untrusted_json.parse(text)
    except ValueError:
        value = None
    if isinstance(value, dict) and len(value) == 1:
        ((key, caption),) = value.items()
        if str(key).lower() in _KEYS and isinstance(caption, str):
            return caption
    raise InvalidCaption("JSON where a sentence was asked")


def _whole(found: list[str], cut: bool) -> list[str]:
    if not cut or _END.search(found[-1]):
        return found
    if len(found) == 1:
        raise InvalidCaption("broken off at max_new_tokens")
    return found[:-1]


def _about_the_picture(found: list[str]) -> list[str]:
    """The sentences before the first one that refuses or addresses the reader."""
    for at, sentence in enumerate(found):
        own = _QUOTED.sub("", sentence).strip()  # what a sign in the picture says is not said by the model
        if _REFUSAL.search(own) or _CHATTER.search(own):
            if at == 0:
                raise InvalidCaption("a refusal" if _REFUSAL.search(own) else "it speaks to its reader")
            return found[:at]
    return found


def _unrepeated(found: list[str]) -> list[str]:
    """The sentences before the first that was there already, or in which words or phrases go round."""
    before: set[str] = set()
    for at, sentence in enumerate(found):
        words = _WORD.findall(sentence.lower())
        if " ".join(words) in before or _loops(words):
            if at == 0:
                raise InvalidCaption("it repeats itself")
            return found[:at]
        before.add(" ".join(words))
    return found


def _loops(words: Sequence[str]) -> bool:
    for period in range(1, _LONGEST_PHRASE + 1):
        least = period * ((_LOOP_OF_WORDS if period == 1 else _LOOP_OF_PHRASES) - 1)
        run = 0
        for word, earlier in zip(words[period:], words, strict=False):
            run = run + 1 if word == earlier else 0
            if run >= least:
                return True
    return False


def _within(found: list[str], max_words: int) -> list[str]:
    total, kept = 0, list[str]()
    for sentence in found:
        total += len(sentence.split())
        if total > max_words:
            break
        kept.append(sentence)
    if not kept:
        raise InvalidCaption(f"more than {max_words} words")
    return kept


def _check_form(caption: str) -> None:
    words = caption.split()
    if len(words) < 3 and not re.search(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]", caption):
        raise InvalidCaption("fewer than three words")  # of scripts that write spaces
    if caption.count(",") > len(words) / 3:
        raise InvalidCaption("keywords, no sentence")
