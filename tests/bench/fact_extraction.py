"""make bench-facts: how much of what people say a sentence states is among the facts that are read from it.

Two public sets, by default their halves for tuning under ``../shared/facts``: propositions of DSG-1k (arXiv 2310.18235)
and pairs of SugarCrepe (arXiv 2306.14610). Their scorer, ``score.py`` beside them, is run as it is. Another half is
measured with ``--dsg FILE --sugarcrepe FILE``. The time is that of extraction beside the bare parser: the same
components over the same texts, turn by turn in one process.
"""

from __future__ import annotations

import argparse
import ast
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from surd.flows.cli.facts import facts_to_json
from surd.pipeline.facts.parse import extract, load_parser
from surd.schemas.config import FactsConfig
from tests.bench.figures import Figure

_SHARED = Path(__file__).parents[3] / "shared" / "facts"
_TIMED_TEXTS = 1500
_TURNS = 5


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--dsg", type=Path, default=_SHARED / "dsg_dev.jsonl", help="texts with propositions")
    arguments.add_argument(
        "--sugarcrepe", type=Path, default=_SHARED / "sugarcrepe_dev.jsonl", help="pairs of captions"
    )
    arguments.add_argument("--scorer", type=Path, default=_SHARED / "score.py", help="the sets' own scorer")
    options = arguments.parse_args()
    for file in (options.dsg, options.sugarcrepe, options.scorer):
        if not file.is_file():
            print(
                f"{file} is missing: bench-facts measures against it; put the sets there, or name files",
                file=sys.stderr,
            )
            return 2
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as folder:
        dsg, by_kind = score(options.scorer, "dsg", options.dsg, Path(folder))
        sugarcrepe, by_swap = score(options.scorer, "sugarcrepe", options.sugarcrepe, Path(folder))
    ratio, seconds = time_beside_parser(texts_of(options.dsg) + texts_of(options.sugarcrepe)[:_TIMED_TEXTS])
    console.print(kinds_table(by_kind))
    for line in by_swap:
        console.print(line, highlight=False)
    console.print(f"extraction {seconds * 1000:.2f} ms a text, {ratio:.2f} times the bare parser", highlight=False)
    entity = by_kind.get("entity", {})
    figures = [
        Figure("dsg_f1", dsg["f1"], ">=", 0.78),
        Figure("dsg_entity_recall", entity.get("recall"), ">=", 0.95),
        Figure("dsg_entity_precision", entity.get("precision"), ">=", 0.80),
        Figure("sugarcrepe_told_apart", sugarcrepe["told_apart"], ">=", 0.985),
        Figure("sugarcrepe_worst_kind", sugarcrepe["worst"], ">=", 0.95),
        Figure("time_beside_parser", ratio, "<=", 1.3),
    ]
    table = Table("figure", "value", "goal", "", box=None, pad_edge=False)
    for figure in figures:
        value = "-" if figure.value is None else f"{figure.value:.4f}"
        table.add_row(figure.name, value, figure.goal, "" if figure.met else "missed")
    console.print(table)
    print(json.dumps({figure.name: figure.document() for figure in figures}))
    return 0 if all(figure.met for figure in figures) else 1


def texts_of(file: Path) -> list[str]:
    """The texts of either set, each once."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    return list(dict.fromkeys(row[name] for row in rows for name in ("text", "caption", "foil") if name in row))


def score(scorer: Path, of: str, gold: Path, folder: Path) -> tuple[dict[str, float], Any]:
    """The scorer's last line, and what it says of each kind: for ``dsg`` figures, for ``sugarcrepe`` lines."""
    facts = folder / f"{of}.jsonl"
    with facts.open("w", encoding="utf-8") as out:
        for sentence in extract(texts_of(gold)):
            out.write(json.dumps(facts_to_json(sentence)) + "\n")
    command = [sys.executable, str(scorer), of, str(gold), str(facts)]
    *lines, last = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return json.loads(last), _by_kind(lines) if of == "dsg" else lines


def _by_kind(lines: Iterable[str]) -> dict[str, dict[str, float]]:
    return {kind: ast.literal_eval(figures.strip()) for kind, _, figures in (line.partition(" ") for line in lines)}


def kinds_table(by_kind: dict[str, dict[str, float]]) -> Table:
    table = Table("kind", "recall", "of", "precision", "said", box=None, pad_edge=False)
    for kind, figures in by_kind.items():
        table.add_row(kind, *(str(figures.get(name, "-")) for name in ("recall", "of", "precision", "said")))
    return table


def time_beside_parser(texts: list[str]) -> tuple[float, float]:
    """How many times as long as the bare parser extraction takes (median of paired turns), and seconds a text."""
    parser = load_parser(FactsConfig().parser)
    extract(texts[:64])
    ratios, ours = [], []
    for _ in range(_TURNS):
        bare = _seconds(lambda: list(parser.pipe(texts, batch_size=128)))
        ours.append(_seconds(lambda: extract(texts)))
        ratios.append(ours[-1] / bare)
    return statistics.median(ratios), statistics.median(ours) / len(texts)


def _seconds(work: Callable[[], object]) -> float:
    """Seconds of this process's own work: other processes on the machine do not count."""
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    sys.exit(main())
