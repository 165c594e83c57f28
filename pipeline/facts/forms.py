"""How a text is cut before it is parsed: sentences, the tags of a keyword prompt, quoted words, markup."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from surd.pipeline.facts.vocabulary import vocabulary
from surd.pipeline.prompts.words import prompt_words

PartKind = Literal["parse", "style", "quality", "markup"]

# Characters that no word holds: controls and joints of tags. Each becomes one space, so that no place moves.
_BLANKS = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0), 0x200B, 0x2028, 0x2029, 0xFEFF), " ")
_UNDERSCORE = re.compile(r"(?<=[^\W_])_(?=[^\W_])")
_QUOTED = re.compile(
    r'"([^"\n]{1,300})"|“([^”\n]{1,300})”|‘([^’\n]{1,300})’|(?<!\w)\'((?:[^\'\n]|(?<=\w)\'(?=\w)){1,300})\'(?!\w)'
)
_MARKUP = re.compile(
    r"<[a-zA-Z]+:[^<>\n]{1,80}>|:\d+(?:\.\d+)?(?=[\s)\],]|$)|--\w+(?:\s\d[\d:.]*)?|[(){}\[\]|]+|\b\d{1,2}\s?k\b"
)
_GLUED = re.compile(r"(\d{1,3})([a-z]{3,})")
_TIMES = re.compile(r"\s[xX×]\s?(\d{1,3})$")
_NOT_COUNTED = frozenset(("bit", "bits", "px", "fps", "rd", "nd", "th", "st", "dpi"))  # 8bit, 1st
# Whose picture it is: "a matte painting by marc simonetti", "drawn by quentin blake".
_MAKER = re.compile(
    r"\s((?:(?:art|artwork|drawn|painted|created|made|designed|directed|written|photographed|illustrated)\s)?by\s"
    r"(?!the\b|an?\b|h[ei][rs]\b|its\b|their\b|some\b|night\b|day\b|one\b|two\b|each\b)[^\W\d].*)$",
    re.IGNORECASE | re.DOTALL,
)
_CUT = re.compile(r"[,;\n|]|(?<=\s)[-–—](?=\s)|[.!?:](?=\s|$)")
_FUNCTION = frozenset(
    ("the", "a", "an", "is", "are", "was", "were", "has", "have", "had", "and", "or", "that", "which", "while", "who",
     "his", "her", "its", "their", "there", "we", "it")
)  # fmt: skip
_CLAUSE = frozenset(
    (
        "and",
        "or",
        "while",
        "who",
        "which",
        "that",
        "as",
        "but",
        "with",
        "where",
        "when",
        "is",
        "are",
        "has",
        "was",
        "were",
    )
)


@dataclass(frozen=True)
class TextPart:
    """The characters of a part of the text, and how it is to be read. ``apart``: the parser must not join it to what
    stands before. ``count``: the characters of a number behind the tag, as in "apple x3"."""

    start: int
    end: int
    kind: PartKind = "parse"
    apart: bool = True
    count: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Form:
    """A text as it goes to the parser. ``plain`` is as long as the text, character for character."""

    plain: str
    tags: bool
    parts: list[TextPart]
    quotes: list[tuple[int, int]] = field(default_factory=list)


def form_of(text: str) -> Form:
    """Decide whether a text is sentences or a list of tags, and where its parts begin."""
    plain = _UNDERSCORE.sub(" ", text.translate(_BLANKS))
    quotes = [match.span() for match in _QUOTED.finditer(plain) if _is_wording(match)]
    parts = list(_parts(plain, quotes))
    tags = _is_tag_list(text, plain, parts)
    texts: list[TextPart] = []
    apart = True
    for start, end, ends_sentence in parts:
        quoted = any(start < last and first < end for first, last in quotes)
        for text_part in _parts_of(plain, start, end, tags, apart, quoted):
            texts.append(text_part)
            apart = tags or text_part.kind != "parse"
        apart = apart or ends_sentence
    return Form(plain=plain, tags=tags, parts=texts, quotes=quotes)


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
    if len(parts) < 2 or 2 * sum(ends for _, _, ends in parts[:-1]) > len(parts) - 1:
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


def _parts_of(plain: str, start: int, end: int, tags: bool, apart: bool, quoted: bool) -> Iterator[TextPart]:
    """A part between separators as one, or around markup as several."""
    if quoted:
        yield TextPart(start, end, "parse", apart)
        return
    last = start
    for match in _MARKUP.finditer(plain, start, end):
        yield from _unmarked(plain, last, match.start(), tags, apart)
        yield TextPart(match.start(), match.end(), "markup")
        last, apart = match.end(), True
    yield from _unmarked(plain, last, end, tags, apart)


def _unmarked(plain: str, start: int, end: int, tags: bool, apart: bool) -> Iterator[TextPart]:
    """A part without markup: praise and style by the word lists of prompts, what stands before "by ..." and "x3"."""
    part = plain[start:end]
    if not part.strip():
        return
    if (tags or start) and len(part) <= (80 if tags else 40):
        kind = prompt_words().classify(part)
        if kind != "subject":
            yield TextPart(start, end, kind)
            return
    if tags and _is_style(part):
        yield TextPart(start, end, "style")
        return
    maker = _MAKER.search(plain, start, end) if tags or _is_picture(part) else None
    if maker is not None and plain[start : maker.start(1)].strip() and not _is_passive(plain[start : maker.start(1)]):
        yield TextPart(start, maker.start(1), "parse", apart)
        yield TextPart(maker.start(1), end, "style")
    elif tags and (times := _TIMES.search(part.rstrip())) is not None:
        cut = start + times.start()
        yield TextPart(start, cut, "parse", apart, (start + times.start(1), start + times.end(1)))
        yield TextPart(cut, end, "markup")
    else:
        yield TextPart(start, end, "parse", apart)


def _is_style(part: str) -> bool:
    """Whether all words of a tag are words of styles: "retro tv scanlines", "neon glow"."""
    lists = vocabulary()
    words = part.lower().replace("-", " ").split()
    return bool(words) and (
        words[-1] in ("art", "style")
        or (all(word in lists.styles or word in lists.mediums or word in lists.stylish for word in words)
            and not lists.styles.isdisjoint(words))
    )  # fmt: skip


def _is_passive(before: str) -> bool:
    """Whether "by" follows a verb that makes no picture: "replaced by shelves"."""
    return before.rstrip().endswith("ed")


def _is_picture(part: str) -> bool:
    """Whether a part speaks of a picture as such: "an oil painting by"."""
    return not vocabulary().mediums.isdisjoint(part.lower().split())


def make_doc(nlp: Any, form: Form) -> Any:
    """spaCy's Doc of ``form.plain``: quoted words as one token each, glued counts apart ("3apples"), and the starts of
    sentences that the parser has to keep."""
    from spacy.attrs import IDX

    marked = any(part.kind == "markup" for part in form.parts)
    if not form.quotes and not form.tags and not marked:  # most texts: several times as fast
        doc = nlp.tokenizer(form.plain)
        apart = [part.start for part in form.parts if part.apart][1:]
        if apart:
            places = doc.to_array([IDX]).tolist()
            for start in apart:
                if 0 < (i := _token_at(places, start)) < len(places):
                    doc[i].is_sent_start = True
        return doc
    return _doc_of_pieces(nlp, form)


def _doc_of_pieces(nlp: Any, form: Form) -> Any:
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
            if glued and glued.group(2) not in _NOT_COUNTED:
                words += [text[: glued.end(1)], text[glued.end(1) :]]
                spaces += [False, bool(token.whitespace_)]
            else:
                words.append(text)
                spaces.append(bool(token.whitespace_))
    places, at = [], 0
    for word, space in zip(words, spaces, strict=True):
        places.append(at)
        at += len(word) + space
    starts: list[bool | int | None] = [False if form.tags else None] * len(words)
    for part in form.parts:
        if part.apart and (i := _token_at(places, part.start)) < len(words):
            starts[i] = True
    return Doc(nlp.vocab, words=words, spaces=spaces, sent_starts=starts)


def _token_at(places: list[int], char: int) -> int:
    """The token that holds a character, or the next one if none does: ``places`` are the tokens' first characters."""
    return max(0, bisect_right(places, char) - 1)


def _pieces(form: Form) -> Iterator[tuple[str, bool]]:
    """The text in pieces that no token crosses, and whether each is one token: quoted words and markup."""
    marked = [(part.start, part.end) for part in form.parts if part.kind == "markup"]
    last = 0
    for start, end in sorted([*form.quotes, *marked]):
        if start < last:
            continue
        if start > last:
            yield form.plain[last:start], False
        yield form.plain[start:end], (start, end) in form.quotes
        last = end
    if last < len(form.plain):
        yield form.plain[last:], False
