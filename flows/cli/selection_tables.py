"""``surd select`` on a terminal: a selection, or the difference of two, as tables and as JSON documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from surd.pipeline.selection.compare import NOT_THERE, UNKNOWN, Change, SelectionDiff, SelectionSummary, Side
from surd.pipeline.selection.pictures import limits_of_rule
from surd.schemas import Reason, SelectionRule

_MEANING = {
    NOT_THERE: "the other build has no such record",
    UNKNOWN: "the other selection's file does not show why",
}


def summary_to_json(summary: SelectionSummary) -> dict[str, Any]:
    """The document that ``--json`` prints."""
    return {
        "build": summary.build,
        "collected": summary.collected,
        "kept": summary.kept,
        "rejected": summary.rejected,
        "thresholds": [threshold.model_dump(mode="json") for threshold in summary.rule.thresholds],
        "limits": {limit.name: limit.value for limit in limits_of_rule(summary.rule)},
        "notes": summary.rule.notes,
        "selection": summary.written,
    }


def diff_to_json(compared: SelectionDiff) -> dict[str, Any]:
    """The document that ``--diff --json`` prints."""
    document: dict[str, Any] = {"both": compared.both}
    for name, changes in (("came", compared.came), ("went", compared.went)):
        rows = [asdict(change) for change in changes]
        document[name] = {"count": len(changes), "by_reason": _by_reason(changes), "rows": rows}
    for name, side in (("a", compared.a), ("b", compared.b)):
        document[name] = {"path": side.path, "kept": side.kept, "rule": side.rule.model_dump(mode="json")}
    return document


def print_selection(console: Console, summary: SelectionSummary) -> None:
    """Thresholds, then counts by reason that add up to what was collected."""
    for line in [*_rule_lines(summary.rule), *summary.rule.notes]:
        console.print(line, highlight=False, soft_wrap=True)
    table = Table("rows", "count", "meaning", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    table.add_row("collected", f"{summary.collected:,}", "source records")
    for reason, count in summary.rejected.items():
        table.add_row(reason, f"{count:,}", Reason(reason).meaning)
    table.add_row("kept", f"{summary.kept:,}", "samples")
    console.print()
    console.print(table)
    if summary.written:
        console.print(f"\nselection: {summary.written}", highlight=False, soft_wrap=True)


def print_diff(console: Console, compared: SelectionDiff, limit: int) -> None:
    """Both rules, what came and went by reason, then at most ``limit`` rows of each."""
    _print_side(console, "A", compared.a)
    _print_side(console, "B", compared.b)
    came, went = len(compared.came), len(compared.went)
    console.print(f"\n{compared.both:,} in both, {came:,} came, {went:,} went")
    _print_changes(console, "came", compared.came, "only in B", "why A lacks them", limit)
    _print_changes(console, "went", compared.went, "only in A", "why B lacks them", limit)


def _print_side(console: Console, name: str, side: Side) -> None:
    rule = "; ".join(_rule_lines(side.rule)) or "no threshold"
    console.print(f"{name}  {side.path}: {side.kept:,} kept", highlight=False, soft_wrap=True)
    console.print(f"   {rule}", highlight=False, soft_wrap=True)


def _print_changes(console: Console, name: str, changes: Sequence[Change], where: str, why: str, limit: int) -> None:
    if not changes:
        return
    table = Table(name, "count", why, box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for reason, count in _by_reason(changes).items():
        table.add_row(reason, f"{count:,}", _MEANING.get(reason) or Reason(reason).meaning)
    console.print()
    console.print(table)
    if limit:
        console.print()
        console.print(_rows(changes[:limit]))
    if len(changes) > limit:
        more = f"and {len(changes) - limit:,} more {where}: raise --limit to see them, or use --json for all"
        console.print(more, highlight=False)


def _by_reason(changes: Sequence[Change]) -> dict[str, int]:
    return dict(sorted(Counter(change.reason for change in changes).items()))


def _rows(changes: Sequence[Change]) -> Table:
    table = Table("key", "simple prompt", "simple A", "B", "complex A", "B", "why", box=None, pad_edge=False)
    for column in table.columns[2:6]:
        column.justify = "right"
    table.columns[0].no_wrap = True
    for change in changes:
        a, b = change.a, change.b
        scores = _texts(a.clip_simple, b.clip_simple, a.clip_complex, b.clip_complex)
        table.add_row(change.key, (change.simple or "-")[:80], *scores, change.detail or change.reason)
    return table


def _texts(*scores: float | None) -> list[str]:
    return ["-" if score is None else f"{score:.3f}" for score in scores]


def _rule_lines(rule: SelectionRule) -> list[str]:
    """The thresholds that can reject anything, and the limits on the picture, each as a line."""
    return [
        f"{each.column} >= {each.least:.4g}" + (f" ({each.origin})" if each.origin else "")
        for each in rule.thresholds
        if each.least > -1
    ] + [f"the picture's {limit}" for limit in limits_of_rule(rule)]
