"""Untrained captioners of a few kilobytes, each in its real architecture, with the processor that its family has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.pipeline.models.tiny_models import SIDE, TEXT, VISION, WORDS, save_image_processor, save_tokenizer

#: Marks of pictures and turns that the processors look for, and the words of the shipped questions.
MARKS = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
MARKS += ["<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "\n\n", "\n"]
MARKS += [f"<row_{row}_col_{col}>" for row in range(1, 4) for col in range(1, 4)]
QUESTION = ["describe", "en", "caption", "in", "one", "sentence", "what", "is", "shown", "picture", "Describe", "short"]
VOCABULARY = [*WORDS, *QUESTION, *MARKS]
SIZE = len(VOCABULARY)
LANGUAGE = TEXT | {"vocab_size": SIZE, "max_position_embeddings": 512, "num_key_value_heads": 1}
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}PLACE{% else %} {{ part['text'] }} {% endif %}{% endfor %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> {% endif %}"
)


def tokenizer(**named: Any) -> PreTrainedTokenizerFast:
    """One of VOCABULARY, by words; ``named``: special tokens of a family, such as ``image_token``."""
    made = Tokenizer(models.WordLevel({word: at for at, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "[PAD]", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "[UNK]"}
    fast = PreTrainedTokenizerFast(tokenizer_object=made, **special, extra_special_tokens=named)
    fast.add_special_tokens({"additional_special_tokens": MARKS}, replace_extra_special_tokens=False)
    return fast


def save_blip(folder: Path) -> None:
    config = transformers.BlipConfig(
        text_config=TEXT | {"encoder_hidden_size": 16, "sep_token_id": 3, "projection_dim": 8},
        vision_config=VISION,
        projection_dim=8,
    )
    transformers.BlipForConditionalGeneration(config).save_pretrained(folder)
    save_tokenizer(folder, model_input_names=["input_ids", "attention_mask"])
    _save_processor(folder, "BlipProcessor", "BlipImageProcessor")


def save_blip2(folder: Path) -> None:
    config = transformers.Blip2Config(
        vision_config=VISION,
        qformer_config={
            "vocab_size": SIZE, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 16, "encoder_hidden_size": 16,
        },
        text_config={
            "model_type": "opt", "vocab_size": SIZE, "hidden_size": 16, "num_hidden_layers": 1, "ffn_dim": 16,
            "num_attention_heads": 2, "max_position_embeddings": 64, "word_embed_proj_dim": 16,
            "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
        },
        num_query_tokens=4,
        image_token_index=4,
    )  # fmt: skip
    transformers.Blip2ForConditionalGeneration(config).save_pretrained(folder)
    images = transformers.BlipImageProcessor(size={"height": SIDE, "width": SIDE})
    words = tokenizer(image_token="<image>")
    transformers.Blip2Processor(images, words, num_query_tokens=4).save_pretrained(folder)


def save_git(folder: Path) -> None:
    config = transformers.GitConfig(
        vision_config=VISION, vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=64, bos_token_id=2, eos_token_id=3, pad_token_id=0,
    )  # fmt: skip
    transformers.GitForCausalLM(config).save_pretrained(folder)
    save_tokenizer(folder, model_input_names=["input_ids", "attention_mask"])
    _save_processor(folder, "GitProcessor", "CLIPImageProcessor")


def save_vit_gpt2(folder: Path) -> None:
    decoder = transformers.GPT2Config(
        vocab_size=len(WORDS), n_embd=16, n_layer=1, n_head=2, n_positions=64, bos_token_id=2, eos_token_id=3
    )
    encoder = transformers.ViTConfig(**VISION)
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 2, 0, 3
    transformers.VisionEncoderDecoderModel(config).save_pretrained(folder)
    save_tokenizer(folder)
    save_image_processor(folder, "ViTImageProcessor")


def save_llava(folder: Path) -> None:
    vision = transformers.CLIPVisionConfig(**VISION | {"num_hidden_layers": 2})
    config = transformers.LlavaConfig(
        vision_config=vision, text_config=transformers.LlamaConfig(**LANGUAGE), image_token_index=4
    )
    transformers.LlavaForConditionalGeneration(config).save_pretrained(folder)
    images = transformers.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    transformers.LlavaProcessor(
        images, tokenizer(image_token="<image>"), patch_size=8, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=CHAT.replace("PLACE", " <image> "),
    ).save_pretrained(folder)  # fmt: skip


def save_qwen(folder: Path) -> None:
    ids = {mark: VOCABULARY.index(mark) for mark in MARKS}
    config = transformers.Qwen2_5_VLConfig(
        text_config=LANGUAGE | {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}},
        vision_config={
            "depth": 2, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "patch_size": 4,
            "out_hidden_size": 16, "fullatt_block_indexes": [1], "window_size": 16, "spatial_merge_size": 2,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    transformers.Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    sizes = {"patch_size": 4, "merge_size": 2, "size": {"shortest_edge": 64, "longest_edge": 1024}}
    transformers.Qwen2_5_VLProcessor(
        transformers.Qwen2VLImageProcessor(**sizes),
        tokenizer(),
        transformers.Qwen2VLVideoProcessor(**sizes),
        chat_template=CHAT.replace("PLACE", " <|vision_start|> <|image_pad|> <|vision_end|> "),
    ).save_pretrained(folder)


def save_smolvlm(folder: Path) -> None:
    config = transformers.SmolVLMConfig(
        vision_config=VISION, text_config=LANGUAGE | {"model_type": "llama"}, image_token_id=4, scale_factor=1,
        pad_token_id=0,
    )  # fmt: skip
    transformers.SmolVLMForConditionalGeneration(config).save_pretrained(folder)
    size = {"size": {"longest_edge": 2 * SIDE}, "max_image_size": {"longest_edge": SIDE}}
    transformers.SmolVLMProcessor(
        transformers.SmolVLMImageProcessor(**size),
        tokenizer(image_token="<image>"),
        transformers.SmolVLMVideoProcessor(**size, num_frames=2, fps=1),
        image_seq_len=4,
        chat_template=CHAT.replace("PLACE", " <image> "),
    ).save_pretrained(folder)


def save_paligemma(folder: Path) -> None:
    config = transformers.PaliGemmaConfig(
        vision_config=VISION | {"model_type": "siglip_vision_model", "projection_dim": 16, "vision_use_head": False},
        text_config=LANGUAGE | {"model_type": "gemma", "head_dim": 8},
        image_token_index=4,
        projection_dim=16,
    )
    transformers.PaliGemmaForConditionalGeneration(config).save_pretrained(folder)
    images = transformers.SiglipImageProcessor(size={"height": SIDE, "width": SIDE}, image_seq_length=4)
    transformers.PaliGemmaProcessor(images, tokenizer(image_token="<image>")).save_pretrained(folder)


def save_florence2(folder: Path) -> None:
    config = transformers.Florence2Config(
        vision_config={
            "embed_dim": [8, 16], "num_heads": [2, 2], "num_groups": [2, 2], "depths": [1, 1], "patch_size": [7, 3],
            "patch_stride": [4, 2], "patch_padding": [3, 1], "patch_prenorm": [False, True], "window_size": 4,
            "projection_dim": 16, "max_position_embeddings": 8, "max_temporal_embeddings": 4,
        },
        text_config={
            "model_type": "bart", "vocab_size": SIZE, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1,
            "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16,
            "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
            "decoder_start_token_id": 3, "forced_bos_token_id": 2, "forced_eos_token_id": 3, "is_encoder_decoder": True,
        },
        image_token_id=4,
        is_encoder_decoder=True,
    )  # fmt: skip
    transformers.Florence2ForConditionalGeneration(config).save_pretrained(folder)
    images = transformers.CLIPImageProcessor(
        size={"height": SIDE, "width": SIDE}, do_center_crop=False, image_seq_length=5
    )
    transformers.Florence2Processor(images, tokenizer(image_token="<image>")).save_pretrained(folder)


FAMILIES: dict[str, Callable[[Path], None]] = {
    "blip": save_blip,
    "blip-2": save_blip2,
    "git": save_git,
    "vision-encoder-decoder": save_vit_gpt2,
    "llava": save_llava,
    "qwen2_5_vl": save_qwen,
    "smolvlm": save_smolvlm,
    "paligemma": save_paligemma,
    "florence2": save_florence2,
}


def save_captioner(folder: Path, family: str) -> Path:
    """A captioner of a family (see FAMILIES) with random weights."""
    torch.manual_seed(0)
    FAMILIES[family](folder)
    return folder


def _save_processor(folder: Path, kind: str, images: str) -> None:
    """The processor of a family whose tokenizer is saved already."""
    options = {"do_center_crop": False} if images.startswith("CLIP") else {}
    made = getattr(transformers, images)(size={"height": SIDE, "width": SIDE}, **options)
    getattr(transformers, kind)(made, transformers.AutoTokenizer.from_pretrained(folder)).save_pretrained(folder)
