"""The LLM that an adapter reads: which one it is, loading it, and the states of a prompt's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AutoModel

from surd.pretrained.hidden_states import HiddenStates, LayerPooling
from surd.pretrained.language_model import load_language_model
from surd.schemas.config import Pooling
from surd.schemas.errors import SurdError, one_line
from surd.schemas.manifest import ColumnManifest
from surd.schemas.model_ref import content_hash, existing_path, resolve_model

#: Tokens of a prompt that an LLM is given at most: some hundreds of words, and far below what a picture can show.
MOST_TOKENS = 1024


@dataclass(frozen=True, kw_only=True)
class LLMSource:
    """Whose states an adapter reads: ``model`` (a model string), ``layer`` (None: the mean over all), ``pooling``,
    ``width`` of the states, ``revision`` of the weights, and ``column``, None where no column has them."""

    model: str
    layer: int | None
    pooling: str
    width: int
    revision: str
    column: str | None = None

    @classmethod
    def of(cls, column: ColumnManifest) -> LLMSource:
        """The source of a column."""
        stated = column.model_dump(include={"model", "layer", "width", "revision", "column"})
        return cls(pooling=column.pooling or "mean", **stated)


@dataclass(frozen=True, kw_only=True)
class LLMReader:
    """A loaded LLM with the tokenizer that belongs to it; ``layer`` and ``pooling`` as in ``LLMSource``."""

    model: Any
    tokenizer: Any
    layer: int | None
    pooling: str

    def states(self, texts: Sequence[str], device: torch.device | str) -> tuple[Tensor, Tensor]:
        """States [B, L, width] in float32 and mask [B, L], true where a token is real; L is that of the longest.

        SurdError if a text has more than ``MOST_TOKENS`` tokens.
        """
        read = HiddenStates(self.model, self.tokenizer, str(device))
        if not 0 <= (self.layer or 0) <= read.depth:
            raise SurdError(f"--llm-layer is {self.layer}: the LLM has layers 0 to {read.depth}; name one of them")
        counts = [len(row) for row in read.tokens(texts)]
        if (most := max(counts)) > MOST_TOKENS:
            beginning = texts[counts.index(most)][:60]
            most = len(self.tokenizer(texts[counts.index(most)]).input_ids)  # where it has more than its positions
            raise SurdError(
                f"prompt {beginning!r}... has {most:,} tokens, and the LLM is given at most {MOST_TOKENS:,}; shorten it"
            )
        wanted: LayerPooling = (self.layer, cast(Pooling, self.pooling))
        found = {at: states[wanted].float() for at, states in read.read(texts, [wanted], None)}
        mask_BL = torch.arange(most) < torch.tensor(counts)[:, None]
        states_BLW = torch.zeros(*mask_BL.shape, found[0].shape[-1])
        states_BLW[mask_BL] = torch.cat([found[at] for at in range(len(texts))])
        return states_BLW.to(device), mask_BL.to(device)


def load_llm(ref: str, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Model and tokenizer of an LLM. SurdError if it is missing or cannot be loaded."""
    try:
        return load_language_model(AutoModel, resolve_model(ref), dtype)
    except SurdError as error:
        raise SurdError(f"--llm: {error}") from None
    except Exception as error:  # a damaged folder makes transformers raise many types
        reason = one_line(error, 300)
        raise SurdError(f"--llm: {ref!r} cannot be loaded ({reason}); name a causal LM of transformers") from error


@lru_cache(maxsize=1)
def shared_llm(ref: str) -> tuple[Any, Any]:
    """``load_llm`` in float32, once for all who draw with it one after the other."""
    return load_llm(ref)


def revision(ref: str) -> str:
    """What tells the weights of an LLM from others: a hash of a local one's, the name of one on a hub."""
    path = existing_path(resolve_model(ref))
    return content_hash(str(path)) if path else ref


def check_revision(ref: str, trained_with: str | None, expected: str | None) -> None:
    """SurdError if an LLM on this machine is another than the one an adapter was trained with. Of one on a hub only the
    name could be compared."""
    known = expected and expected != trained_with and not expected.startswith("imported ")
    if known and existing_path(resolve_model(ref)) and (found := revision(ref)) != expected:
        raise SurdError(
            f"--llm: {ref!r} is not the LLM that the adapter was trained with, {trained_with!r}: its weights have the"
            f" hash {found}, not {expected}; name that one"
        )
