"""The models that a process has loaded: each once for all builds and threads, until its stages are over."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")
#: Bytes of weights from which on a model is given up when no later stage needs it; below, reading it again for the
#: next build of the process would cost more than it holds.
LARGE = 600_000_000
_MOST = 32  # with several GPUs, each has models of its own


#: Held while any model is loaded. transformers builds a model on the device ``meta`` by a switch of the whole process:
#: of two that load at once, one may be left without weights ("Cannot copy out of meta tensor").
LOADING = threading.RLock()


class Shelf:
    """Loaded models by key; the one used longest ago makes room for one more than ``_MOST``."""

    def __init__(self) -> None:
        self._models: dict[Hashable, Any] = {}

    def get(self, key: Hashable, load: Callable[[], T]) -> T:
        """The model of a key, loaded at the first call; other threads wait for it instead of loading a second."""
        with LOADING:
            model: Any = self._models.pop(key, None)
            if model is None:
                model = load()
            self._models[key] = model
            while len(self._models) > _MOST:
                self._models.pop(next(iter(self._models)))
            return model

    def drop(self, keys: Iterable[Hashable]) -> None:
        """Give up the large models among ``keys``; who still holds one may finish with it."""
        with LOADING:
            dropped = [key for key in keys if key in self._models and weight(self._models[key]) >= LARGE]
            for key in dropped:
                del self._models[key]
        if dropped:
            import torch

            gc.collect()  # networks hold themselves in circles
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._models

    def __len__(self) -> int:
        return len(self._models)


#: The process's own. Making it at its first use would let two threads make two.
SHELF = Shelf()


def weight(model: Any) -> int:
    """Bytes of the weights of a role's model: those of all networks that it holds."""
    import torch  # only here: where no model is loaded, the shelf needs none of it

    parts = [part for part in vars(model).values() if hasattr(part, "parameters") or hasattr(part, "components")]
    networks = [network for part in parts for network in getattr(part, "components", {"": part}).values()]
    distinct = {network for network in networks if isinstance(network, torch.nn.Module)}
    return sum(parameter.nbytes for network in distinct for parameter in network.parameters())
