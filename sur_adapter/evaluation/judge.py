"""Judges of generated pictures: models, used by no training, that score a picture against its prompt.

Three kinds, selected by their string: a classifier of facts (a folder or hub id: transformers image classification
whose labels read ``group:value``), ``clip:NAME`` (an open_clip model, its cosine) and ``vqa:NAME`` (t2v-metrics, the
probability of "yes" to "does this show ...?").
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from sur_adapter.evaluation.prompts import EvalPrompt
from surd.schemas.clip_ref import clip_ref
from surd.schemas.errors import SurdError, one_line
from surd.schemas.model_ref import resolve_model

#: The groups, of those a prompt states, that must be right for a picture of its category to be right.
GROUPS: dict[str, tuple[str, ...]] = {
    "action": ("action",), "colour": ("tint", "background"), "counting": ("count",),
    "relation": ("first", "second", "axis"), "subject": ("subject",), "style": ("style",),
}  # fmt: skip
BATCH = 64
OPEN_CLIP_CONFIG = "open_clip_config.json"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """``score``: 1 or 0 from a fact judge, else a number, higher is better; ``facts``: each stated group that
    the judge has -> whether the picture shows it."""

    score: float
    facts: dict[str, bool] = field(default_factory=dict)


class Judge(Protocol):
    """``unit`` names the score; ``accuracy`` is the published accuracy of the judge, None if its config has none."""

    unit: str
    accuracy: dict[str, float] | None

    def check(self, prompts: Sequence[EvalPrompt]) -> None:
        """SurdError if this judge cannot judge these prompts."""

    def __call__(self, files: Sequence[Path], prompts: Sequence[EvalPrompt]) -> tuple[list[Verdict], Tensor | None]:
        """Verdicts, and features [N, D] for KID (None if the judge has none)."""


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
            more, vectors = self.classify([_open(file) for file in files[start : start + BATCH]])
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


class ClipJudge:
    """Cosine of picture and prompt, times 100, at least 0: the CLIPScore of arXiv 2104.08718 without its factor."""

    unit = "CLIP score"
    accuracy: dict[str, float] | None = None

    def __init__(self, name: str, device: str = "cpu") -> None:
        import open_clip

        remedy = "write clip:MODEL/WEIGHTS as open_clip names them, such as clip:ViT-L-14/openai, or clip:FOLDER"
        ref = clip_ref(name, "--judge clip")
        model, weights = ref.name, ref.weights
        if ref.kind == "hub" or (ref.kind == "folder" and not (Path(ref.name) / OPEN_CLIP_CONFIG).is_file()):
            raise SurdError(f"--judge: clip:{name!r} has no {OPEN_CLIP_CONFIG}, so it is none of open_clip; {remedy}")
        if ref.kind == "folder":
            model = f"local-dir:{ref.name}"
        try:
            # open_clip's other constructors give a model without its weights random ones.
            self._model, self._preprocess = open_clip.create_model_from_pretrained(
                model, pretrained=weights, device=device
            )
            self._tokenize = open_clip.get_tokenizer(model)
        except Exception as error:  # a folder that is damaged makes open_clip raise all sorts
            reason = one_line(error, 300).split(" Available:")[0]
            raise SurdError(f"--judge: clip:{name!r} cannot be loaded ({reason}); {remedy}") from error
        self._model.eval()
        self._device = device

    def check(self, prompts: Sequence[EvalPrompt]) -> None:
        """Any prompt will do."""

    @torch.inference_mode()
    def __call__(self, files: Sequence[Path], prompts: Sequence[EvalPrompt]) -> tuple[list[Verdict], Tensor | None]:
        verdicts, features = [], []
        for start in range(0, len(files), BATCH):
            batch = slice(start, start + BATCH)
            pixels = torch.stack([self._preprocess(_open(file)) for file in files[batch]]).to(self._device)
            texts = self._tokenize([one.prompt for one in prompts[batch]]).to(self._device)
            image = self._model.encode_image(pixels, normalize=True)
            cosine = (image * self._model.encode_text(texts, normalize=True)).sum(-1)
            verdicts += [Verdict(score=max(0.0, 100 * value)) for value in cosine.tolist()]
            features.append(image.float().cpu())
        return verdicts, torch.cat(features)


class VqaJudge:
    """VQAScore (arXiv 2404.01291) by t2v-metrics: its models have billions of weights, so use a GPU."""

    unit = "VQA score"
    accuracy: dict[str, float] | None = None

    def __init__(self, name: str, device: str = "cpu") -> None:
        try:
            import t2v_metrics
        except ImportError as error:
            raise SurdError(
                f"--judge: 'vqa:{name}' needs t2v-metrics, which is not installed; pip install t2v-metrics"
            ) from error
        known = list(getattr(t2v_metrics, "list_all_vqascore_models", list)())
        if known and name and name not in known:
            near = difflib.get_close_matches(name, known, n=5, cutoff=0.3) or known[:5]
            raise SurdError(
                f"--judge is 'vqa:{name}': the installed t2v-metrics has no model of that name; name one of its"
                f" {len(known)}, such as {', '.join(f'vqa:{one}' for one in near)}"
            )
        try:
            self._score = t2v_metrics.VQAScore(model=name or "clip-flant5-xxl", device=device)
        except Exception as error:  # it loads by more than one library
            reason = one_line(error, 300)
            remedy = "name one of t2v_metrics.list_all_vqascore_models() whose weights are on this machine"
            raise SurdError(f"--judge: 'vqa:{name}' cannot be loaded ({reason}); {remedy}") from error

    def check(self, prompts: Sequence[EvalPrompt]) -> None:
        """Any prompt will do."""

    @torch.inference_mode()
    def __call__(self, files: Sequence[Path], prompts: Sequence[EvalPrompt]) -> tuple[list[Verdict], Tensor | None]:
        pairs = [{"images": [str(file)], "texts": [one.prompt]} for file, one in zip(files, prompts, strict=True)]
        scores = self._score.batch_forward(dataset=pairs, batch_size=16).flatten().tolist()
        return [Verdict(score=score) for score in scores], None


def _open(file: Path) -> Image.Image:
    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        remedy = "remove it: a rendered picture is rendered again"
        raise SurdError(f"{file}: the picture cannot be read ({error}); {remedy}") from error
