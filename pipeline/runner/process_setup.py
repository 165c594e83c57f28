"""Settings of the whole process that the stages' speed, memory and last bits rest on."""

from __future__ import annotations

import gc
import logging
import os

from PIL import Image


def set_up_process() -> None:
    """Call once where a process begins that runs stages: a command, a task of the flow, a process that fetches."""
    gc.set_threshold(10_000)  # rows live by the thousand, none in a cycle: looking for one took a tenth of fetch
    # Pillow's blocks of 16 MB stay with the process when freed, one heap a thread; over 32 MB they go back.
    Image.core.set_block_size(64 << 20)  # type: ignore[attr-defined]
    # MKL otherwise adds up in another order with other threads (a Ray worker has one) or a smaller batch: CLIP scores
    # then differ by 6e-8. This is its mode for equal bits; it reads the variable at the first product of two matrices.
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it writes a line for every image otherwise
