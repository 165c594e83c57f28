"""Names of the models and LoRAs used, from the generation parameters of any tool and the tags in a prompt."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from surd.pipeline.untrusted_json import to_text

_MODEL = re.compile(
    r"(base|refiner|sd|ckpt|checkpoint|unet|use_stable_diffusion)?[ _]?models?([ _](name|weights))?(_filename)?"
    r"|ckpt_name|unet_name|refiner|model_filename",
    re.IGNORECASE,
)
_LORA = re.compile(r"(use[ _])?lora(s|[ _]?models?|[ _]names?|[ _]combined)?([ _]?\d{1,2})?", re.IGNORECASE)
_TAG = re.compile(r"<(?:lora|lyco|locon|loha):([^<>:]{1,200})[:>]", re.IGNORECASE)
_NAME_KEYS = ("name", "model_name", "modelName", "modelFileName", "model", "lora", "file", "filename", "label")
_ENDING = re.compile(r"\.(safetensors|sft|ckpt|pt|pth|bin|gguf)\Z", re.IGNORECASE)
_WEIGHT = re.compile(r"\s+[:-]\s+-?[\d.]+\Z")  # "name : 0.8", as Fooocus writes it
_IS_HASH = re.compile(r"[0-9A-Za-z]{4,64}")
_MOST = 100


def models_and_loras(params: dict[str, Any], prompt: str | None) -> tuple[list[str], list[str]]:
    """Names without folder and file extension, in order of appearance, each once."""
    models: list[str] = []
    loras: list[str] = []
    for key, value in params.items():
        if _MODEL.fullmatch(key):
            models += _names(value)
        elif _LORA.fullmatch(key):
            loras += _names(value)
        elif key == "Lora hashes" and isinstance(value, str):
            loras += _hashed(value)
        elif key.lower() == "hashes" and isinstance(value, dict):
            loras += [name.partition(":")[2] for name in value if name.lower().startswith("lora:")]
        elif key == "Civitai resources" and isinstance(value, list):
            models += _resources(value, "checkpoint")
            loras += _resources(value, "lora")
    return _distinct(models), _distinct([*loras, *_TAG.findall(prompt or "")])


def _hashed(value: str) -> Iterator[str]:
    """The names in ``name: hash, other: hash``. A name may have commas: it ends only where a hash follows."""
    parts: list[str] = []
    for part in value.split(","):
        before, colon, after = part.rpartition(":")
        parts.append(before if colon else part)
        if colon and _IS_HASH.fullmatch(after.strip()):
            yield ",".join(parts)
            parts = []
    yield from parts  # without hashes


def _resources(entries: list[Any], kind: str) -> Iterator[str]:
    for entry in entries:
        if isinstance(entry, dict) and str(entry.get("type", "")).lower().startswith(kind):
            yield from _names(entry)


def _names(value: Any, depth: int = 0) -> Iterator[str]:
    """The names in a string, in an object under a usual key, or in a list of names, objects or pairs."""
    match value:
        case str():
            yield value
        case dict():
            key = next((key for key in _NAME_KEYS if isinstance(value.get(key), str | dict)), None)
            if key and depth < 3:
                yield from _names(value[key], depth + 1)
        case [str() as name, int() | float(), *_]:  # a name and its weight
            yield name
        case list() if depth < 3:
            for entry in value[:_MOST]:
                yield from _names(entry, depth + 1)


def _distinct(names: Iterable[str]) -> list[str]:
    distinct: dict[str, None] = {}
    for name in names:
        name = _ENDING.sub("", _WEIGHT.sub("", (to_text(name) or "").strip())).replace("\\", "/").rpartition("/")[2]
        if name and name.lower() not in ("none", "null", "unknown"):
            distinct[name[:200]] = None
    return list(distinct)[:_MOST]
