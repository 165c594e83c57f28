"""Turns SIGTERM and Ctrl-C into a training that ends after its step, on every process alike."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import torch
from accelerate import Accelerator

from sur_adapter.training.config import Stopped
from sur_adapter.training.objective import Losses

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Context in which a signal no longer ends the process; ``asked`` is true once any process has got one.

    Processes must agree on the step they stop at, so the question travels with the losses, which they reduce anyway.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.asked = False
        self._signal = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():  # nobody else may handle signals
            self._before = {number: signal.signal(number, self._hear) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def mean(self, losses: Losses) -> dict[str, float]:
        """``losses`` as numbers, their mean over all processes; and whether any process shall stop."""
        values = torch.stack([*losses.values(), torch.full_like(losses["loss"], float(self._signal))])
        *means, asked = self.accelerator.reduce(values, "mean").tolist()
        self.asked = bool(asked)
        return dict(zip(losses, means, strict=True))

    def leave(self, step: int) -> None:
        """Raise Stopped when somebody asked."""
        if self.asked:
            raise Stopped(step, self._signal or signal.SIGTERM)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
