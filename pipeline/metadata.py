"""Turns an image file's own bytes into the prompt and parameters that its tool wrote there."""

from __future__ import annotations

import io
import logging
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image
from sd_parsers.parsers import FooocusParser, InvokeAIParser, NovelAIParser

from pipeline import comfyui, foreign_json
from pipeline.foreign_json import text_of

MAX_TEXT = 8_000_000  # bytes of one text chunk after decompression; the longest real workflow seen is under 1 MB
_PNG = b"\x89PNG\r\n\x1a\n"
_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286
_EXIF_NAMES = {
    0x010E: "ImageDescription",
    0x010F: "Make",
    0x0110: "Model",
    0x0131: "Software",
    _USER_COMMENT: "UserComment",
}
_STEPS = re.compile(r"^[ \t]*Steps:[ \t]*\d+.*$", re.MULTILINE)
_NEGATIVE = re.compile(r"^[ \t]*Negative prompt:[ \t]*", re.MULTILINE)
_PARAM = re.compile(r"\s*([A-Za-z][\w \-/.]{0,60}?):\s*")
_PROMPT_KEYS = ("prompt", "positive_prompt", "PositivePrompt", "positivePrompt", "Prompt")
_NEGATIVE_KEYS = ("negative_prompt", "negativeprompt", "negativePrompt", "NegativePrompt", "uc")
# sd-parsers' own manager is left aside: it keeps the last image's text in a global by id(), which threads would mix up.
_LIBRARY = (FooocusParser(), InvokeAIParser(), NovelAIParser())

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class GenerationMetadata:
    """What a file says about its making. ``prompt`` is None where only parameters were found."""

    prompt: str | None
    negative_prompt: str | None = None
    tool: str
    params: dict[str, Any] = field(default_factory=dict)


def read_metadata(data: bytes) -> GenerationMetadata | None:
    """The generation metadata of a PNG, JPEG or WebP file, or None when it carries none. Never raises.

    Reads A1111 text (and its many heirs), ComfyUI graphs, SwarmUI, Fooocus, InvokeAI, NovelAI and plain JSON, from PNG
    text chunks wherever they stand, EXIF and comments. Of several kinds in one file, the first with a prompt counts.
    Decodes no pixel.
    """
    texts = _texts(data)
    first: GenerationMetadata | None = None
    for found in _candidates(texts):
        if found.prompt:
            return found
        first = first or found
    return first


def parse_a1111(text: str) -> GenerationMetadata | None:
    """The text block of the A1111 web UI: prompt lines, ``Negative prompt:`` lines, one ``Steps: ...`` line.

    None when the text has neither of the latter two.
    """
    text = text.replace("\r\n", "\n")
    steps = [*_STEPS.finditer(text)]
    body = text[: steps[-1].start()] if steps else text
    prompt, *negatives = _NEGATIVE.split(body, maxsplit=1)
    if not steps and not negatives:
        return None
    params = _a1111_params(steps[-1].group()) if steps else {}
    return GenerationMetadata(
        prompt=prompt.strip() or None,
        negative_prompt=negatives[0].strip() or None if negatives else None,
        tool=_tool(params, "App") or ("Civitai" if "Civitai resources" in params else "AUTOMATIC1111"),
        params=params,
    )


def _candidates(texts: dict[str, str]) -> Iterator[GenerationMetadata]:
    """Every reading of a file's texts, the most telling first."""
    yield from _from_library(texts)
    documents: dict[str, dict[str, Any]] = {}
    for name, text in texts.items():
        label, brace, rest = text.partition("{")
        document = _object(brace + rest) if label.strip().lower() in ("", "prompt:", "workflow:") else None
        if document is not None:
            documents[name] = document
        elif found := parse_a1111(text):
            yield found
        elif name == "parameters" and text.strip():
            yield GenerationMetadata(prompt=text.strip(), tool="unknown")
    for name in sorted(documents, key=lambda name: name != "parameters"):
        yield from _from_json(documents[name])


def _from_json(document: dict[str, Any]) -> Iterator[GenerationMetadata]:
    """A JSON object: a ComfyUI graph, an object holding one, or one with the prompt under a usual name."""
    if comfyui.is_graph(document):
        if graph := comfyui.read_graph(document):
            yield GenerationMetadata(
                prompt=graph.prompt, negative_prompt=graph.negative_prompt, tool="ComfyUI", params=graph.params
            )
        return
    for name, tool in (("sui_image_params", "SwarmUI"), ("Comment", "NovelAI"), ("prompt", "ComfyUI")):
        inner = document.get(name)
        if name == "Comment" and isinstance(inner, str):
            inner = _object(inner)
        if isinstance(inner, dict):
            for found in _from_json(inner):
                yield found if name == "prompt" else replace(found, tool=tool)
    prompt = next((text for key in _PROMPT_KEYS if (text := _text(document.get(key)))), None)
    if prompt:
        negative = next((text for key in _NEGATIVE_KEYS if (text := _text(document.get(key)))), None)
        params = {key: value for key, value in document.items() if key not in _PROMPT_KEYS + _NEGATIVE_KEYS}
        tool = _tool(document, "software", "app", "version") or "unknown"
        yield GenerationMetadata(prompt=prompt, negative_prompt=negative, tool=tool, params=params)


def _from_library(texts: dict[str, str]) -> Iterator[GenerationMetadata]:
    """What sd-parsers reads right: Fooocus, InvokeAI in its three eras, NovelAI's PNG chunks."""
    for parser in _LIBRARY:
        try:
            info = parser.parse(dict(texts))
            prompt, negative = (", ".join(str(p) for p in prompts) for prompts in (info.prompts, info.negative_prompts))
            params = {key: value for sampler in info.samplers for key, value in sampler.parameters.items()}
        except Exception as error:  # a parser of hostile text, not ours: whatever it raises means that it read nothing
            log.debug("%s: %r", type(parser).__name__, error)
            continue
        params = foreign_json.parse(foreign_json.dump(params))
        yield GenerationMetadata(
            prompt=text_of(prompt.strip()) or None,
            negative_prompt=text_of(negative.strip()) or None,
            tool=parser.generator.value,
            params=params,
        )


def _texts(data: bytes) -> dict[str, str]:
    """Every named text of a file: PNG chunks under their keyword, EXIF fields and comments under theirs."""
    texts = dict(_png_texts(data)) if data.startswith(_PNG) else {}
    try:
        fields, comment = _exif_fields(data)
    except Exception as error:  # Pillow on hostile bytes raises all sorts; the pixels are verified elsewhere
        log.debug("no EXIF: %r", error)
        return texts
    for tag, name in _EXIF_NAMES.items():
        if (text := _exif_text(fields.get(tag))) is not None:
            texts.setdefault(name, text)
    if isinstance(comment, bytes):
        texts.setdefault("comment", _decode(comment))
    return texts


def _exif_fields(data: bytes) -> tuple[dict[int, Any], Any]:
    """EXIF fields by tag, and a JPEG's comment. A PNG's EXIF chunk is read here: Pillow would decode the pixels."""
    if data.startswith(_PNG):
        exif, comment = Image.Exif(), None
        exif.load(next((b"Exif\0\0" + body for kind, body in _png_chunks(data) if kind == b"eXIf"), b""))
    else:
        with Image.open(io.BytesIO(data), formats=("JPEG", "WEBP")) as image:
            exif, comment = image.getexif(), image.info.get("comment")
    return {**exif, **exif.get_ifd(_EXIF_IFD)}, comment


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and body of every chunk but the pixels, as far as the lengths make sense."""
    position = len(_PNG)
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        kind, start = data[position + 4 : position + 8], position + 8
        if kind != b"IDAT":
            yield kind, data[start : start + length]
        position = start + length + 4


def _png_texts(data: bytes) -> Iterator[tuple[str, str]]:
    """Keyword and text of each tEXt, zTXt and iTXt chunk, before or after the pixels; broken ones are left out."""
    for kind, body in _png_chunks(data):
        keyword, _, rest = body.partition(b"\0")
        compressed = kind == b"zTXt" or (kind == b"iTXt" and rest[:1] == b"\1")
        if kind == b"zTXt":
            rest = rest[1:]
        elif kind == b"iTXt":
            rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
        elif kind != b"tEXt":
            continue
        try:
            text = zlib.decompressobj().decompress(rest, MAX_TEXT) if compressed else rest[:MAX_TEXT]
        except zlib.error:
            continue
        yield _decode(keyword), _decode(text)


def _exif_text(value: Any) -> str | None:
    """An EXIF text: Pillow gives ASCII fields as latin-1 strings, UserComment as bytes with an encoding prefix."""
    if isinstance(value, str):
        return _decode(value.encode("latin-1", "replace"))
    if not isinstance(value, bytes):
        return None
    prefix, body = value[:8], value[8:]
    if prefix == b"UNICODE\0":
        # The byte order is the file's, the writer's or neither's: the reading with more plain letters is the right one.
        both = [body.decode(encoding, "replace") for encoding in ("utf-16-be", "utf-16-le")]
        return text_of(max(both, key=lambda text: sum(char.isascii() and char != "\0" for char in text)))
    return _decode(body if prefix in (b"ASCII\0\0\0", b"JIS\0\0\0\0\0", b"\0" * 8) else value)


def _decode(data: bytes) -> str:
    """PNG and EXIF promise latin-1 or ASCII, yet most tools write UTF-8."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return text.replace("\0", "").removeprefix("\ufeff")


def _a1111_params(line: str) -> dict[str, Any]:
    """``Steps: 20, Sampler: Euler a, Hashes: {...}`` as a dict; values that are JSON are read as such."""
    params: dict[str, Any] = {}
    position = 0
    while match := _PARAM.match(line, position):
        position = match.end()
        value, position = _a1111_value(line, position)
        params[match.group(1).strip()] = value
    return params


def _a1111_value(line: str, start: int) -> tuple[Any, int]:
    """One value, and where the next name begins."""
    if line[start : start + 1] in ('"', "{", "["):
        for end in (
            *(match.start() for match in re.finditer(r",\s*[A-Za-z][\w \-/.]*:", line[start:])),
            len(line) - start,
        ):
            try:
                return foreign_json.parse(line[start : start + end]), start + end + 1
            except ValueError:
                continue
    end = line.find(",", start)
    end = len(line) if end < 0 else end
    return line[start:end].strip(), end + 1


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = foreign_json.parse(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _tool(params: dict[str, Any], *names: str) -> str | None:
    """The first of some fields that is a word, cut to a name's length."""
    return next((text[:100] for name in names if (text := _text(params.get(name)))), None)


def _text(value: Any) -> str | None:
    """A prompt under a JSON key: a string, or a list of strings."""
    if isinstance(value, list):
        value = ", ".join(part for part in value if isinstance(part, str))
    return text_of(value.strip()) or None if isinstance(value, str) else None
