"""Judge ``vqa:NAME``: whether a picture shows its prompt, by a model that answers questions about pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from sur_adapter.evaluation.prompts import EvalPrompt
from sur_adapter.evaluation.verdict import BATCH, Verdict, open_picture
from surd.pretrained.vqa import load_vqa
from surd.schemas.errors import SurdError, one_line
from surd.schemas.model_ref import resolve_model, shown


class VqaJudge:
    """P(yes) to "Does this picture show ...?" of the whole prompt, as VQAScore (arXiv 2404.01291) asks; 0 to 1.

    The model is one that the pipeline knows as a witness: BLIP or ViLT made to answer questions, or a chat model that
    sees pictures (``surd.pretrained.vqa``). How well it knows what it is asked is not known here: compare its figures
    with each other, and see what it says of the real pictures, where the prompts have them.
    """

    unit = "VQA score"
    accuracy: dict[str, float] | None = None

    def __init__(self, name: str, device: str = "cpu") -> None:
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        self._name = name
        try:
            self._model = load_vqa(resolve_model(name), device)
        except Exception as error:  # what is damaged or none of these makes transformers raise all sorts
            raise SurdError(
                f"--judge: 'vqa:{name}' cannot be loaded ({one_line(error, 300)}); write vqa: and the folder or hub id"
                " of a BLIP or ViLT that answers questions, or of a chat model that sees pictures"
            ) from error

    def check(self, prompts: Sequence[EvalPrompt]) -> None:
        """SurdError if the longest prompt is longer than the model can read."""
        longest = max(prompts, key=lambda one: len(one.prompt))
        ((chance,),) = self._model.probabilities([Image.new("RGB", (64, 64))], [[question(longest.prompt)]])
        if chance is None:
            raise self._too_long(longest)

    def __call__(self, files: Sequence[Path], prompts: Sequence[EvalPrompt]) -> tuple[list[Verdict], Tensor | None]:
        verdicts = []
        for start in range(0, len(files), BATCH):
            batch = slice(start, start + BATCH)
            images = [open_picture(file) for file in files[batch]]
            questions = [[question(one.prompt)] for one in prompts[batch]]
            for one, (chance,) in zip(prompts[batch], self._model.probabilities(images, questions), strict=True):
                if chance is None:
                    raise self._too_long(one)
                verdicts.append(Verdict(score=chance))
        return verdicts, None

    def _too_long(self, one: EvalPrompt) -> SurdError:
        return SurdError(
            f"--judge: 'vqa:{self._name}' cannot read a prompt of {len(one.prompt):,} characters"
            f" ({shown(one.prompt)}); name a judge that reads more, or leave such prompts out"
        )


def question(prompt: str) -> str:
    """The question about a prompt. Without the quotes that VQAScore puts around it: with them BLIP models told right
    prompts from wrong ones less well (the demo's: in 71% of pairs, not 88%)."""
    return f"Does this picture show {prompt.rstrip(' .')}?"
