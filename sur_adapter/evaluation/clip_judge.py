"""Judge ``clip:NAME``: how near a picture is to its prompt, by an open_clip model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sur_adapter.evaluation.prompts import EvalPrompt
from sur_adapter.evaluation.verdict import BATCH, Verdict, open_picture
from surd.schemas.clip_ref import clip_ref
from surd.schemas.errors import SurdError, one_line

OPEN_CLIP_CONFIG = "open_clip_config.json"


class ClipEmbedder:
    """An open_clip model that embeds picture files and texts as unit vectors. ``prefix``: what stands before NAME in
    the flag, for errors."""

    def __init__(self, name: str, device: str = "cpu", flag: str = "--judge", prefix: str = "clip") -> None:
        import open_clip

        example = f"{prefix}:ViT-L-14/openai"
        remedy = f"write {prefix}:MODEL/WEIGHTS as open_clip names them, such as {example}, or {prefix}:FOLDER"
        ref = clip_ref(name, f"{flag} {prefix}")
        model, weights = ref.name, ref.weights
        if ref.kind == "hub" or (ref.kind == "folder" and not (Path(ref.name) / OPEN_CLIP_CONFIG).is_file()):
            raise SurdError(
                f"{flag}: {prefix}:{name!r} has no {OPEN_CLIP_CONFIG}, so it is none of open_clip; {remedy}"
            )
        if ref.kind == "folder":
            model = f"local-dir:{ref.name}"
        try:
            # open_clip's other constructors give a model without its weights random ones.
            self._model: Any
            self._model, self._preprocess = open_clip.create_model_from_pretrained(
                model, pretrained=weights, device=device
            )
            self._tokenize: Any = open_clip.get_tokenizer(model)
        except Exception as error:  # a folder that is damaged makes open_clip raise all sorts
            reason = one_line(error, 300).split(" Available:")[0]
            raise SurdError(f"{flag}: {prefix}:{name!r} cannot be loaded ({reason}); {remedy}") from error
        self._model.eval()
        self._device = device

    @property
    def logit_scale(self) -> float:
        """The factor between a difference of cosines and a difference of log odds."""
        return float(self._model.logit_scale.detach().exp())

    @torch.inference_mode()
    def embed_files(self, files: Sequence[Path]) -> Tensor:
        """Pictures as unit vectors, [N, D]."""
        pixels = torch.stack([self._preprocess(open_picture(file)) for file in files]).to(self._device)
        vectors: Tensor = self._model.encode_image(pixels, normalize=True)
        return vectors

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Texts as unit vectors, [N, D]."""
        vectors: Tensor = self._model.encode_text(self._tokenize(list(texts)).to(self._device), normalize=True)
        return vectors


class ClipJudge:
    """Cosine of picture and prompt, times 100, at least 0: the CLIPScore of arXiv 2104.08718 without its factor."""

    unit = "CLIP score"
    accuracy: dict[str, float] | None = None

    def __init__(self, name: str, device: str = "cpu") -> None:
        self._clip = ClipEmbedder(name, device)

    def check(self, prompts: Sequence[EvalPrompt]) -> None:
        """Any prompt will do."""

    def __call__(self, files: Sequence[Path], prompts: Sequence[EvalPrompt]) -> tuple[list[Verdict], Tensor | None]:
        verdicts, features = [], []
        for start in range(0, len(files), BATCH):
            batch = slice(start, start + BATCH)
            image = self._clip.embed_files(files[batch])
            cosine = (image * self._clip.embed_texts([one.prompt for one in prompts[batch]])).sum(-1)
            verdicts += [Verdict(score=max(0.0, 100 * value)) for value in cosine.tolist()]
            features.append(image.float().cpu())
        return verdicts, torch.cat(features)
