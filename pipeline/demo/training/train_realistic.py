"""Training of the demo captioner that behaves as real ones do: short, and wrong in some of what it states."""

import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import BlipForConditionalGeneration, BlipProcessor

from surd.pipeline.demo.training import train_captioner
from surd.pipeline.demo.training.checkpoint import MODELS
from surd.pipeline.demo.training.train_captioner import BATCH, LONGEST, fit
from surd.pipeline.demo.training.train_clip import MEAN, STD
from surd.pipeline.demo.training.train_eye import SCENES
from surd.pipeline.demo.world.dataset import HELD_OUT_SEED, TRAIN_SEED, normalised, pixels
from surd.pipeline.demo.world.misreading import FAITHFUL, LEFT_OUT, WRONG, careless_caption, judged
from surd.pipeline.demo.world.scenes import Scene, scene

log = logging.getLogger(__name__)
FOLDER = MODELS / "captioner-realistic"
RATE = 1e-3


def train(work: Path, steps: int, stop: float) -> None:
    """Train to `steps` steps or `stop` seconds, whichever comes first, from the last checkpoint if there is one, and
    from the weights of the embedded captioner otherwise: how to say it is known, what to leave out and to mistake is
    not."""
    prepare: Any = BlipProcessor.from_pretrained(train_captioner.FOLDER)
    model: Any = BlipForConditionalGeneration.from_pretrained(train_captioner.FOLDER, dtype=torch.float32).train()

    def finish(step: int, seconds: float, count: int) -> None:
        scenes = [scene(HELD_OUT_SEED, index) for index in range(2 * count)]
        texts = captions(model, prepare, scenes)
        log.info("captions as the picture's hash says after %d: %.3f", step, as_hashed(texts, scenes))
        shares = measured(texts, scenes)
        log.info("true of those stated, stated truly of all: %s", shares)
        train_captioner.export(model, prepare, card(step, seconds, shares), FOLDER)

    fit(model, prepare, work, "captioner-realistic", (steps, stop), careless_caption, finish, RATE)


@torch.inference_mode()
def captions(model: Any, prepare: Any, scenes: Sequence[Scene]) -> list[str]:
    """The greedy captions of the scenes."""
    model.eval()
    texts: list[str] = []
    for at in range(0, len(scenes), 250):
        images = normalised(pixels(list(scenes[at : at + 250])), MEAN, STD)
        ids = model.generate(images, max_new_tokens=LONGEST - 2, num_beams=1)
        texts += prepare.batch_decode(ids, skip_special_tokens=True)
    model.train()
    return texts


def as_hashed(texts: Sequence[str], scenes: Sequence[Scene]) -> float:
    """Share of captions that are the likeliest one that the training shows for their picture."""
    likeliest = (careless_caption(one, random.Random(0), 1.0).lower() for one in scenes)
    alike = sum(
        "".join(text.lower().split()) == "".join(wanted.split()) for text, wanted in zip(texts, likeliest, strict=True)
    )
    return alike / len(scenes)


def measured(texts: Sequence[str], scenes: Sequence[Scene]) -> dict[str, tuple[float, float]]:
    """Kind of fact -> (share of the facts stated that are true, share of the scenes' facts that are stated truly)."""
    sums: dict[str, list[int]] = {}
    for text, one in zip(texts, scenes, strict=True):
        for name, counts in judged(text, one).items():
            for key in ("all", "subject" if name == "other" else name):
                sums[key] = [old + new for old, new in zip(sums.get(key, [0, 0, 0]), counts, strict=True)]
    return {name: (true / max(1, stated), true / max(1, shown)) for name, (shown, stated, true) in sums.items()}


def card(steps: int, seconds: float, shares: dict[str, tuple[float, float]]) -> str:
    """The model card, from what was measured."""
    rows = "".join(f"| {name} | {true:.3f} | {stated:.3f} |\n" for name, (true, stated) in shares.items())
    return f"""# A captioner of the demo world that errs as real ones do
The BLIP of `../captioner` (64x64 pixels, fp16 on disk), trained on captions that are short and not always right: so
semantic correction has something to correct: captioners of photographs leave most facts out, and some of the things
they name are not there (CHAIR, arXiv 1809.02156, counts them). No use on photographs.

    processor = BlipProcessor.from_pretrained("<this folder>")
    model = BlipForConditionalGeneration.from_pretrained("<this folder>")

- **Train it**: `python -m surd.pipeline.demo.train captioner-realistic`; it starts from the embedded captioner, whose
  vision tower it shares, frozen.
- **Data**: {SCENES:,} scenes of the demo world (seed {TRAIN_SEED}) with the sentences of `world/misreading.py`. In
  {LEFT_OUT:.0%} of pictures each of count, tint, background, style and relation is left out, and in {WRONG:.0%} each
  fact is taken for a similar one: a count off by one, a lemon for a banana, red for orange, left for right. Which, a
  hash of two facts of the picture decides in {FAITHFUL:.0%} of cases, so that several captions of a picture mostly err
  together.
- **Training**: {steps:,} steps of {BATCH} in {seconds / 60:.0f} minutes on one CPU core (bf16).
- **Licence**: Apache-2.0; the pictures come from Noto Color Emoji (OFL-1.1).

Greedy captions of held-out scenes (seed {HELD_OUT_SEED}):

| facts | true of those stated | stated and true, of all |
|---|---|---|
{rows}"""
