"""Experiment trackers (TensorBoard, Weights & Biases) for losses and validation pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from accelerate import Accelerator
from PIL import Image

from sur_adapter.training.config import TrainConfig
from surd.schemas.errors import SurdError

PROJECT = "surd"


class Tracking:
    """The tracker that the config names, if any, through accelerate; only on the main process."""

    def __init__(self, accelerator: Accelerator, config: TrainConfig) -> None:
        self.accelerator = accelerator
        self.on = config.tracker != "none"
        if not self.on:
            return
        if not accelerator.log_with:  # accelerate silently drops trackers that are not installed
            raise SurdError(
                f"--tracker: {config.tracker!r} is not installed; pip install {config.tracker}, or use none"
            )
        settings = {name: value if value is not None else "" for name, value in config.model_dump(mode="json").items()}
        accelerator.init_trackers(PROJECT, config=settings)

    def log(self, values: dict[str, float], step: int) -> None:
        if self.on:
            self.accelerator.log(values, step=step)

    def picture(self, name: str, file: Path, step: int) -> None:
        if self.on and self.accelerator.is_main_process:
            with Image.open(file) as image:
                pixels = np.asarray(image.convert("RGB"))[None]
            for tracker in self.accelerator.trackers:
                layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                tracker.log_images({name: pixels}, step=step, **layout)
