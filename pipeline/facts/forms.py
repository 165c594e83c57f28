"""How a text is cut before it is parsed: sentences, the tags of a keyword prompt, quoted words, markup."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from surd.pipeline.prompts.words import prompt_words

SegmentKind = Literal["parse", "style", "quality", "markup"]

# Characters that no word holds: controls and joints of tags. Each becomes one space, so that no place moves.
_BLANKS = {code: " " for code in (*range(0x20), *range(0x7F, 0xA0), 0x200B, 0x2028, 0x2029, 0xFEFF)}
_UNDERSCORE = re.compile(r"(?<=[^\W_])_(?=[^\W_])")
_QUOTED = re.compile(
    r'"([^"\n]{1,300})"|“([^”\n]{1,300})”|‘([^’\n]{1,300})’|(?<!\w)\'((?:[^\'\n]|(?<=\w)\'(?=\w)){1,300})\'(?!\w)'
)
_MARKUP = re.compile(
    r"<[a-zA-Z]+:[^<>\n]{1,80}>|:\d+(?:\.\d+)?(?=[\s)\],]|$)|--\w+(?:\s\d[\d:.]*)?|[(){}\[\]|]+|\b\d{1,2}\s?k\b"
)
_GLUED = re.compile(r"(\d{1,3})([a-z]{3,})")
_TIMES = re.compile(r"\s[xX×]\s?(\d{1,3})$")
_NOT_COUNTED = ("bit", "mm", "px", "fps", "rd", "nd", "th", "st", "cm", "kg", "km", "dpi")  # 35mm, 1st
_CUT = re.compile(r"[,;\n|]|(?<=\s)[-–—](?=\s)|[.!?:](?=\s|$)")
_FUNCTION = frozenset(
    "the a an is are was were has have had with of and or that which while who on in at his her its their there to".split()
)
_CLAUSE = frozenset("and or while who which that as but with where when is are has was were".split())


@dataclass(frozen=True)
class Segment:
    """The characters of a part of the text, and how it is to be read. ``apart``: the parser must not join it to what
    stands before. ``count``: the characters of a number behind the tag, as in "apple x3"."""

    start: int
    end: int
    kind: SegmentKind = "parse"
    apart: bool = True
    count: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Form:
    """A text as it goes to the parser. ``plain`` is as long as the text, character for character."""

    plain: str
    tags: bool
    segments: list[Segment]
    quotes: list[tuple[int, int]] = field(default_factory=list)


def form_of(text: str) -> Form:
    """Decide whether a text is sentences or a list of tags, and where its parts begin."""
    plain = _UNDERSCORE.sub(" ", text.translate(_BLANKS))
    quotes = [match.span() for match in _QUOTED.finditer(plain) if _is_wording(match)]
    parts = list(_parts(plain, quotes))
    tags = _is_tag_list(text, plain, parts)
    segments: list[Segment] = []
    apart = True
    for start, end, ends_sentence in parts:
        for segment in _segments(plain, start, end, tags, apart):
            segments.append(segment)
            apart = tags or segment.kind != "parse"
        apart = apart or ends_sentence
    return Form(plain=plain, tags=tags, segments=segments, quotes=quotes)


def _is_wording(match: re.Match[str]) -> bool:
    return any(char.isalnum() for char in match.group())


def _parts(plain: str, quotes: list[tuple[int, int]]) -> Iterator[tuple[int, int, bool]]:
    """Start and end of each part between separators, and whether a sentence ends there."""
    start = 0
    for match in _CUT.finditer(plain):
        if any(first <= match.start() < last for first, last in quotes):
            continue
        if match.start() > start and plain[start : match.start()].strip():
            yield start, match.start(), match.group() in ".!?;\n"
        start = match.end()
    if plain[start:].strip():
        yield start, len(plain), True


def _is_tag_list(text: str, plain: str, parts: list[tuple[int, int, bool]]) -> bool:
    """Whether most parts are bare phrases, or the text is marked up as only prompts are."""
    if len(parts) < 2:
        return False
    bare = styles = 0
    words = prompt_words()
    for start, end, _ in parts:
        part = plain[start:end].lower().split()
        clause = len(part) > 1 and (part[0] in _CLAUSE or any(word in _FUNCTION for word in part))
        bare += not clause and len(part) <= 5
        styles += len(part) <= 6 and words.classify(plain[start:end]) != "subject"
    stop = plain.rstrip().endswith(".") and text[:1].isupper()
    share = bare / len(parts)
    return (styles >= 1 and share >= 0.5 and not stop) or (share >= 0.65 and len(parts) >= 3 and not stop)


def _segments(plain: str, start: int, end: int, tags: bool, apart: bool) -> Iterator[Segment]:
    """The part as one segment, or around markup as several."""
    part = plain[start:end]
    if (tags or start) and len(part) <= 80:
        kind = prompt_words().classify(part)
        if kind != "subject":
            yield Segment(start, end, kind)
            return
    last = start
    for match in _MARKUP.finditer(plain, start, end):
        if plain[last : match.start()].strip():
            yield Segment(last, match.start(), "parse", apart)
        yield Segment(match.start(), match.end(), "markup")
        last, apart = match.end(), True
    if plain[last:end].strip():
        times = _TIMES.search(plain[last:end].rstrip()) if tags else None
        if times is None:
            yield Segment(last, end, "parse", apart)
        else:
            cut = last + times.start()
            yield Segment(last, cut, "parse", apart, (last + times.start(1), last + times.end(1)))
            yield Segment(cut, end, "markup")


def make_doc(nlp: Any, form: Form) -> Any:
    """spaCy's Doc of ``form.plain``: quoted words as one token each, glued counts apart ("3apples"), and the starts of
    sentences that the parser has to keep."""
    from spacy.tokens import Doc

    words: list[str] = []
    spaces: list[bool] = []
    for piece, quoted in _pieces(form):
        if quoted:
            words.append(piece)
            spaces.append(False)
            continue
        if words and not spaces[-1] and piece.startswith(" "):
            spaces[-1], piece = True, piece[1:]
        for token in nlp.tokenizer(piece):
            text = token.text
            glued = _GLUED.fullmatch(text.lower()) if form.tags and text[0].isdigit() else None
            if glued and not glued.group(2).startswith(_NOT_COUNTED):
                words += [text[: glued.end(1)], text[glued.end(1) :]]
                spaces += [False, bool(token.whitespace_)]
            else:
                words.append(text)
                spaces.append(bool(token.whitespace_))
    doc = Doc(nlp.vocab, words=words, spaces=spaces)
    starts = iter(sorted(segment.start for segment in form.segments if segment.apart))
    start = next(starts, -1)
    for token in doc:
        begins = 0 <= start < token.idx + len(token)
        while 0 <= start < token.idx + len(token):
            start = next(starts, -1)
        if begins and token.i:
            token.is_sent_start = True
        elif form.tags and token.i:
            token.is_sent_start = False
    return doc


def _pieces(form: Form) -> Iterator[tuple[str, bool]]:
    """The text in pieces, and whether each is quoted."""
    last = 0
    for start, end in form.quotes:
        if start > last:
            yield form.plain[last:start], False
        yield form.plain[start:end], True
        last = end
    if last < len(form.plain):
        yield form.plain[last:], False
