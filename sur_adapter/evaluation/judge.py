"""Judges of generated pictures: models, used by no training, that score a picture against its prompt.

Three kinds, selected by their string: a classifier of facts (a folder or hub id: transformers image classification
whose labels read ``group:value``), ``clip:NAME`` (an open_clip model, its cosine) and ``vqa:NAME`` (a folder or hub id
of a model that answers questions about pictures, the probability of "yes" to "does this picture show ...?").
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from sur_adapter.evaluation.clip_judge import ClipJudge
from sur_adapter.evaluation.prompts import EvalPrompt
from sur_adapter.evaluation.verdict import BATCH, Judge, Verdict, open_picture
from sur_adapter.evaluation.vqa_judge import VqaJudge
from surd.schemas.errors import SurdError, one_line
from surd.schemas.model_ref import resolve_model

#: The groups, of those a prompt states, that must be right for a picture of its category to be right.
GROUPS: dict[str, tuple[str, ...]] = {
    "action": ("action",), "colour": ("tint", "background"), "counting": ("count",),
    "relation": ("first", "second", "axis"), "subject": ("subject",), "style": ("style",),
}  # fmt: skip


def load_judge(ref: str, device: str = "cpu") -> Judge:
    """The judge a string names. SurdError if it is missing or not a judge."""
    kind, _, name = ref.partition(":")
    if kind == "clip":
        return ClipJudge(name, device)
    if kind == "vqa":
        return VqaJudge(name, device)
    return FactJudge(ref, device)


class FactJudge:
    """A classifier with a softmax over the values of each group of facts."""

    unit = "accuracy"

    def __init__(self, ref: str, device: str = "cpu") -> None:
        from transformers import AutoImageProcessor, AutoModelForImageClassification
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        try:
            path = resolve_model(ref)
            self._model, info = AutoModelForImageClassification.from_pretrained(
                path, use_safetensors=True, dtype=torch.float32, output_loading_info=True
            )
            if missing := sorted(info["missing_keys"]):
                raise ValueError(f"its weights lack {missing[0]}, which would be random")
            self._processor: Any = AutoImageProcessor.from_pretrained(path)
        except SurdError:
            raise
        except Exception as error:  # a folder that is damaged makes transformers raise all sorts
            reason = one_line(error, 300)
            remedy = "name a classifier of images, clip:NAME or vqa:NAME"
            raise SurdError(f"--judge: {ref!r} cannot be loaded ({reason}); {remedy}") from error
        self._model.eval().to(device)
        self.values: dict[str, list[str]] = {}
        self._label_indices: dict[str, list[int]] = {}
        for index, label in sorted(self._model.config.id2label.items()):
            group, colon, value = label.partition(":")
            if not colon:
                raise SurdError(f"--judge: label {label!r} of {ref!r} is not group:value; name a judge of facts")
            self.values.setdefault(group, []).append(value)
            self._label_indices.setdefault(group, []).append(index)
        self.accuracy = getattr(self._model.config, "accuracy", None)

    @torch.inference_mode()
    def classify(self, images: Sequence[Image.Image]) -> tuple[list[dict[str, tuple[str, float]]], Tensor]:
        """For each image, group -> (likeliest value, its probability); and the input of the last layer [N, D]."""
        pixels = self._processor(images=list(images), return_tensors="pt")["pixel_values"].to(self._model.device)
        features: list[Tensor] = []
        hook = self._model.classifier.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
        logits = self._model(pixels).logits.float()
        hook.remove()
        best = {name: logits[:, at].softmax(-1).max(-1) for name, at in self._label_indices.items()}
        values_shown = [
            {name: (self.values[name][int(top.indices[row])], float(top.values[row])) for name, top in best.items()}
            for row in range(len(images))
        ]
        return values_shown, features[0].flatten(1).float().cpu()

    def check(self, prompts: Sequence[EvalPrompt]) -> None:
        for number, one in enumerate(prompts, 1):
            if not self._scored_groups(one):
                raise SurdError(
                    f"--judge: prompt {number} ({one.prompt!r}) states no fact of {one.category} that the judge knows; "
                    "use --judge clip:NAME or vqa:NAME for prompts without facts"
                )
            for group, value in one.facts.items():
                if value not in self.values.get(group, [value]):
                    raise SurdError(
                        f"--prompts: prompt {number} states {group} {value!r}, which the judge does not know; it knows "
                        + ", ".join(self.values[group])
                    )

    def __call__(self, files: Sequence[Path], prompts: Sequence[EvalPrompt]) -> tuple[list[Verdict], Tensor | None]:
        values_shown: list[dict[str, tuple[str, float]]] = []
        features = []
        for start in range(0, len(files), BATCH):  # in batches, so that memory does not grow with the run
            more, vectors = self.classify([open_picture(file) for file in files[start : start + BATCH]])
            values_shown += more
            features.append(vectors)
        verdicts = []
        for one, facts in zip(prompts, values_shown, strict=True):
            right = {group: facts[group][0] == value for group, value in one.facts.items() if group in facts}
            verdicts.append(Verdict(score=float(all(right[group] for group in self._scored_groups(one))), facts=right))
        return verdicts, torch.cat(features)

    def _scored_groups(self, one: EvalPrompt) -> list[str]:
        """The groups that make a picture of this prompt right: those of its category, or all if it has none."""
        names = GROUPS.get(one.category, tuple(one.facts))
        return [name for name in names if name in one.facts and name in self.values]
