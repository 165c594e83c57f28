"""Settings of the whole process that the speed and memory of the stages rest on."""

from __future__ import annotations

import gc
import logging

from PIL import Image


def set_up_process() -> None:
    """Call once where a process begins that runs stages: a command, a task of the flow, a process that fetches."""
    gc.set_threshold(10_000)  # rows live by the thousand, none in a cycle: looking for one took a tenth of fetch
    # Pillow's blocks of 16 MB stay with the process when freed, one heap a thread; over 32 MB they go back.
    Image.core.set_block_size(64 << 20)  # type: ignore[attr-defined]
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it writes a line for every image otherwise
