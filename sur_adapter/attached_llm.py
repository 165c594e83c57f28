"""What a pipeline does for an adapter that reads an LLM."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from sur_adapter.adapter import SURAdapter
from sur_adapter.llm import LLMReader, check_revision, load_llm, shared_llm
from sur_adapter.translator import PromptTokens
from surd.schemas.errors import SurdError

#: Rows of ``prompt_embeds`` after the text tokens hold what the adapter carries of the LLM, filled up with zeros.
_CARRIED_BY = 64


def _longer(states_BLD: Tensor, rows: int) -> Tensor:
    return torch.nn.functional.pad(states_BLD, (0, 0, 0, rows - states_BLD.shape[1]))


def llm_components(
    adapter: SURAdapter | None, llm: str | None = None, dtype: torch.dtype | None = None
) -> dict[str, Any]:
    """The components ``llm`` and ``llm_tokenizer`` of a pipeline with this adapter; empty if it reads no LLM.

    ``llm``: hub id, folder or GGUF file, None: the one named in the adapter. ``dtype`` None: in float32, shared by all
    who ask so, and not to be turned into another dtype. SurdError if it is missing or another than the one that the
    adapter was trained with.
    """
    if adapter is None or not adapter.reads_llm:
        return {}
    named = adapter.config["llm_model"]
    if llm is None and named is None:
        raise SurdError("--adapter: it reads an LLM and does not name it; give --llm")
    ref = str(llm or named)
    model, tokenizer = shared_llm(ref) if dtype is None else load_llm(ref, dtype)
    check_revision(ref, named, adapter.config["llm_revision"])
    return {"llm": model, "llm_tokenizer": tokenizer}


class ReadsLLM:
    """The share of a pipeline whose adapter may read an LLM.

    Of such an adapter ``encode_prompt`` gives text states with further rows, [B, T + 64 n, width]: what is carried of
    the LLM, and zeros for negative prompts. Like all prompt_embeds they may be kept, mixed and passed again. The UNet
    never sees these rows: before each of its steps the text states read them.
    """

    adapter: SURAdapter | None

    def _register_llm(self: Any, llm: Any, tokenizer: Any) -> None:
        """Make the LLM a component, if the adapter reads one. SurdError if it is missing or of another width."""
        if self.adapter is not None and self.adapter.reads_llm:
            if llm is None or tokenizer is None:
                raise SurdError(
                    f"--adapter: it reads the LLM {self.adapter.config['llm_model']!r}, and the pipeline has none; give"
                    " from_pretrained the adapter, or pass llm_components(adapter)"
                )
            width = llm.config.get_text_config().hidden_size
            if width != self.adapter.config["llm_width"]:
                raise SurdError(
                    f"--llm: its states are {width} wide, but the adapter reads {self.adapter.config['llm_width']};"
                    f" name the LLM it was trained with, {self.adapter.config['llm_model']!r}"
                )
        self.register_modules(llm=llm, llm_tokenizer=tokenizer)

    @property
    def _reads_llm(self: Any) -> bool:
        return self.adapter is not None and self.adapter.attachment is not None

    def _both(self: Any, prompt: Any, states: Tensor, negative: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Adapted states, and the negative ones, to which zeros are added as rows where both must be of one length."""
        adapted = self._adapted(prompt, states)
        if negative is not None and self._reads_llm:
            rows = max(adapted.shape[1], negative.shape[1])
            adapted, negative = _longer(adapted, rows), _longer(negative, rows)
        return adapted, negative

    def _carries(self: Any, states_BTD: Tensor) -> bool:
        rows = states_BTD.shape[1] - self.tokenizer.model_max_length
        return self._reads_llm and rows > 0 and rows % _CARRIED_BY == 0

    def _carried(self: Any, prompt: str | list[str], like_BTD: Tensor) -> Tensor:
        """What the adapter carries of the LLM [B, 64 n, width], for every row of ``like_BTD``."""
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        carried_BLD = self.adapter.carry(*self._llm_states(prompts)).to(like_BTD)
        rows = -(-carried_BLD.shape[1] // _CARRIED_BY) * _CARRIED_BY
        return _longer(carried_BLD, rows).repeat_interleave(len(like_BTD) // len(prompts), dim=0)

    def translate(self: Any, prompt: str | list[str]) -> list[str]:
        """The prompts that an adapter which translates writes for sentences, and that are drawn for them; the sentences
        themselves where it writes nothing, as for an empty one and before training, and at strength 0."""
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        if self.adapter is None or self.adapter.translator is None or not self.adapter.config["eta"]:
            return prompts
        written = PromptTokens(self.tokenizer).decode(self.adapter.write(*self._llm_states(prompts)))
        return [new or old for new, old in zip(written, prompts, strict=True)]

    def _translated(self: Any, prompt: Any) -> Any:
        """As ``translate``, one for one; what is not there stays so."""
        if prompt is None:
            return None
        return self.translate(prompt)[0] if isinstance(prompt, str) else self.translate(prompt)

    def _llm_states(self: Any, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """The states that the adapter reads of the LLM [B, L, llm_width], and their mask [B, L]."""
        config = self.adapter.config
        reader = LLMReader(
            model=self.llm, tokenizer=self.llm_tokenizer, layer=config["llm_layer"], pooling=config["llm_pooling"]
        )
        states_BLW, mask_BL = reader.states(prompts, self._execution_device)
        # As in training, where a dropped caption reads nothing: no prompt stays no prompt.
        mask_BL &= torch.tensor([bool(text.strip()) for text in prompts], device=mask_BL.device)[:, None]
        return states_BLW.to(self.adapter.dtype), mask_BL

    @contextlib.contextmanager
    def _reading(self: Any) -> Iterator[None]:
        """While inside, the UNet gets text states that have read the LLM at each step's own timestep."""
        if not self._reads_llm:
            yield
            return
        thread, length, adapter = threading.get_ident(), self.tokenizer.model_max_length, self.adapter

        def read(
            _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            states = kwargs.get("encoder_hidden_states")
            if threading.get_ident() != thread or states is None or not self._carries(states):
                return None
            timestep = args[1] if len(args) > 1 else kwargs["timestep"]
            text, carried = states[:, :length].clone(), states[:, length:]
            rows = carried.abs().amax(dim=(1, 2)) > 0  # of the unconditional branch nothing need be computed
            if rows.any():
                steps = torch.as_tensor(timestep, device=text.device).reshape(-1)
                steps = steps[rows] if len(steps) == len(rows) else steps
                read_states = adapter.attach(text[rows].to(adapter.dtype), carried[rows].to(adapter.dtype), steps)
                text[rows] = read_states.to(states.dtype)
            return args, kwargs | {"encoder_hidden_states": text}

        hook = self.unet.register_forward_pre_hook(read, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()

    @torch.no_grad()
    def __call__(self, *args: Any, **options: Any) -> Any:
        """As the pipeline of diffusers: the same arguments, the same result."""
        with self._reading():
            return super().__call__(*args, **options)  # type: ignore[misc]
