"""The captioner in process: image-to-text models of transformers, asked or in need of no prompt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from PIL import Image
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    BlipForConditionalGeneration,
    LogitsProcessorList,
)

from surd.pipeline.models.caption_model import CaptionAnswer, CaptionModel, CaptionPrompt, caption_answer
from surd.pipeline.models.captioner_families import UNPROMPTED
from surd.pipeline.models.captioner_inputs import CaptionInputs
from surd.pipeline.models.sampling import SeededSampling, row_seed
from surd.pretrained.batch_limit import BatchLimit
from surd.pretrained.precision import computes_bfloat16
from surd.pretrained.weights import load_weights
from surd.schemas.errors import one_line

_TOP_P = 0.9
_SAMPLED = {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "num_beams": 1}


class Captioner(CaptionModel):
    """An image-to-text model of transformers: promptless (BLIP, BLIP-2, GIT, ViT-GPT2), a chat model that sees (LLaVA,
    Qwen2.5-VL, SmolVLM), or one that knows tasks (Florence-2, PaliGemma).

    ``dtype``: of its weights; auto: bfloat16 for models that are asked, where the hardware computes in it, else
    float32. Published promptless captioners are small and trained in float32; chat models are large, and stored in
    bfloat16 as they were trained.
    """

    def __init__(self, ref: str, device: str, dtype: str = "auto") -> None:
        kind = AutoConfig.from_pretrained(ref).model_type
        self._kind = kind
        if dtype == "auto":
            dtype = "bfloat16" if self.prompted and computes_bfloat16(device) else "float32"
        model = load_weights(AutoModelForImageTextToText, ref, dtype=getattr(torch, dtype))
        self._model, self._device = model.to(device).eval(), device
        self._inputs = CaptionInputs(ref, kind, encoder_decoder=bool(model.config.is_encoder_decoder))
        self._limit = BatchLimit(
            "models.captioner", "name a smaller model, or lower caption.max_side, caption.num_beams or caption.k"
        )
        self._ends = _end_tokens(model) | {self._inputs.tokenizer.pad_token_id}

    @property
    def prompted(self) -> bool:
        return self._kind not in UNPROMPTED

    @property
    def family(self) -> str:
        return self._kind

    def caption(
        self,
        images: Sequence[Image.Image],
        k: int,
        num_beams: int,
        max_new_tokens: int,
        seed: int,
        prompts: Sequence[Sequence[CaptionPrompt]] | None = None,
    ) -> list[list[CaptionAnswer]]:
        """See CaptionModel."""
        pictures = [image.convert("RGB") for image in images]
        prompts = [[CaptionPrompt()] for _ in pictures] if prompts is None else prompts
        groups: dict[tuple[int, bool, int], list[int]] = defaultdict(list)
        for at, of_picture in enumerate(prompts):
            for number, prompt in enumerate(of_picture):  # of one group no picture is in a batch twice
                groups[number, bool(prompt.text), prompt.max_new_tokens or max_new_tokens].append(at)
        answers: dict[tuple[int, int], list[CaptionAnswer]] = {}
        contents = {at: row_seed(picture.size, picture.tobytes()) for at, picture in enumerate(pictures) if k > 1}
        for (number, _, limit), members in groups.items():

            def compute(rows: Sequence[int], number: int = number, limit: int = limit) -> list[list[CaptionAnswer]]:
                asked = [prompts[at][number] for at in rows]
                seeds = [
                    row_seed(seed, of_one, contents[at], *((prompt.name, prompt.text) if prompt.text else ()))
                    for at, prompt in zip(rows, asked, strict=True)
                    for of_one in range(k - 1)
                ]
                return self._answers([pictures[at] for at in rows], asked, num_beams, limit, k - 1, seeds)

            computed = chain.from_iterable(self._limit.run(compute, members))
            answers |= {(at, number): row for at, row in zip(members, computed, strict=True)}
        return [
            [answer for number in range(len(of_picture)) for answer in answers[at, number]]
            for at, of_picture in enumerate(prompts)
        ]

    def _answers(
        self,
        pictures: list[Image.Image],
        prompts: list[CaptionPrompt],
        num_beams: int,
        max_new_tokens: int,
        samples: int,
        seeds: Sequence[int],
    ) -> list[list[CaptionAnswer]]:
        """For each picture and its prompt one answer by beam search and ``samples`` sampled ones."""
        try:
            inputs = self._inputs.of(pictures, [prompt.text for prompt in prompts])
            surest, sampled = self._generate(inputs, num_beams, max_new_tokens, samples, seeds)
        except ValueError as error:  # of one of the pictures: it is too long and thin for the model's processor
            if len(pictures) == 1:
                return [
                    [CaptionAnswer(name=prompts[0].name, why=f"the model does not take it ({one_line(error, 120)})")]
                ]
            half = len(pictures) // 2  # what a picture gets does not depend on its batch
            how = (num_beams, max_new_tokens, samples)
            first = self._answers(pictures[:half], prompts[:half], *how, seeds[: half * samples])
            return first + self._answers(pictures[half:], prompts[half:], *how, seeds[half * samples :])
        firsts = self._texts(surest, inputs, max_new_tokens)
        others = [] if sampled is None else self._texts(sampled, inputs, max_new_tokens)
        return [
            [
                caption_answer(prompt.name, text, cut=cut)
                for text, cut in (firsts[at], *others[at * samples : (at + 1) * samples])
            ]
            for at, prompt in enumerate(prompts)
        ]

    def _texts(
        self, tokens: torch.Tensor, inputs: dict[str, torch.Tensor], max_new_tokens: int
    ) -> list[tuple[str, bool]]:
        """The new text of each row, and whether it was cut; a decoder alone gives back what it was asked before it."""
        asked = inputs.get("input_ids")
        if asked is not None and tokens.shape[1] >= asked.shape[1]:
            asked = asked.to(tokens.device).repeat_interleave(len(tokens) // len(asked), dim=0)
            if torch.equal(tokens[:, : asked.shape[1]], asked):
                tokens = tokens[:, asked.shape[1] :]
        texts = self._inputs.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        # A row that ended is filled up with padding; one that was still writing ends with a word. BART (Florence-2)
        # writes an end mark at the limit, whatever it was about to say: the place before it tells, too.
        last = -1 if self._model.generation_config.forced_eos_token_id is None else -2
        lasts = [row[last] if len(row) > max_new_tokens + last else None for row in tokens.tolist()]
        return [(text, token not in self._ends) for text, token in zip(texts, lasts, strict=True)]

    @torch.inference_mode()
    def _generate(
        self, inputs: dict[str, torch.Tensor], num_beams: int, max_new_tokens: int, samples: int, seeds: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Tokens by beam search, one row an image, and ``samples`` sampled rows an image, side by side."""
        generate, encoded = self._encoded({name: self._moved(value) for name, value in inputs.items()})
        how: dict[str, Any] = {"max_new_tokens": max_new_tokens, "use_cache": True}
        surest = generate(**encoded, **how, num_beams=num_beams, do_sample=False)
        if not samples:
            return surest, None
        sampling = LogitsProcessorList([SeededSampling(seeds, 1.0, _TOP_P)])
        sampled = generate(**encoded, **how, **_SAMPLED, num_return_sequences=samples, logits_processor=sampling)
        return surest, sampled

    def _moved(self, value: torch.Tensor) -> torch.Tensor:
        return value.to(self._device, self._model.dtype if value.is_floating_point() else None)

    def _encoded(self, inputs: dict[str, torch.Tensor]) -> tuple[Any, dict[str, Any]]:
        """The function that generates captions, and its arguments.

        BLIP's ``generate`` runs its vision encoder at every call; here it has run once, and only the decoder is called
        (arXiv 2201.12086, section 3.1). Other architectures are called as they are.
        """
        if not isinstance(self._model, BlipForConditionalGeneration) or "input_ids" in inputs:
            return self._model.generate, inputs
        model: Any = self._model
        seen = model.vision_model(pixel_values=inputs["pixel_values"]).last_hidden_state
        config = model.config.text_config
        return model.text_decoder.generate, {
            "input_ids": torch.full((len(seen), 1), config.bos_token_id, device=seen.device),
            "encoder_hidden_states": seen,
            "encoder_attention_mask": torch.ones(seen.shape[:-1], dtype=torch.long, device=seen.device),
            "eos_token_id": config.sep_token_id,
            "pad_token_id": config.pad_token_id,
        }


def _end_tokens(model: Any) -> set[int | None]:
    """The tokens that end an answer; BLIP's decoder ends with the separator of its text config."""
    ends = model.generation_config.eos_token_id
    separator = getattr(model.config.get_text_config(), "sep_token_id", None)
    return {*(ends if isinstance(ends, list) else [ends]), separator, None}
