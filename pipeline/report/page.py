"""The report as one self-contained HTML page: round histogram bins, plain numbers."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from surd.pipeline.report.tallies import Series, ranked


@dataclass(frozen=True)
class Histogram:
    """Counts per bin of one or two series over shared, round bin edges."""

    edges: list[float]
    counts: dict[str, list[int]] | dict[str, list[float]]
    medians: dict[str, float]
    ticks: list[float]
    levels: list[int]
    capped: bool


def histogram(series: Mapping[str, Series], every: Series, least: float, cap: bool = False) -> Histogram | None:
    """Bins at least ``least`` wide with round edges, shared by all series; ``every``: these together. With ``cap`` the
    last bin also holds the longest 2 %, lest one freak flatten the rest. None when there is nothing to count."""
    if not len(every):
        return None
    low, most = every.at([0, len(every) - 1])
    high = every.quantile(0.98) if cap else most
    wanted = min(32, max(8, int(2 * math.sqrt(max(map(len, series.values()))))))
    step = max(least, _round_up((high - low) / wanted))
    start = math.floor(low / step + 1e-9)
    edges = [round(step * (start + i), 9) for i in range(math.floor(high / step + 1e-9) - start + 2)]
    counts = {name: _counts(numbers, edges) for name, numbers in series.items()}
    medians = {name: numbers.median() for name, numbers in series.items() if len(numbers)}
    return ticks(edges, counts, medians, capped=cap and most >= edges[-1])


def _counts(series: Series, edges: list[float]) -> list[int]:
    counts = np.zeros(len(edges) - 1, np.int64)
    for numbers in series.batches():
        counts += np.histogram(np.clip(numbers, edges[0], edges[-1]), edges)[0]
    return [int(count) for count in counts]


def ticks(
    edges: list[float], counts: dict[str, list[int]] | dict[str, list[float]], medians: dict[str, float],
    capped: bool = False,
) -> Histogram:  # fmt: skip
    """Binned counts (or shares) with round marks on both axes."""
    tick, peak = _round_up((edges[-1] - edges[0]) / 6), math.ceil(max(max(each) for each in counts.values()))
    first, last = math.ceil(edges[0] / tick - 1e-9), math.floor(edges[-1] / tick + 1e-9)
    level = max(1, int(_round_up(peak / 4)))
    return Histogram(
        edges=edges,
        counts=counts,
        medians=medians,
        ticks=[round(tick * i, 9) for i in range(first, last + 1)],
        levels=list(range(0, peak + level, level)),
        capped=capped,
    )


def _round_up(value: float) -> float:
    """The least of 1, 2, 2.5, 5 times a power of ten that is no less than ``value``; 0 for 0."""
    if value <= 0:
        return 0.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= value * (1 - 1e-9))


def page(**content: Any) -> str:
    """``report.html.jinja`` filled with ``content``: all escaped, all inline, no script but its own."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    env.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "sort_keys": True, "separators": (",", ":")}
    env.filters |= {"csp_hash": _csp_hash, "bytes": _bytes, "percent": _percent, "ranked": ranked}
    return env.get_template("report.html.jinja").render(content)


def _csp_hash(text: str) -> str:
    """The source expression that lets a Content-Security-Policy admit exactly this inline text."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def _bytes(count: float) -> str:
    """1234567 -> 1.2 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def _percent(part: float, whole: float) -> str:
    """A share that is never rounded to all or to nothing when it is neither."""
    share = 100 * part / whole if whole else 0.0
    if 0 < share < 0.5 or 99.5 <= share < 100:
        return "<1%" if share < 1 else ">99%"
    return f"{share:.0f}%"
