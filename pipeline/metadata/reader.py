"""Reader of the prompt, parameters, models and LoRAs that a generation tool wrote into an image file."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image
from sd_parsers.parsers import FooocusParser, InvokeAIParser, NovelAIParser

from surd.pipeline import untrusted_json
from surd.pipeline.metadata import comfyui, novelai
from surd.pipeline.metadata.a1111 import parse_a1111
from surd.pipeline.metadata.comfyui import api_graph, is_graph, is_workflow
from surd.pipeline.metadata.descriptions import parse_description
from surd.pipeline.metadata.resources import models_and_loras
from surd.pipeline.metadata.stealth import read_stealth
from surd.pipeline.metadata.texts import CAPTIONS, MAX_TEXT, decode_text, texts_of
from surd.pipeline.untrusted_json import to_text, without_controls

_PROMPT_KEYS = ("prompt", "positive_prompt", "PositivePrompt", "positivePrompt", "Prompt")
_NEGATIVE_KEYS = ("negative_prompt", "negativeprompt", "negativePrompt", "NegativePrompt", "Negative Prompt", "uc")
# sd-parsers' own manager is not used: it keeps the last image's text in a global by id(), which threads would mix up.
_LIBRARY = (FooocusParser(), InvokeAIParser(), NovelAIParser())
#: Parameters that only one successor of the A1111 web UI writes -> its name, where it does not give it as "App".
_TOOL_KEYS = {"Civitai resources": "Civitai", "Pipeline": "SD.Next"}
_HASH = re.compile(r" [0-9A-F]{8}\Z")

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class GenerationMetadata:
    """How a picture was generated, by its file. ``prompt`` is None if the file has only parameters.

    ``reason``: why there is no prompt though the file tells how the picture was made.
    """

    prompt: str | None
    negative_prompt: str | None = None
    reason: str | None = None
    tool: str
    params: dict[str, Any] = field(default_factory=dict)
    models: list[str] = field(default_factory=list)
    loras: list[str] = field(default_factory=list)


def read_metadata(data: bytes, picture: Image.Image | None = None) -> GenerationMetadata | None:
    """The generation metadata of a PNG, JPEG or WebP file, or None if it has none. Never raises.

    Reads A1111 text (of many tools), ComfyUI graphs, SwarmUI, Fooocus, InvokeAI, NovelAI, Easy Diffusion, Draw
    Things, Midjourney, Mochi Diffusion and plain JSON, from PNG text chunks at any position, EXIF, XMP, IPTC and
    comments. Of several kinds in one file, the first with a prompt counts. Decodes no pixel; given the decoded
    ``picture``, text hidden in its lowest bits is read too where the rest has no prompt.
    """
    metadata = read_texts(texts_of(data))
    if picture is not None and not (metadata and metadata.prompt):
        metadata = read_texts(hidden_texts(picture)) or metadata
    return metadata


def read_texts(texts: dict[str, str]) -> GenerationMetadata | None:
    """As ``read_metadata``, from the texts of a file. Takes up to 70 bytes of memory per letter."""
    return _first(_candidates(texts))


def hidden_texts(picture: Image.Image) -> dict[str, str]:
    """The text hidden in the lowest bits of a decoded picture, if any, under a name."""
    hidden = read_stealth(picture, MAX_TEXT)
    return {"parameters": decode_text(hidden)} if hidden else {}


def _first(readings: Iterator[GenerationMetadata]) -> GenerationMetadata | None:
    first: GenerationMetadata | None = None
    for reading in readings:
        first = replace(first, reason=first.reason or reading.reason) if first else reading
        if reading.prompt:
            first = reading
            break
    if first is None:
        return None
    models, loras = models_and_loras(first.params, first.prompt)
    prompt, negative = (without_controls(text or "") or None for text in (first.prompt, first.negative_prompt))
    return replace(first, prompt=prompt, negative_prompt=negative, models=models, loras=loras)


def _candidates(texts: dict[str, str]) -> Iterator[GenerationMetadata]:
    """Every reading of a file's texts, the most specific first."""
    yield from _from_library(texts)
    documents: dict[str, dict[str, Any]] = {}
    for name, text in texts.items():
        label, brace, rest = text.partition("{")
        document = _object(brace + rest) if label.strip().lower() in ("", "prompt:", "workflow:") else None
        if document is not None:
            documents[name] = document
        elif reading := _from_description(text):
            yield reading
        elif name in CAPTIONS:
            continue  # of Draw Things, say, whose own fields tell more
        elif reading := _from_a1111(text, expected=name == "parameters"):
            yield reading
        elif name == "parameters" and text.strip():
            yield GenerationMetadata(prompt=text.strip(), tool="unknown")
    drawn = next((document for document in documents.values() if is_workflow(document)), None)
    executed = any(map(is_graph, documents.values()))
    for name in sorted(documents, key=lambda name: (is_workflow(documents[name]), name != "parameters")):
        if not (executed and is_workflow(documents[name])):  # what was executed outranks what was drawn
            yield from _from_document(name, documents[name], drawn)
    yield from _from_fields({name: text for name, text in texts.items() if name not in documents})


def _from_a1111(text: str, *, expected: bool) -> GenerationMetadata | None:
    infotext = parse_a1111(text, expected=expected)
    if infotext is None:
        return None
    default_tool = next((tool for key, tool in _TOOL_KEYS.items() if key in infotext.params), "AUTOMATIC1111")
    prompt, negative = (  # ComfyUI's Image Saver writes "unknown" if it sees no prompt
        text if text != "unknown" else None for text in (infotext.prompt, infotext.negative_prompt)
    )
    return GenerationMetadata(
        prompt=prompt,
        negative_prompt=negative,
        tool=_word(infotext.params, "App") or default_tool,
        params=infotext.params,
    )


def _from_description(text: str) -> GenerationMetadata | None:
    description = parse_description(text)
    return GenerationMetadata(**vars(description)) if description else None


def _from_document(
    name: str, document: dict[str, Any], drawn: dict[str, Any] | None = None
) -> Iterator[GenerationMetadata]:
    """A JSON object in a text; the text's name may identify the tool. ``drawn``: the workflow beside a graph."""
    tool = {"invokeai_metadata": "InvokeAI", "XMP": "Draw Things"}.get(name)
    if name == "XMP" and isinstance(document.get("c"), str):
        document = {"prompt" if key == "c" else key: value for key, value in document.items()}
    for reading in _from_json(document, drawn):
        yield replace(reading, tool=tool or reading.tool)


def _from_json(document: dict[str, Any], drawn: dict[str, Any] | None = None) -> Iterator[GenerationMetadata]:
    """A JSON object: a ComfyUI graph, an object holding one, or one with the prompt under a usual name."""
    if is_workflow(document):
        document = api_graph(document)
    if comfyui.is_graph(document):
        if graph := comfyui.read_graph(document, drawn):
            yield GenerationMetadata(
                prompt=graph.prompt,
                negative_prompt=graph.negative_prompt,
                reason=graph.reason,
                tool="ComfyUI",
                params=graph.params,
            )
        return
    for name, tool in (("sui_image_params", "SwarmUI"), ("Comment", "NovelAI"), ("prompt", "ComfyUI")):
        inner = document.get(name)
        if isinstance(inner, str) and inner.lstrip().startswith("{"):
            inner = _object(inner)
        if isinstance(inner, dict):
            source = _word(document, "Source") if tool == "NovelAI" else None
            model = {"model": _HASH.sub("", source)} if source else {}
            for reading in _from_json(inner):
                yield reading if name == "prompt" else replace(reading, tool=tool, params=model | reading.params)
    prompt = next((text for key in _PROMPT_KEYS if (text := _prose(document.get(key)))), None)
    prompt = novelai.captions(document, "v4_prompt", prompt)
    if prompt:
        negative = next((text for key in _NEGATIVE_KEYS if (text := _text(document.get(key)))), None)
        negative = novelai.captions(document, "v4_negative_prompt", negative)
        params = {key: value for key, value in document.items() if key not in _PROMPT_KEYS + _NEGATIVE_KEYS}
        unnamed = "NovelAI" if novelai.is_novelai(document) else "unknown"
        tool = _word(document, "software", "app", "version") or unnamed
        yield GenerationMetadata(prompt=prompt, negative_prompt=negative, tool=tool, params=params)


def _from_fields(texts: dict[str, str]) -> Iterator[GenerationMetadata]:
    """Easy Diffusion and diffusers scripts, which write every parameter as its own text."""
    if any(name in texts for name in _PROMPT_KEYS):
        tool = "Easy Diffusion" if any("stable_diffusion_model" in name for name in texts) else "unknown"
        for reading in _from_json(dict(texts)):
            yield replace(reading, tool=tool)


def _from_library(texts: dict[str, str]) -> Iterator[GenerationMetadata]:
    """What sd-parsers reads correctly: Fooocus, InvokeAI of its first two eras, NovelAI's PNG chunks."""
    texts = {name: text for name, text in texts.items() if name != "invokeai_metadata"}  # of which it loses the models
    for parser in _LIBRARY:
        try:
            info = parser.parse(texts)
            prompt, negative = (", ".join(str(p) for p in prompts) for prompts in (info.prompts, info.negative_prompts))
            params = dict(info.metadata)
            for sampler in info.samplers:
                model = {"model": sampler.model.name, "model_hash": sampler.model.hash} if sampler.model else {}
                params |= {"sampler": sampler.name, **model, **sampler.parameters}
            params = untrusted_json.parse(untrusted_json.dump(params))
        except Exception as error:  # a third-party parser of hostile text: any exception means that it read nothing
            log.debug("%s: %r", type(parser).__name__, error)
            continue
        comment = novelai.comment_of(texts)  # whose captions of characters it does not read
        yield GenerationMetadata(
            prompt=novelai.captions(comment, "v4_prompt", to_text(prompt.strip()) or None),
            negative_prompt=novelai.captions(comment, "v4_negative_prompt", to_text(negative.strip()) or None),
            tool=parser.generator.value,
            params={key: value for key, value in params.items() if value is not None},
        )


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = untrusted_json.parse(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _word(params: dict[str, Any], *names: str) -> str | None:
    """The first of some fields that is text, cut to the length of a name."""
    return next((text[:100] for name in names if (text := _text(params.get(name)))), None)


def _prose(value: Any) -> str | None:
    """The text of a prompt; None if it is a JSON object, as a graph is not a prompt."""
    text = _text(value)
    return None if text and text.startswith("{") and _object(text) is not None else text


def _text(value: Any) -> str | None:
    """A prompt under a JSON key: a string, or a list of strings."""
    if isinstance(value, list):
        value = ", ".join(part for part in value if isinstance(part, str))
    return to_text(value.strip()) or None if isinstance(value, str) else None
