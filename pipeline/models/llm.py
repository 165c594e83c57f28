"""The LLM: turns chats into answers, and sentences into hidden states."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

Message = dict[str, str]


class LLM:
    """Any transformers causal LM: a folder, a hub id, or one ``.gguf`` file."""

    def __init__(self, ref: str, device: str, dtype: str) -> None:
        path = Path(ref)
        folder, file = ref, {}
        how: dict[str, Any] = {"use_safetensors": True}
        if path.suffix == ".gguf":
            # Packed blocks would be unpacked again at every matrix product: on a CPU that is many times slower.
            folder, file = str(path.parent), {"gguf_file": path.name}
            how = {"quantization_config": GgufConfig(dequantize=True)}
        with redirect_stderr(io.StringIO()):  # the GGUF reader draws a bar that no setting of transformers stops
            model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), **file, **how)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, **file)
        self._model = model.to(device).eval()
        self._device = device
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token

    @property
    def depth(self) -> int:
        """Number of layers; hidden states are numbered 0 (embeddings) to ``depth``."""
        return int(self._model.config.num_hidden_layers)

    @torch.inference_mode()
    def answer(self, chats: Sequence[Sequence[Message]], max_new_tokens: int) -> list[str]:
        """Greedy answers to chats, in one batch. A model without a chat template sees the messages as plain text."""
        prompts = [self._render(chat) for chat in chats]
        self._tokenizer.padding_side = "left"
        inputs = self._tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False).to(self._device)
        tokens = self._model.generate(
            **inputs, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=self._tokenizer.pad_token_id
        )
        answers: list[str] = self._tokenizer.batch_decode(
            tokens[:, inputs.input_ids.shape[1] :], skip_special_tokens=True
        )
        return answers

    @torch.inference_mode()
    def hidden_states(self, texts: Sequence[str], layers: Sequence[int]) -> list[dict[int, npt.NDArray[np.float32]]]:
        """Per text, layer -> [tokens, width] float32, padding removed.

        The model's last layer comes with the final norm applied, as transformers gives it.
        """
        self._tokenizer.padding_side = "right"
        inputs = self._tokenizer(list(texts), return_tensors="pt", padding=True).to(self._device)
        # The backbone alone: the vocabulary projection is most of a small model's work and nobody reads it here.
        states = self._model.base_model(**inputs, output_hidden_states=True, use_cache=False).hidden_states
        lengths = inputs.attention_mask.sum(1).tolist()
        chosen = {layer: states[layer].float().cpu().numpy() for layer in layers}
        return [{layer: chosen[layer][row, :length] for layer in layers} for row, length in enumerate(lengths)]

    def _render(self, chat: Sequence[Message]) -> str:
        if self._tokenizer.chat_template:
            return str(self._tokenizer.apply_chat_template(list(chat), tokenize=False, add_generation_prompt=True))
        return "\n".join(message["content"] for message in chat) + "\n"
