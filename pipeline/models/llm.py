"""The LLM: turns chats into answers, and sentences into hidden states."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from platformdirs import user_cache_path
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

Message = dict[str, str]


class LLM:
    """Any transformers causal LM: a folder, a hub id, or one ``.gguf`` file."""

    def __init__(self, ref: str, device: str, dtype: str) -> None:
        folder = str(_unpacked(Path(ref), dtype)) if ref.endswith(".gguf") else ref
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), use_safetensors=True)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
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


def _unpacked(file: Path, dtype: str) -> Path:
    """The weights of a GGUF file as a safetensors folder in the user's cache, made at the first call.

    Reading GGUF takes 20 s of a core each time, the folder 0.2 s; and blocks left packed would be unpacked again at
    every matrix product.
    """
    with file.open("rb") as stream:
        content = hashlib.file_digest(stream, "sha256").hexdigest()[:16]
    folder = user_cache_path("surd") / f"{file.stem}-{content}-{dtype}"
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    where = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    # Both bars, the reader's and the writer's, are drawn whatever transformers is told.
    with redirect_stderr(io.StringIO()), TemporaryDirectory(dir=folder.parent) as temporary:
        model: Any = AutoModelForCausalLM.from_pretrained(
            **where, dtype=getattr(torch, dtype), quantization_config=GgufConfig(dequantize=True)
        )
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        whole = Path(temporary) / folder.name
        model.save_pretrained(whole)
        AutoTokenizer.from_pretrained(**where).save_pretrained(whole)
        with suppress(OSError):  # another process was faster
            whole.rename(folder)
    return folder
