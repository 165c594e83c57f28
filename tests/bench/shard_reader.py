"""One epoch of shards read as in a training: python -m tests.bench.shard_reader PATTERN.

The last line is JSON: seconds from opening the dataset to its first batch, and the peak memory of the process. Imports
are not counted: torch alone takes longer than everything here.
"""

from __future__ import annotations

import json
import re
import sys
import time
from itertools import islice
from pathlib import Path

from sur_adapter.data.shard_dataset import ShardDataset


def main(pattern: str, batches: int | None = None) -> None:
    began = time.perf_counter()
    loader = ShardDataset(pattern).loader(batch_size=8, image_size=64, seed=0, epochs=1)
    first = 0.0
    for _ in islice(loader, batches):
        first = first or time.perf_counter() - began
    # Not getrusage: its peak includes the memory of the parent process.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak
    print(json.dumps({"first_batch_s": first, "peak_mb": int(peak[1]) / 1024}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None)
