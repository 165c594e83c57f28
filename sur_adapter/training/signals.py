"""SIGTERM and Ctrl-C end a training after its current step, on every process alike."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from sur_adapter.training.config import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignal:
    """Context in which a signal no longer ends the process but is recorded in ``received`` (its number; 0: none).

    Processes must agree on the step they stop at: ``agreed`` is set by the trainer, which reduces ``received`` over
    all processes together with the losses.
    """

    def __init__(self) -> None:
        self.received = 0
        self.agreed = False
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():  # Python lets no other thread set handlers
            self._handlers = {number: signal.signal(number, self._record) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def raise_if_agreed(self, step: int) -> None:
        """Raise Stopped if any process has received a signal by ``step``."""
        if self.agreed:
            raise Stopped(step, self.received or signal.SIGTERM)

    def _record(self, number: int, frame: FrameType | None) -> None:
        self.received = number
