"""Turns a selection, or the difference of two, into tables on a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from surd.pipeline.selection.compare import NOT_THERE, UNKNOWN
from surd.schemas import Reason, Threshold

_MEANING = {NOT_THERE: "the other build has no such record", UNKNOWN: "the other selection does not say"}


def print_selection(console: Console, summary: dict[str, Any]) -> None:
    """Thresholds, then counts by reason that add up to what was collected."""
    for line in [*_rule_lines(summary), *summary["notes"]]:
        console.print(escape(line), highlight=False, soft_wrap=True)
    table = Table("rows", "count", "meaning", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    table.add_row("collected", f"{summary['collected']:,}", "source records")
    for reason, count in summary["rejected"].items():
        table.add_row(reason, f"{count:,}", Reason(reason).meaning)
    table.add_row("kept", f"{summary['kept']:,}", "samples")
    console.print()
    console.print(table)
    if summary["selection"]:
        console.print(f"\nselection: {escape(summary['selection'])}", highlight=False, soft_wrap=True)


def print_diff(console: Console, told: dict[str, Any], limit: int) -> None:
    """Both rules, what came and went by reason, then at most ``limit`` rows of each."""
    for name in ("a", "b"):
        side = told[name]
        rule = "; ".join(_rule_lines(side["rule"])) or "no threshold"
        console.print(f"{name.upper()}  {escape(side['path'])}: {side['kept']:,} kept", highlight=False, soft_wrap=True)
        console.print(f"   {escape(rule)}", highlight=False, soft_wrap=True)
    console.print(f"\n{told['both']:,} in both, {told['came']['count']:,} came, {told['went']['count']:,} went")
    for name, where, why in (("came", "only in B", "why A has them not"), ("went", "only in A", "why B has them not")):
        change = told[name]
        if not change["count"]:
            continue
        table = Table(name, "count", why, box=None, pad_edge=False)
        table.columns[1].justify = "right"
        for reason, count in change["by_reason"].items():
            table.add_row(reason, f"{count:,}", _MEANING.get(reason) or Reason(reason).meaning)
        console.print()
        console.print(table)
        if limit:
            console.print()
            console.print(_rows(change["rows"][:limit]))
        if change["count"] > limit:
            console.print(f"and {change['count'] - limit:,} more {where}: --limit, or --json for all", highlight=False)


def _rows(rows: list[dict[str, Any]]) -> Table:
    table = Table("key", "simple prompt", "simple A", "B", "complex A", "B", "why", box=None, pad_edge=False)
    for column in table.columns[2:6]:
        column.justify = "right"
    table.columns[0].no_wrap = True
    for row in rows:
        scores = [_score(row[side][f"clip_{kind}"]) for kind in ("simple", "complex") for side in ("a", "b")]
        table.add_row(row["key"], escape((row["simple"] or "-")[:80]), *scores, escape(row["detail"] or row["reason"]))
    return table


def _score(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}"


def _rule_lines(rule: dict[str, Any]) -> list[str]:
    """The thresholds that can reject anything, each as a line."""
    thresholds = [Threshold.model_validate(threshold) for threshold in rule["thresholds"]]
    return [
        f"{each.column} >= {each.least:.4g}" + (f" ({each.origin})" if each.origin else "")
        for each in thresholds
        if each.least > -1
    ]
