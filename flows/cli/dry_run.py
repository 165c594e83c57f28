"""``surd build --dry-run``: what a build would do, as tables or as JSON."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from surd.flows.forecast import Forecast, ModelState
from surd.pipeline.inspection.remaining import StageWork
from surd.pipeline.sources.count import SourceCount
from surd.schemas.printable import json_line, printable

NOTHING_RAN = "not known: nothing of this build has run yet"


def print_forecast(console: Console, forecast: Forecast) -> None:
    """Folder, records, download, minutes, then a table of models and one of stages."""
    lines = {
        "folder": f"{forecast.out} ({'a build, which goes on' if forecast.exists else 'a new build'})",
        "source": forecast.source,
        "profile": forecast.profile or "none",
        "records": records_text(forecast.records, forecast.limit),
        "download": _download_text(forecast),
        "minutes": minutes_text(forecast),
    }
    if forecast.remembered:
        shown = (f"{name}={json_line(value)}" for name, value in forecast.remembered.items())
        lines["remembered"] = ", ".join(shown)
    for name, value in lines.items():
        console.print(printable(f"{name:10} {value}"), highlight=False, soft_wrap=True, markup=False)
    console.print()
    models = Table("model of", "state", "size", "which", "needed by", box=None, pad_edge=False)
    models.columns[2].justify = "right"
    models.columns[3].overflow = "fold"
    for model in forecast.models:
        size = f"{model.size / 1e6:,.1f} MB" if model.size else "-"
        models.add_row(model.role, state(model), size, printable(model.ref), ", ".join(model.stages))
    console.print(models)
    console.print()
    if forecast.stages is not None:
        stages = Table("stage", "done", "would run", "seconds", box=None, pad_edge=False)
        for column in stages.columns[1:]:
            column.justify = "right"
        for work in forecast.stages:
            stages.add_row(work.stage, f"{work.done:,}" if work.done else "-", _to_run_text(work), _seconds_text(work))
        console.print(stages)
    for note in forecast.notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True, markup=False)
    console.print("nothing was written or downloaded; the same command without --dry-run builds", highlight=False)


def forecast_to_json(forecast: Forecast) -> dict[str, Any]:
    """The same as one document; null: not known."""
    seconds = forecast.seconds
    return {
        "out": forecast.out,
        "exists": forecast.exists,
        "profile": forecast.profile,
        "source": forecast.source,
        "remembered": forecast.remembered,
        "records": {"count": forecast.records.records, "all": forecast.records.complete, "limit": forecast.limit},
        "download_bytes": forecast.download,
        "minutes": None if seconds is None else round(seconds / 60, 2),
        "minutes_leave_out": forecast.untimed,
        "models": [
            {
                "role": model.role,
                "model": model.ref,
                "resolves_to": model.resolved,
                "state": state(model),
                "bytes": model.size or None,
                "stages": list(model.stages),
                "needed": model.needed,
                "fault": str(model.fault) if model.fault else None,
            }
            for model in forecast.models
        ],
        "stages": forecast.stages
        and [
            {"stage": work.stage, "done": work.done, "to_run": work.to_run, "seconds": work.seconds}
            for work in forecast.stages
        ],
        "notes": forecast.notes,
    }


def records_text(count: SourceCount, limit: int | None) -> str:
    """``12,000``, ``at least 80,000 (the time to count was up)`` or ``not known until they are collected``."""
    most = "" if limit is None else f", of which at most {limit:,}"
    if count.records is None:
        return f"not known until they are collected{most}"
    if count.complete:
        return f"{count.records:,}"
    return f"at least {count.records:,} (not all were counted){most}"


def minutes_text(forecast: Forecast) -> str:
    """About how long, by what this build took before."""
    if forecast.stages is None:
        return "not known"
    if not forecast.to_run:
        return "0: all is done"
    if (seconds := forecast.seconds) is None:
        return NOTHING_RAN
    rest = f"; without {', '.join(forecast.untimed)}, not run in this build yet" if forecast.untimed else ""
    return f"about {seconds / 60:.1f}, by what this build took before{rest}"


def state(model: ModelState) -> str:
    """Of a model: what is to be said of where it is."""
    if model.fault:
        return "missing"
    if not model.checked:
        return "not checked, no time"
    return "present" if model.present else "on the hub"


def _download_text(forecast: Forecast) -> str:
    pictures = "pictures: not known"
    if forecast.download is not None:
        pictures = f"pictures: {forecast.download / 1e9:,.2f} GB"
    elif forecast.records.records is None:
        pictures = "pictures: not known until they are collected"
    hub = [model.ref for model in forecast.models if model.needed and state(model) == "on the hub"]
    return f"{pictures}; models: {', '.join(hub) if hub else 'none'}"


def _to_run_text(work: StageWork) -> str:
    return "all" if work.to_run is None else f"{work.to_run:,}" if work.to_run else "-"


def _seconds_text(work: StageWork) -> str:
    if work.is_done:
        return "-"
    return "not known" if work.seconds is None else f"{work.seconds:,.1f}"
