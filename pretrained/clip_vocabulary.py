"""The vocabulary of OpenAI's CLIP, from the file that open_clip ships; checkpoint files do not hold it."""

from __future__ import annotations

import gzip
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import pre_tokenizers

_MERGES = 49152 - 256 - 2  # of open_clip's list, which goes on beyond what CLIP was trained with
CONTEXT = 77  # tokens that OpenAI's CLIP reads, start and end mark among them
END = "<|endoftext|>"


def open_clip_folder() -> Path:
    """Where open_clip lies; finding a package does not import it."""
    spec = importlib.util.find_spec("open_clip")
    assert spec and spec.submodule_search_locations, "open_clip is a dependency"
    return Path(next(iter(spec.submodule_search_locations)))


@cache
def merges() -> list[tuple[str, str]]:
    """The merges of the byte-pair encoding, the earliest first."""
    path = open_clip_folder() / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")[1 : _MERGES + 1]
    return [(first, second) for first, second in (line.split() for line in lines)]


def vocabulary() -> dict[str, int]:
    """Token -> id, without the marks of start and end, which follow."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(first + second for first, second in merges())]
    return {token: number for number, token in enumerate(tokens)}


def stable_diffusion_tokenizer(pad_token: str = END) -> Any:
    """transformers' tokenizer of Stable Diffusion's text encoders, which differ in the token they pad with."""
    from transformers import CLIPTokenizer

    tokens = vocabulary()
    tokens |= {"<|startoftext|>": len(tokens), END: len(tokens) + 1}
    pairs: Any = merges()  # annotated as one string a merge, which is split at its space
    return CLIPTokenizer(tokens, pairs, pad_token=pad_token, model_max_length=CONTEXT)
