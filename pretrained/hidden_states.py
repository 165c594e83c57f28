"""Hidden states of an LLM: any layers in one pass, nothing computed above the highest one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from surd.pretrained.batch_limit import BatchLimit
from surd.schemas import SurdError
from surd.schemas.config import Pooling
from surd.schemas.manifest import TOKEN_LEVEL

LayerPooling = tuple[int | None, Pooling]  # None: the mean over all layers, of all-layers
_ON_CPU, _ON_GPU = 512, 16_384  # tokens in one pass: what fits a core's caches, and what keeps a GPU busy
_AHEAD = 2  # batches whose results are on their way to the host while the next one is computed


class HiddenStates:
    """The layers of one causal LM, and no head.

    Sentences of like length share a batch, padded on the right. What comes later never reaches an earlier token of a
    causal model, so no mask is needed, and the fastest attention serves. On a CPU, where a batch of one length is as
    fast, only sentences of the same length do: padding would change the last bits of its neighbours.
    """

    def __init__(self, model: Any, tokenizer: Any, device: str) -> None:
        config = model.config.get_text_config()
        # Of a multimodal model the text's own layers: its tower for images may have as many.
        self._backbone = model.base_model if config is model.config else model.get_decoder()
        self._tokenizer, self._device = tokenizer, torch.device(device)
        self._padding = padding_token(tokenizer, ())
        self._limit = BatchLimit("models.embed_llm")
        self.depth = int(config.num_hidden_layers)
        stacks = (module for module in self._backbone.modules() if isinstance(module, nn.ModuleList))
        self._layers = next((stack for stack in stacks if len(stack) == self.depth), None)
        self._longest = getattr(config, "max_position_embeddings", None)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Token numbers, special tokens included, cut where the model's positions end; never none."""
        cut = {"truncation": True, "max_length": self._longest} if self._longest else {}
        rows: list[list[int]] = self._tokenizer(list(texts), **cut).input_ids
        return [row or [self._padding] for row in rows]

    def read(
        self, texts: Sequence[str], wanted: Sequence[LayerPooling], batch_tokens: int | None
    ) -> Iterator[tuple[int, dict[LayerPooling, Tensor]]]:
        """Every text's number and states on the host: ``tokens`` [tokens, width] and ``last`` [width] as computed,
        ``mean`` [width] in float32, ``all-layers`` [tokens, width] under layer None. They come in order of length.
        Layer ``depth`` has the final norm applied.

        Raises SurdError when the model keeps its layers where none are found.
        """
        if self._layers is None:
            raise SurdError(
                f"the LLM ({type(self._backbone).__name__}) has no list of layers to read from; name another"
            )
        tokens = self.tokens(texts)
        pending: deque[_Batch] = deque()
        on_gpu = self._device.type == "cuda"
        for members in batches(tokens, batch_tokens or (_ON_GPU if on_gpu else _ON_CPU), mixed=on_gpu):
            pending += self._limit.run(lambda rows: self._start([tokens[at] for at in rows], rows, wanted), members)
            while len(pending) > _AHEAD:
                yield from pending.popleft().rows()
        while pending:
            yield from pending.popleft().rows()

    def _start(self, rows: list[list[int]], members: Sequence[int], wanted: Sequence[LayerPooling]) -> _Batch:
        """Compute one batch; on a GPU, only order its computation, and the way of its results to the host."""
        width = max(map(len, rows))
        padded = torch.tensor([row + [row[0]] * (width - len(row)) for row in rows])
        lengths = torch.tensor([len(row) for row in rows])
        real = (torch.arange(width) < lengths[:, None]).flatten().nonzero().flatten()
        padded, on_device, real = (self._to_device(tensor) for tensor in (padded, lengths, real))
        states = self._forward(padded, {layer for layer, _ in wanted})
        with torch.inference_mode():
            found = {one: self._to_host(_pool(states[one[0]], one[1], on_device, real)) for one in wanted}
        return _Batch(members, lengths.tolist(), found, self._mark())

    @torch.inference_mode()
    def _forward(self, tokens_BT: Tensor, wanted: Collection[int | None]) -> dict[int | None, Tensor]:
        """Layer -> [batch, tokens, width]. State i is what layer i gets, so the pass ends where the highest begins."""
        thread, seen, hooks, total = threading.get_ident(), dict[int | None, Tensor](), [], _LayerMean()
        last = self.depth if None in wanted else max(layer for layer in wanted if layer is not None)

        def keep_state(layer: int, state_BTD: Tensor) -> None:
            if layer in wanted:
                seen[layer] = state_BTD
            if None in wanted:
                total.add(state_BTD)

        def watch(layer: int, module: nn.Module) -> None:
            def keep(_: nn.Module, args: Any, kwargs: Any) -> None:
                if threading.get_ident() == thread:  # another thread may be using the same model
                    keep_state(layer, args[0] if args else kwargs["hidden_states"])
                    if layer == last:
                        raise _Reached

            hooks.append(module.register_forward_pre_hook(keep, with_kwargs=True))

        try:
            for layer, module in enumerate(self._layers or ()):
                if layer in wanted or None in wanted:
                    watch(layer, module)
            keep_state(self.depth, self._backbone(input_ids=tokens_BT, use_cache=False).last_hidden_state)
        except _Reached:
            pass
        finally:
            for hook in hooks:
                hook.remove()
        if None in wanted:
            seen[None] = total.mean()
        return seen

    def _to_device(self, tensor: Tensor) -> Tensor:
        if self._device.type != "cuda":
            return tensor.to(self._device)
        return tensor.pin_memory().to(self._device, non_blocking=True)

    def _to_host(self, tensor: Tensor) -> Tensor:
        if self._device.type != "cuda":
            return tensor.cpu()
        return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)

    def _mark(self) -> torch.cuda.Event | None:
        if self._device.type != "cuda":
            return None
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self._device))
        return event


def padding_token(tokenizer: Any, ends: Collection[int]) -> int:
    """The token to pad with: the tokenizer's own, one that ends a text, or any, which masks hide as well."""
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id, *sorted(ends), tokenizer.unk_token_id):
        if token is not None:
            return int(token)
    return 0


def batches(tokens: Sequence[Sequence[int]], most: int, *, mixed: bool = True) -> Iterator[list[int]]:
    """Numbers of rows, shortest first, in groups that with their padding have at most ``most`` tokens; not ``mixed``:
    in groups of one length, which have none."""
    group: list[int] = []
    for at in sorted(range(len(tokens)), key=lambda at: (len(tokens[at]), tokens[at])):
        length = len(tokens[at])
        if group and ((len(group) + 1) * length > most or (not mixed and length != len(tokens[group[0]]))):
            yield group
            group = []
        group.append(at)
    if group:
        yield group


class _LayerMean:
    """Mean over layers, each normalised to mean 0 and variance 1 along the width (arXiv 2506.08210); in the states'
    dtype, added up in float32."""

    def __init__(self) -> None:
        self._total, self._count = torch.zeros(()), 0

    def add(self, state_BTD: Tensor) -> None:
        self._dtype = state_BTD.dtype
        normalised = nn.functional.layer_norm(state_BTD.float(), state_BTD.shape[-1:])
        self._total, self._count = self._total.to(state_BTD.device) + normalised, self._count + 1

    def mean(self) -> Tensor:
        return (self._total / self._count).to(self._dtype)


class _Reached(Exception):
    """The highest requested layer has its input: the rest of the model need not run."""


@dataclass(frozen=True)
class _Batch:
    """Rows of one batch, their lengths and their states, which are on the host once ``arrived``."""

    members: Sequence[int]
    lengths: list[int]
    states: dict[LayerPooling, Tensor]
    arrived: torch.cuda.Event | None

    def rows(self) -> Iterator[tuple[int, dict[LayerPooling, Tensor]]]:
        if self.arrived is not None:
            self.arrived.synchronize()
        parts = {
            one: states.split(self.lengths) if one[1] in TOKEN_LEVEL else states.unbind()
            for one, states in self.states.items()
        }
        for row, member in enumerate(self.members):
            yield member, {one: of_rows[row] for one, of_rows in parts.items()}


def _pool(states_BTD: Tensor, pooling: Pooling, lengths_B: Tensor, real: Tensor) -> Tensor:
    """``tokens``: the real tokens of all rows, one after the other; otherwise [batch, width]."""
    if pooling in TOKEN_LEVEL:
        return states_BTD.flatten(0, 1)[real]
    if pooling == "last":
        return states_BTD[torch.arange(len(lengths_B), device=lengths_B.device), lengths_B - 1]
    padding = torch.arange(states_BTD.shape[1], device=lengths_B.device) >= lengths_B[:, None]
    return states_BTD.float().masked_fill_(padding[..., None], 0).sum(1) / lengths_B[:, None]
