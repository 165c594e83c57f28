"""Untrained models of a few kilobytes in real architectures, as folders of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

WORDS = ["[PAD]", "[UNK]", "<s>", "</s>", "<image>", "a", "the", "on", "of", "three", "red", "blue", "white", "box"]
WORDS += ["dog", "table", "cat"]
SIDE = 16
VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 8,
}
TEXT = {
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "pad_token_id": 0,
}


def save_tokenizer(folder: Path, *, special: bool = True, ends: bool = False, **options: Any) -> None:
    """A tokenizer of WORDS; ``special``: it names pad, bos and eos; ``ends``: a text ends with ``</s>``."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if ends:
        tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)])
    named = {"pad_token": "[PAD]", "bos_token": "<s>", "eos_token": "</s>"} if special else {}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", **named, **options)
    fast.save_pretrained(folder)


def save_image_processor(folder: Path, kind: str = "CLIPImageProcessor") -> None:
    """A processor that resizes to SIDE."""
    options = {"do_center_crop": False} if kind.startswith("CLIP") else {}
    getattr(transformers, kind)(size={"height": SIDE, "width": SIDE}, **options).save_pretrained(folder)


def save_clip(folder: Path, kind: str = "CLIP") -> Path:
    """A CLIPModel or a SiglipModel, with tokenizer and image processor."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind.capitalize() if kind != 'CLIP' else kind}Config")
    options = {"projection_dim": 8} if kind == "CLIP" else {}
    model = getattr(transformers, config.__name__.replace("Config", "Model"))
    made = model(config(text_config=TEXT | {"max_position_embeddings": 8}, vision_config=VISION, **options))
    made.save_pretrained(folder)
    save_tokenizer(folder, ends=True, model_input_names=["input_ids", "attention_mask"])
    save_image_processor(folder, "CLIPImageProcessor" if kind == "CLIP" else "SiglipImageProcessor")
    return folder


def save_llm(folder: Path, **options: Any) -> Path:
    """A two-layer LLaMA and its tokenizer, made with ``options`` of ``save_tokenizer``."""
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**TEXT)).save_pretrained(folder)
    save_tokenizer(folder, **options)
    return folder


def drop_weights(folder: Path, *keys: str) -> None:
    """Take tensors out of a folder's safetensors file."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    weights = {key: value for key, value in load_file(file).items() if key not in keys}
    save_file(weights, file, metadata={"format": "pt"})
