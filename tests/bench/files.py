"""make bench-files: outcomes of a folder of hostile files, and the memory and time that fetching and decoding it takes.

The folder is written, then collected, fetched and decoded by a process of its own as in a build, threads included.
Its peak is the most resident memory that the system counted (VmHWM), interpreter and libraries included.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from surd.pipeline.acquisition.inspect_image import inspect
from surd.pipeline.build.folder import Build
from surd.pipeline.rejection import Rejected
from surd.pipeline.runner.plan import units
from surd.pipeline.runner.process_setup import set_up_process
from surd.pipeline.runner.run_unit import finish, run_unit
from surd.pipeline.stages import BY_NAME
from surd.pipeline.stages.decode import decode_miniature
from surd.schemas import Decoded, SourceRecord, load_config
from surd.schemas.config import FetchConfig
from surd.schemas.shard_format.pixels import to_rgb
from tests.bench.figures import Figure
from tests.pipeline.broken_files import BrokenFile, write_folder

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """Result of a run over the folder: rows by file name (None: no row), exit status, peak memory."""

    rows: dict[str, Decoded | None]
    status: int
    peak_mb: int
    stderr: str

    def wrong(self, files: Iterable[BrokenFile]) -> list[str]:
        """Files with another outcome than required: one of their reasons and a detail, or kept."""
        return [file.name for file in files if not _as_required(file, self.rows[file.name])]


def _as_required(file: BrokenFile, row: Decoded | None) -> bool:
    if row is None:
        return False
    return row.reason in file.reasons and bool(row.detail) if file.reasons else row.kept


def run(folder: Path, root: Path, names: Iterable[str]) -> RunResult:
    """Collect, fetch and decode a folder in a process of its own, into a build at ``root``."""
    command = [sys.executable, "-m", "tests.bench.files", "--folder", str(folder), "--build", str(root)]
    process = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    rows: dict[str, Decoded | None] = dict.fromkeys(names)
    if process.returncode == 0:
        build = Build(str(root))
        for part in range(build.part_count()):
            records, decoded = build.read_rows("collect", part, SourceRecord), build.read_rows("decode", part, Decoded)
            rows |= {record.source_id: row for record, row in zip(records, decoded, strict=True)}
    peak = int(process.stdout.split()[-1]) if process.returncode == 0 else 0
    return RunResult(rows=rows, status=process.returncode, peak_mb=peak, stderr=process.stderr)


def _up_to_decode(folder: str, root: str) -> None:
    set_up_process()
    config = load_config({}, {"source": f"folder:{folder}"})
    for name in ("collect", "fetch", "decode"):
        stage = BY_NAME[name]
        for unit in range(units(stage, Build(root))):
            run_unit(stage, unit, root, config)
        finish(stage, root, config)
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak
    print(int(peak.group(1)) // 1024)


def _seconds(data: bytes) -> float:
    """Processor time that a file takes from its first byte to its pixels, or to the reason why it has none."""
    started = time.process_time()
    with suppress(Rejected):
        facts, _ = inspect(data, FetchConfig())
        decode_miniature(data, facts.ext, (facts.width, facts.height), FetchConfig().max_pixels)
        to_rgb(data)
    return time.process_time() - started


def main() -> int:
    """Print the outcomes and one JSON line of every figure beside its goal; 1 if one misses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", help=argparse.SUPPRESS)  # the process that is measured
    parser.add_argument("--build", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.folder:
        _up_to_decode(args.folder, args.build)
        return 0
    console = Console()
    with tempfile.TemporaryDirectory() as root:
        files = write_folder(Path(root) / "broken", laborious=True)
        result = run(Path(root) / "broken", Path(root) / "build", files)
    wrong = result.wrong(files.values())
    seconds = {file.name: _seconds(file.data) for file in files.values()}
    _show(console, files, result)
    slowest = sorted(files, key=lambda name: -seconds[name])[:5]
    console.print("slowest: " + ", ".join(f"{name} {seconds[name]:.2f} s" for name in slowest), highlight=False)
    for name in wrong:
        row, goal = result.rows[name], "/".join(files[name].reasons) or "kept"
        console.print(f"[red]{name}[/] is {(row and row.reason) or 'kept'}, not {goal}: {row and row.detail}")
    figures = [
        Figure("files_that_end_otherwise", len(wrong), "<=", 0),
        Figure("crashes", int(result.status != 0), "<=", 0),
        Figure("seconds_of_the_slowest_file", seconds[slowest[0]], "<=", 5),
        Figure("peak_mb", result.peak_mb or None, "<=", 512),
    ]
    missed = [figure.name for figure in figures if not figure.met]
    document = {figure.name: figure.document() for figure in figures}
    print(json.dumps({"files": len(files), "figures": document, "missed": missed}))
    return 1 if missed else 0


def _show(console: Console, files: dict[str, BrokenFile], result: RunResult) -> None:
    table = Table("outcome", "files", "for example")
    outcomes = {name: (row.reason or "kept") if row else "no row" for name, row in result.rows.items() if name in files}
    for outcome, many in Counter(outcomes.values()).most_common():
        name = next(name for name in files if outcomes[name] == outcome)
        row = result.rows[name]
        table.add_row(outcome, str(many), f"{name}: {row.detail}" if row and row.detail else name)
    console.print(table)
    console.print(f"peak {result.peak_mb} MB; exit status {result.status}", highlight=False)
    if result.status:
        console.print(result.stderr[-2000:], markup=False)


if __name__ == "__main__":
    sys.path.insert(0, str(_ROOT))
    sys.exit(main())
