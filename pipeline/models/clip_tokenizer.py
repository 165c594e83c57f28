"""CLIP's tokenizer: the number of tokens of a prompt, without loading torch or a model."""

from __future__ import annotations

import gzip
import importlib.util
from functools import cache, lru_cache
from pathlib import Path

import ftfy
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from surd.schemas import SurdError
from surd.schemas.clip_ref import clip_ref

CONTEXT = 77  # tokens that CLIP reads, start and end mark among them
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_MERGES = 49152 - 256 - 2  # of open_clip's list, which goes on beyond what CLIP was trained with


class ClipTokenizer:
    """The tokenizer of the model folder ``ref`` if it holds one, else that of OpenAI's CLIP."""

    def __init__(self, ref: str) -> None:
        folder = Path(clip_ref(ref).name)
        own = folder / "tokenizer.json"
        try:
            self._tokenizer = Tokenizer.from_file(str(own)) if own.is_file() else _openai_tokenizer()
        except Exception as error:  # the library raises bare Exception for a file it cannot read
            raise SurdError(
                f"models.clip: {str(own)!r} is not a valid tokenizer ({error}); restore the file"
            ) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def count(self, text: str) -> int:
        """Tokens of a text with CLIP's start and end mark; beyond ``CONTEXT`` it sees nothing."""
        text = text if text.isascii() else ftfy.fix_text(text)  # as open_clip does: curly quotes become straight
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids) + 2


@lru_cache(maxsize=8)
def clip_tokenizer(ref: str) -> ClipTokenizer:
    """One tokenizer per model string and process."""
    return ClipTokenizer(ref)


@cache
def clip_words() -> frozenset[str]:
    """The words that OpenAI's CLIP knows as one token, lower case: some 34,000 of captions in the wild."""
    return frozenset(merge.replace(" ", "")[:-4] for merge in _merges() if merge.endswith("</w>"))


def _openai_tokenizer() -> Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [(first, second) for first, second in (merge.split() for merge in _merges())]
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(first + second for first, second in pairs)]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


@cache
def _merges() -> list[str]:
    """The merges of the byte-pair encoding, from the file open_clip ships; finding a package does not import it."""
    spec = importlib.util.find_spec("open_clip")
    assert spec and spec.submodule_search_locations, "open_clip is a dependency"
    path = Path(next(iter(spec.submodule_search_locations))) / "bpe_simple_vocab_16e6.txt.gz"
    return gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")[1 : _MERGES + 1]
