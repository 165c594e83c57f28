"""Text cleaning of scraped prompts: plain characters, separation from infotext, tidy keywords."""

from __future__ import annotations

import html
import re
import unicodedata

from surd.pipeline.metadata.parameters import find_parameters

#: Letters of a scraped prompt that are read; the longest of 17,000 real ones has 28,000.
MAX_PROMPT = 50_000
# Emoticon tags of Danbooru: the only place where underscores, colons and angle brackets are words.
_FACES = (
    "<o>_<o>", "<|>_<|>", "(o)_(o)", "||_||", "|_|", ">_<", ">_>", "<_<", ">_o", "o_<", ">o<", "^_^", "^o^", "^^^",
    "@_@", "=_=", "+_+", "+_-", "-_-", "._.", "o_o", "o_O", "O_O", "0_0", "3_3", "6_9", "u_u", "x_x", "X_X", "T_T",
    ";_;", "~_~", "$_$", "n_n", ">:)", ">:(", ">:d", ":)", ":(", ":d", ":D", ":p", ":P", ":o", ":q", ":t", ":x", ":>",
    ":<", ":c", ":/", ":|", ":3", ";)", ";(", ";d", ";D", ";p", ";P", ";q", ";o", "d:", "D:", "<3", "\\m/", "\\o/",
    "\\||/",
)  # fmt: skip
FACES = frozenset(_FACES)
# Only at the end of a keyword. `:3` before a closing bracket is a weight.
EMOTICON = (
    r"(?=[<>(|^@=+\-._0-9oOuUxXTn;~$:dD\\])(?<![^\s,;|(\[{])(?:"
    + "|".join(re.escape(face) for face in sorted(_FACES, key=len, reverse=True))
    + r")(?=\s*(?:[,;\n]|\Z|(?<!:3)[)\]}|]|:\s*[0-9.]))"
)
_INVISIBLE = re.compile(
    "[\u00ad\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
# Joiners combine emoji and shape Persian and Indic letters; elsewhere they are invisible.
_JOINER = re.compile(
    "[\u200c\u200d](?:(?<![^\\x00-\u024f\\s\u200c\u200d][\u200c\u200d])|(?![^\\x00-\u024f\\s\u200c\u200d]))"
)
_WIDE = str.maketrans("（）［］｛｝：\u2028\u2029", "()[]{}:\n\n")
_AMPERSANDS = re.compile(r"&(?:amp;|#38;|#x26;)+", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,30});", re.IGNORECASE)
_ESCAPE_OR_ENTITY = re.compile(rf"\\.|{_ENTITY.pattern}", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"</?[a-zA-Z!][^<>]*>")
_TAG_BEGINNING = re.compile(r"<(?=[a-zA-Z/!|])")
_MARKDOWN = re.compile(r"(?<!\\)(?:\*\*+|`+|^[ \t]*#{1,6}[ \t]+)", re.MULTILINE)
# What models with an LLM as text encoder (Lumina 2, NetaYume) were trained to expect before every prompt.
_PREAMBLE = re.compile(r"\s*You are an assistant\b[^<]{0,300}<Prompt Start>\s*", re.IGNORECASE)
_LABEL = re.compile(r"\s*(?:positive[ _])?prompts?\s*:(?!:)\s*", re.IGNORECASE)
_COLON = r":(?!\s?[0-9.]+\s?\))\s*"  # not one that begins an attention weight
_NEGATIVE = re.compile(rf"(?<![\w\\])negative[ _]?prompts?\s?{_COLON}", re.IGNORECASE)
_TRAILING_WEIGHT = re.compile(r"(?:\s*:\s*[0-9]*\.[0-9]+|\s+:\s*[0-9]+)+\Z")
_MOST_INFOTEXTS = 3  # in one scraped text
_TRAILING_WEIGHT_LENGTH = 40
_STRAY = " .:_\u3000"
_MARK_RUN = re.compile("[^\x00-\u02ff]{31}")
_MOST_MARKS = 30  # in a row, as in Unicode's stream-safe text (UAX 15); a run of n is ordered in n^2 steps
_SIMPLE = re.compile(r"[A-Za-z0-9 '-]*")
_UNDERSCORE = re.compile(r"(?<=\w)_+(?=\w)|(?<!\S)_+(?=\w)|(?<=\w)_+(?!\S)")


def without_preamble(text: str) -> str:
    """A prompt without the fixed preamble for its model's text encoder."""
    match = _PREAMBLE.match(text)
    return text[match.end() :] if match else text


def plain_text(text: str) -> str:
    """Decoded text with brackets and colons of one width and without Markdown."""
    return _MARKDOWN.sub("", normalized(text).translate(_WIDE))


def normalized(text: str) -> str:
    """Composed characters (NFC), entities decoded, invisible characters removed. In linear time."""
    text = _composed(text)
    if "&" in text:
        text = _AMPERSANDS.sub("&", text)
        text = _ESCAPE_OR_ENTITY.sub(lambda m: m.group() if m.group()[0] == "\\" else html.unescape(m.group()), text)
        text = _composed(text)
    return text


def _composed(text: str) -> str:
    text = _JOINER.sub("", _INVISIBLE.sub("", text))
    return unicodedata.normalize("NFC", _without_towers(text) if _MARK_RUN.search(text) else text)


def _without_towers(text: str) -> str:
    """A text without the combining marks beyond thirty over one letter."""
    kept: list[str] = []
    run = 0
    for char in text:
        run = run + 1 if unicodedata.combining(char) else 0
        if run <= _MOST_MARKS:
            kept.append(char)
    return "".join(kept)


def split_infotext(text: str) -> tuple[str, str]:
    """Positive and negative part of a text that may contain "Negative prompt:" and generation parameters."""
    for _ in range(_MOST_INFOTEXTS):
        if not (parameters := find_parameters(text, least=1)):
            break
        text = text[: parameters.start]
    if label := _LABEL.match(text):
        text = text[label.end() :]
    positive, *negatives = _NEGATIVE.split(text)
    return positive, "\n".join(negatives)


def tidy(text: str) -> str:
    """One keyword: printable, single spaces, no markup, tags in words (``long_hair``), no stray punctuation around."""
    if _SIMPLE.fullmatch(text):  # most are: only their spaces can change
        return " ".join(text.split())
    if text.strip() in FACES:
        return text.strip()
    text = _TAG_BEGINNING.sub(" ", _TAG.sub(" ", _ENTITY.sub(" ", _JOINER.sub("", text))))
    text = "".join(char if char.isprintable() or char in "\u200c\u200d" else " " for char in text)
    words = " ".join(word if word in FACES else _UNDERSCORE.sub(" ", word) for word in text.split())
    words = " ".join(words.split())
    return words if words in FACES else _without_stray_end(_without_stray_end(words).lstrip(_STRAY))


def _without_stray_end(words: str) -> str:
    """Words without weights and punctuation at their end, taken off by an index: each copy would cost the length."""
    end = len(words)
    while end:
        tail = words[max(0, end - _TRAILING_WEIGHT_LENGTH) : end]
        if end == len(tail) and tail in FACES:
            break
        shorter = _TRAILING_WEIGHT.sub("", tail).rstrip(_STRAY)
        if shorter == tail:
            break
        end -= len(tail) - len(shorter)
    return words[:end]
