"""Results of bench-effect for people: tables for the terminal, and the document."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from sur_adapter.evaluation.config import Interval
from sur_adapter.evaluation.prompts import CATEGORIES
from surd.pipeline.demo.world.wordings import TIERS
from tests.bench.effect_arms import FLOOR
from tests.bench.effect_scores import Effect

Rows = list[tuple[str, ...]]
MEAN = "mean of action, colour, counting and subject, each of equal weight"


def overview(effect: Effect) -> Rows:
    """Head and one row per arm: on each tier the mean, its difference from the base and that of KID."""
    head = ["arm"]
    for tier in effect.tiers:
        head += [f"{tier}: mean", f"{tier}: - base", f"{tier}: KID - base"]
    rows = [tuple(head)]
    for name in effect.outcomes:
        compared = FLOOR in effect.outcomes and name != FLOOR
        cells = [name]
        for tier in effect.tiers:
            cells.append(_cell(effect.mean(name, tier), 100))
            cells.append(_cell(effect.difference(name, FLOOR, tier), 100, "+") if compared else "")
            cells.append(_cell(effect.kid(name, tier, FLOOR), 1000, "+") if compared else "")
        rows.append(tuple(cells))
    return rows


def categories(effect: Effect, tier: str) -> Rows:
    """Head and one row per arm: every category of the tier's prompts, KID and, where trained, what it took."""
    places = effect.tiers[tier].places
    names = [name for name in CATEGORIES if name in places] + [name for name in places if name not in CATEGORIES]
    rows: Rows = [("arm", *names, "KID x1000")]
    for name in effect.outcomes:
        cells = (_cell(effect.mean(name, tier, [category]), 100) for category in names)
        rows.append((name, *cells, _cell(effect.kid(name, tier), 1000)))
    return rows


def differences(effect: Effect) -> Rows:
    """Head and one row per comparison: the difference of two arms on every tier."""
    rows: Rows = [("difference", *effect.tiers)]
    for one in effect.comparisons:
        intervals = (effect.difference(one.arm, one.other, tier) for tier in effect.tiers)
        rows.append((f"{one.arm} - {one.other}", *(_cell(interval, 100, "+") for interval in intervals)))
    return rows


def trainings(effect: Effect) -> Rows:
    """Head and one row per trained arm: its weights and its time."""
    trained = [one for one in effect.outcomes.values() if one.arm.training is not None]
    return [
        ("arm", "trained weights", "training seeds", "s per training"),
        *((one.arm.name, f"{one.weights:,}", str(len(one.seeds)), f"{one.training_seconds:.0f}") for one in trained),
    ]


def tables(effect: Effect) -> Iterator[Table]:
    """The tables for the terminal."""
    yield _table(f"Semantic accuracy, %: {MEAN}; with half of the 95% interval", overview(effect))
    for tier in effect.tiers:
        yield _table(f"Tier {tier}, by category, %", categories(effect, tier))
    yield _table("Differences of arms, points, with half of the 95% interval", differences(effect))


def document(effect: Effect, command: str, args: Mapping[str, Any]) -> str:
    """Markdown: the set-up, the tables, the figures."""
    counts = {tier: sum(map(len, one.places.values())) for tier, one in effect.tiers.items()}
    trained = [len(one.seeds) for one in effect.outcomes.values() if one.arm.training is not None]
    lines = [
        "# What the adapter does, and which part of it",
        "",
        f"Written by `{command}` on {_hardware()}, PyTorch {torch.__version__}.",
        "",
        f"Prompts of scenes never trained on, in tiers: {', '.join(f'{count} of {t}' for t, count in counts.items())}"
        f" (world {args['prompt_seed']}). Pictures per prompt: {args['noise_seeds']}; the same noise in every arm,"
        f" {args['drawing_steps']} steps, guidance {args['guidance_scale']:g}. Trained arms:"
        f" {max(trained, default=0)} training seeds, each with"
        f" {', '.join(f'{name} {value}' for name, value in args['recipe'].items())}, except as its row says.",
        "A picture is right in a category when the judge, a classifier that no training saw, finds every such fact of",
        "the prompt. ± is half of the 95% interval: a bootstrap over training seeds and prompts, paired where arms are",
        "compared; for KID a jackknife over prompts. KID is in the judge's features, not Inception's, times 1000:",
        "compare it within this document.",
        "",
        *(f"- **Tier {tier}**: {what}" for tier, what in TIERS.items() if tier in effect.tiers),
        "",
        f"## All tiers: {MEAN}",
        "",
        *_markdown(overview(effect)),
        "",
        *(f"- **{one.arm.name}**: {one.arm.note}" for one in effect.outcomes.values() if one.arm.note),
        "",
        *_section("Differences between arms, in points", differences(effect)),
    ]
    for tier, one in effect.tiers.items():
        lines += _section(f"Tier {tier}, by category", categories(effect, tier))
        if one.real:
            real = ", ".join(f"{name} {100 * share:.1f}" for name, share in one.real.items())
            lines += [f"The judge on the true pictures of these prompts: {real}.", ""]
    lines += _section("What was trained", trainings(effect))
    figures = [(one.name, f"{one.value:.3f}", one.goal, "yes" if one.met else "**no**") for one in effect.figures()]
    lines += _section("Goals", [("figure", "value", "goal", "met"), *figures])
    return "\n".join(lines)


def _section(title: str, rows: Rows) -> list[str]:
    return [f"## {title}", "", *_markdown(rows), ""] if len(rows) > 1 else []


def _cell(interval: Interval | None, scale: float, sign: str = "") -> str:
    if interval is None:
        return ""
    return f"{scale * interval.mean:{sign}.1f} ± {scale * (interval.high - interval.low) / 2:.1f}"


def _table(title: str, rows: Rows) -> Table:
    table = Table(*rows[0], title=title, title_justify="left")
    for row in rows[1:]:
        table.add_row(*row)
    return table


def _markdown(rows: Iterable[tuple[str, ...]]) -> list[str]:
    head, *rest = rows
    return ["| " + " | ".join(cells) + " |" for cells in (head, ("---",) * len(head), *rest)]


def _hardware() -> str:
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    cpu = [line.split(":")[1].strip() for line in _cpu_lines() if line.startswith("model name")]
    return f"{len(cpu)} cores of {cpu[0]}" if cpu else platform.processor() or platform.machine()


def _cpu_lines() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
