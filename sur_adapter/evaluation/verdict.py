"""What a judge of generated pictures is, and what it says of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from PIL import Image
from torch import Tensor

from sur_adapter.evaluation.prompts import EvalPrompt
from surd.schemas.errors import SurdError

BATCH = 64


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


def open_picture(file: Path) -> Image.Image:
    """A picture file as RGB. SurdError if it cannot be read."""
    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        remedy = "remove it: a rendered picture is rendered again"
        raise SurdError(f"{file}: the picture cannot be read ({error}); {remedy}") from error
