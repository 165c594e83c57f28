"""Text cleaning of scraped prompts: plain characters, separation from infotext, tidy keywords."""

from __future__ import annotations

import html
import re
import unicodedata

from surd.pipeline.metadata.parameters import find_parameters

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
    """Composed characters (NFC), entities decoded, invisible characters removed."""
    text = unicodedata.normalize("NFC", _JOINER.sub("", _INVISIBLE.sub("", text)))
    if "&" in text:
        text = _AMPERSANDS.sub("&", text)
        text = _ESCAPE_OR_ENTITY.sub(lambda m: m.group() if m.group()[0] == "\\" else html.unescape(m.group()), text)
        text = unicodedata.normalize("NFC", _JOINER.sub("", _INVISIBLE.sub("", text)))
    return text


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
    while words not in FACES:
        stripped = (words[:-40] + _TRAILING_WEIGHT.sub("", words[-40:])).strip(" .:_\u3000")
        if stripped == words:
            break
        words = stripped
    return words
