"""Yes/no questions about pictures, answered by a transformers model in this process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from PIL import Image
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    BlipForQuestionAnswering,
    ViltForQuestionAnswering,
)

from surd.pretrained.precision import computes_bfloat16
from surd.pretrained.weights import load_weights

#: Questions about a picture, pictures, and pairs of both in one pass.
_QUESTIONS, _PICTURES, _PAIRS = 32, 64, 8
_ASKED = "{} Answer yes or no."


class VqaModel(ABC):
    """A model that is asked yes/no questions about pictures, and gives the probability of yes."""

    @torch.inference_mode()
    def probabilities(
        self, images: Sequence[Image.Image], questions: Sequence[Sequence[str]]
    ) -> list[list[float | None]]:
        """P(yes) against no, for each image one for each of its questions, in their order; None for a question that is
        longer than the model can read. What is answered does not depend on what else is asked.

        Raises ValueError when there are not as many lists of questions as images.
        """
        if len(images) != len(questions):
            raise ValueError(f"questions is a list of {len(questions)}: there are {len(images)} images; give one each")
        asked = [list(dict.fromkeys(row)) for row in questions]
        pictures = [image.convert("RGB") for image, row in zip(images, asked, strict=True) if row]
        answered = iter(self._answers(pictures, [row for row in asked if row]))
        answers = [dict(zip(row, next(answered), strict=True)) if row else {} for row in asked]
        return [[known[text] for text in row] for known, row in zip(answers, questions, strict=True)]

    @abstractmethod
    def _answers(self, images: list[Image.Image], questions: list[list[str]]) -> Iterable[list[float | None]]:
        """``probabilities`` of RGB images, each with at least one question, none twice."""


def load_vqa(ref: str, device: str, dtype: str = "auto") -> VqaModel:
    """The model of a folder or hub id: BLIP or ViLT made for visual question answering, or any image-text-to-text model
    with a chat template (Qwen2.5-VL, SmolVLM, LLaVA). ``dtype``: of its weights, a name of torch's; auto: bfloat16 for
    chat models where the hardware computes in it, else float32.

    Raises ValueError when it is none of them, and other errors when its weights are not whole.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as CHATTY

    kind = AutoConfig.from_pretrained(ref).model_type
    if dtype == "auto":
        dtype = "bfloat16" if kind not in _FAMILIES and computes_bfloat16(device) else "float32"
    if kind in _FAMILIES:
        return _FAMILIES[kind](ref, device, dtype)
    if kind not in CHATTY:
        raise ValueError(f"its config.json says {kind!r}; name a BLIP or ViLT that answers questions, or a chat VLM")
    return ChatVqa(ref, device, dtype)


class BlipVqa(VqaModel):
    """BLIP (arXiv 2201.12086, section 4.4, as `BlipForQuestionAnswering`): the question attends to the picture, and a
    decoder begins the answer, of which only the first word is computed. The vision tower runs once per picture."""

    def __init__(self, ref: str, device: str, dtype: str = "float32") -> None:
        model = load_weights(BlipForQuestionAnswering, ref, dtype=getattr(torch, dtype))
        self._model: Any = model.to(device).eval()
        self._device = device
        processor = AutoProcessor.from_pretrained(ref)
        self._tokenizer, self._processor = processor.tokenizer, processor.image_processor
        self._tokenizer.padding_side = "right"
        self._longest = min(model.config.text_config.max_position_embeddings, self._tokenizer.model_max_length)
        self._words = [word_tokens(self._tokenizer, word) for word in ("yes", "no")]

    def _answers(self, images: list[Image.Image], questions: list[list[str]]) -> Iterable[list[float | None]]:
        for start in range(0, len(images), _PICTURES):
            pixels = self._processor(images=images[start : start + _PICTURES], return_tensors="pt")["pixel_values"]
            patches = self._model.vision_model(pixel_values=pixels.to(self._device, self._model.dtype))[0]
            for seen, row in zip(patches, questions[start : start + _PICTURES], strict=True):
                yield self._answers_about(seen[None], row)

    def _answers_about(self, patches: torch.Tensor, questions: list[str]) -> list[float | None]:
        """``patches``: [1, patches, width], which all questions share."""
        tokens = self._tokenizer(questions).input_ids
        answers: list[float | None] = [None] * len(questions)
        readable = sorted(
            (at for at, ids in enumerate(tokens) if len(ids) <= self._longest), key=lambda at: len(tokens[at])
        )
        for start in range(0, len(readable), _QUESTIONS):
            places = readable[start : start + _QUESTIONS]
            batch = self._tokenizer.pad({"input_ids": [tokens[at] for at in places]}, return_tensors="pt")
            ids, mask = batch["input_ids"].to(self._device), batch["attention_mask"].to(self._device)
            states = self._model.text_encoder(ids, attention_mask=mask, encoder_hidden_states=patches)[0]
            begin = torch.full((len(ids), 1), self._model.decoder_start_token_id, device=self._device)
            logits = self._model.text_decoder(
                begin, encoder_hidden_states=states, encoder_attention_mask=mask, use_cache=False
            ).logits[:, -1]
            for at, chance in zip(places, _chances(logits, *self._words), strict=True):
                answers[at] = chance
        return answers


class ViltVqa(VqaModel):
    """ViLT (arXiv 2102.03334, as `ViltForQuestionAnswering`): one transformer for picture and question, and a sigmoid
    for each of its answers. All of it runs for each pair."""

    def __init__(self, ref: str, device: str, dtype: str = "float32") -> None:
        model = load_weights(ViltForQuestionAnswering, ref, dtype=getattr(torch, dtype))
        self._model: Any = model.to(device).eval()
        self._device = device
        self._processor: Any = AutoProcessor.from_pretrained(ref)
        labels = {str(label).strip().lower(): int(at) for at, label in model.config.id2label.items()}
        if not {"yes", "no"} <= set(labels):
            raise ValueError("its answers (id2label) lack yes or no; name a ViLT fine-tuned on VQAv2")
        self._places = [labels["yes"], labels["no"]]
        longest = int(self._processor.tokenizer.model_max_length)
        self._longest = min(model.config.max_position_embeddings, longest)

    def _answers(self, images: list[Image.Image], questions: list[list[str]]) -> Iterable[list[float | None]]:
        for image, row in zip(images, questions, strict=True):
            seen = self._processor.image_processor(images=[image], return_tensors="pt")
            fits = [len(ids) <= self._longest for ids in self._processor.tokenizer(row).input_ids]
            asked = [text for text, fit in zip(row, fits, strict=True) if fit]
            chances = iter(
                [p for at in range(0, len(asked), _PAIRS) for p in self._pass(seen, asked[at : at + _PAIRS])]
            )
            yield [next(chances) if fit else None for fit in fits]

    def _pass(self, seen: Any, questions: list[str]) -> list[float]:
        words = self._processor.tokenizer(questions, padding=True, return_tensors="pt").to(self._device)
        picture = {name: value.to(self._device) for name, value in seen.items()}
        repeated = {name: value.expand(len(questions), *value.shape[1:]) for name, value in picture.items()}
        # Where config.max_image_length is set, the model looks at patches drawn at random: the same ones each time.
        with torch.random.fork_rng(enabled=True):
            torch.manual_seed(0)
            repeated["pixel_values"] = repeated["pixel_values"].to(self._model.dtype)
            logits = self._model(**words, **repeated).logits[:, self._places]
        chances = logits.float().sigmoid().clamp(min=1e-30)
        return [float(p) for p in chances[:, 0] / chances.sum(-1)]


class ChatVqa(VqaModel):
    """A chat model that sees pictures, asked one question in one message; P(yes) is the next token's, over every way to
    begin the answer with yes or no (VQAScore, arXiv 2404.01291, asks so). All of it runs for each pair."""

    def __init__(self, ref: str, device: str, dtype: str = "float32") -> None:
        self._processor: Any = AutoProcessor.from_pretrained(ref)
        if not getattr(self._processor, "chat_template", None):
            raise ValueError("it has no chat template, so it cannot be asked; name a chat VLM such as SmolVLM-Instruct")
        model = load_weights(AutoModelForImageTextToText, ref, dtype=getattr(torch, dtype))
        self._model: Any = model.to(device).eval()
        self._device = device
        self._tokenizer: Any = self._processor.tokenizer
        self._tokenizer.padding_side = "left"
        self._words = [word_tokens(self._tokenizer, word) for word in ("yes", "no")]
        self._longest = int(getattr(model.config.get_text_config(), "max_position_embeddings", 1 << 30))

    def _answers(self, images: list[Image.Image], questions: list[list[str]]) -> Iterable[list[float | None]]:
        pairs = [(image, text) for image, row in zip(images, questions, strict=True) for text in row]
        answers = [p for at in range(0, len(pairs), _PAIRS) for p in self._pass(pairs[at : at + _PAIRS])]
        start = 0
        for row in questions:
            yield answers[start : start + len(row)]
            start += len(row)

    def _pass(self, pairs: list[tuple[Image.Image, str]]) -> list[float | None]:
        chats = [
            [
                {
                    "role": "user",
                    "content": [{"type": "image", "image": image}, {"type": "text", "text": _ASKED.format(text)}],
                }
            ]
            for image, text in pairs
        ]
        inputs = self._processor.apply_chat_template(
            chats, add_generation_prompt=True, tokenize=True, return_dict=True, padding=True, return_tensors="pt"
        )
        lengths = inputs["attention_mask"].sum(-1).tolist()
        if max(lengths) > self._longest:
            if len(pairs) == 1:
                return [None]
            return [self._pass([pair])[0] for pair in pairs]
        tensors = {name: value.to(self._device) for name, value in inputs.items() if isinstance(value, torch.Tensor)}
        for name, value in tensors.items():
            if value.is_floating_point():
                tensors[name] = value.to(self._model.dtype)
        logits = self._model(**tensors, use_cache=False, logits_to_keep=1).logits[:, -1]
        return list(_chances(logits, *self._words))


_FAMILIES: dict[str, type[BlipVqa] | type[ViltVqa]] = {"blip": BlipVqa, "vilt": ViltVqa}


def word_tokens(tokenizer: Any, word: str) -> list[int]:
    """The tokens that are the whole word, in any casing, with or without a space before it.

    Raises ValueError when there is none.
    """
    vocabulary = tokenizer.get_vocab()
    # "Ġ" and "▁" stand for the space in vocabularies of bytes and of SentencePiece.
    spellings = [space + cased for space in ("", " ", "Ġ", "▁") for cased in (word, word.capitalize(), word.upper())]
    if tokens := sorted({vocabulary[spelling] for spelling in spellings if spelling in vocabulary}):
        return tokens
    raise ValueError(f"its tokenizer has no token for {word!r}, so its answers cannot be read; name another model")


def _chances(logits: torch.Tensor, yes: list[int], no: list[int]) -> list[float]:
    """P(yes) against no of logits [B, tokens]."""
    sums = torch.stack([logits[:, tokens].float().logsumexp(-1) for tokens in (yes, no)], dim=-1)
    return [float(p) for p in sums.softmax(-1)[:, 0]]
