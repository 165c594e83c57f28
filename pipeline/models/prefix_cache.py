"""Prefix cache: keys and values of the tokens that many prompts begin with, computed once."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

Tokens = tuple[int, ...]


class PrefixStates:
    """The keys and values of the few prefixes used last; each is copied for every batch that continues it."""

    def __init__(self, model: Any, device: str, size: int) -> None:
        self._model, self._device, self._size = model, device, size
        self._kept: OrderedDict[Tokens, DynamicCache] = OrderedDict()
        self._lock = threading.Lock()
        empty = DynamicCache(config=model.config)
        # A sliding window or a recurrent state cannot be continued behind padding: such models read everything.
        plain = size > 0 and all(type(layer) is DynamicLayer for layer in empty.layers)
        self.usable = plain and getattr(model, "_supports_default_dynamic_cache", lambda: True)()

    @torch.inference_mode()
    def expanded(self, prefix: Tokens, rows: int) -> DynamicCache:
        """The states of ``prefix`` for a batch of ``rows``, the caller's to grow."""
        with self._lock:
            states = self._kept.pop(prefix, None) or self._read(prefix)
            self._kept[prefix] = states
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
        own = copy.copy(states)
        own.layers = [copy.copy(layer) for layer in states.layers]
        layer: Any
        for layer in own.layers:  # expanded tensors are views: growing the cache is what copies them
            layer.keys, layer.values = (held.expand(rows, -1, -1, -1) for held in (layer.keys, layer.values))
        return own

    def _read(self, prefix: Tokens) -> DynamicCache:
        states = DynamicCache(config=self._model.config)
        tokens = torch.tensor([prefix], device=self._device)
        # The backbone alone: the next token after the prefix itself is not needed.
        self._model.base_model(input_ids=tokens, past_key_values=states, use_cache=True)
        return states
