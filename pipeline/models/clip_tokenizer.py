"""CLIP's tokenizer: the number of tokens of a prompt and how many the model reads, without loading torch or a model."""

from __future__ import annotations

import html
import json
import string
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import ftfy
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from surd.pretrained.clip_vocabulary import CONTEXT, merges, open_clip_folder, vocabulary
from surd.schemas import SurdError
from surd.schemas.clip_ref import HUB_PREFIX, clip_ref

_NO_LIMIT = 1_000_000  # transformers writes 10^30 for a tokenizer without one
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class ClipTokenizer:
    """The tokenizer that the model ``ref`` reads texts with, where its files are on this machine; else OpenAI's.

    ``context`` is the number of tokens that the model reads, its marks among them: 77 of CLIP, 64 of SigLIP.
    """

    def __init__(self, ref: str) -> None:
        named = clip_ref(ref)
        folder = f"{HUB_PREFIX}{named.name}" if named.kind == "hub" else named.name
        settings = _text_settings(folder)
        self.context = _context(folder, settings)
        own = _file(folder, "tokenizer.json")
        hub = settings.get("hf_tokenizer_name")
        if settings and not hub:
            own = None  # open_clip then takes OpenAI's, whatever lies beside the model
        elif own is None and isinstance(hub, str):
            own = _file(f"{HUB_PREFIX}{hub}", "tokenizer.json")
        self._is_own = own is not None
        self._cleaning = (settings.get("tokenizer_kwargs") or {}).get("clean", "whitespace")
        try:
            self._tokenizer = Tokenizer.from_file(str(own)) if own else _openai_tokenizer()
        except Exception as error:  # the library raises bare Exception for a file it cannot read
            raise SurdError(
                f"models.clip: {str(own)!r} is not a valid tokenizer ({error}); restore the file"
            ) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def count(self, text: str) -> int:
        """Tokens of a text with the model's marks; beyond ``context`` it sees nothing."""
        if self._is_own:
            return len(self._tokenizer.encode(_cleaned(text, self._cleaning)).ids)
        text = text if text.isascii() else ftfy.fix_text(text)  # as open_clip does: curly quotes become straight
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids) + 2


def _cleaned(text: str, cleaning: str) -> str:
    """A text as open_clip hands it to a tokenizer of the model's own."""
    text = " ".join(html.unescape(html.unescape(text if text.isascii() else ftfy.fix_text(text))).split())
    if cleaning == "canonicalize":
        return " ".join(text.replace("_", " ").translate(_WITHOUT_PUNCTUATION).lower().split())
    return text.lower() if cleaning == "lower" else text


def _text_settings(ref: str) -> dict[str, Any]:
    """``text_cfg`` of a model that open_clip knows by its name or by a file beside it; else empty."""
    path = _file(ref, "open_clip_config.json")
    if path is None and not Path(ref).is_dir():
        path = open_clip_folder() / "model_configs" / f"{ref.split('/', 1)[0]}.json"
        path = path if path.is_file() else None
    settings = _json(path)
    settings = settings.get("model_cfg", settings)
    text = settings.get("text_cfg") if isinstance(settings, dict) else None
    return text if isinstance(text, dict) else {}


def _context(ref: str, settings: dict[str, Any]) -> int:
    """The number of tokens that a model reads: by open_clip's settings, else by transformers'."""
    if settings:
        limits = [settings.get("context_length")]
    else:
        config = _json(_file(ref, "config.json"))
        text = config.get("text_config")
        limits = [
            text.get("max_position_embeddings") if isinstance(text, dict) else None,
            _json(_file(ref, "tokenizer_config.json")).get("model_max_length"),
        ]
    return min((limit for limit in limits if isinstance(limit, int) and 0 < limit < _NO_LIMIT), default=CONTEXT)


def _file(ref: str, name: str) -> Path | None:
    """A file of a model: in its folder, or in the cache of the hub for ``hf-hub:org/name``."""
    if ref.startswith(HUB_PREFIX):
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(ref.removeprefix(HUB_PREFIX), name)
        return Path(cached) if isinstance(cached, str) else None
    path = Path(ref) / name
    return path if path.is_file() else None


def _json(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SurdError(f"models.clip: {str(path)!r} is not valid JSON ({error}); restore the file") from error
    return value if isinstance(value, dict) else {}


@lru_cache(maxsize=8)
def clip_tokenizer(ref: str) -> ClipTokenizer:
    """One tokenizer per model string and process."""
    return ClipTokenizer(ref)


@cache
def clip_words() -> frozenset[str]:
    """The words that OpenAI's CLIP knows as one token, lower case: some 34,000 of captions in the wild."""
    return frozenset((first + last)[:-4] for first, last in merges() if last.endswith("</w>"))


def _openai_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary(), merges=merges(), end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer
