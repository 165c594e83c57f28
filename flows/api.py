"""surd from Python: build, iterate over records, select with other thresholds, export.

    from surd.flows import api

    api.build("data/mine", source="folder:my_images", params={"rewrite.enabled": False})
    for record in api.records("data/mine"):
        print(record.key, record.reason or "kept", record.simple)

Every user error is a SurdError. Nothing is printed, unless a listener does. What each does and takes: docs/api.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from surd.flows.build_request import BuildRequest, request_build
from surd.flows.forecast import Forecast
from surd.flows.forecast import forecast as _forecast
from surd.flows.listener import SILENT, Listener
from surd.flows.run_in_process import run_build
from surd.pipeline.acquisition.tombstones import Tombstones
from surd.pipeline.build.folder import Build
from surd.pipeline.build.open import open_build
from surd.pipeline.dataset.export import export as _export
from surd.pipeline.dataset.records import BuiltRecord, iterate_records
from surd.pipeline.selection.choose import Selection
from surd.pipeline.selection.compare import check_target, reselect, write_selection
from surd.schemas import SurdError

__all__ = [
    "BuiltRecord",
    "Forecast",
    "Listener",
    "Selection",
    "SurdError",
    "build",
    "export",
    "forecast",
    "records",
    "select",
]


def build(
    out: str,
    *,
    source: str | None = None,
    profile: str | None = None,
    params: Mapping[str, Any] | None = None,
    refresh: bool = False,
    overwrite: bool = False,
    listener: Listener = SILENT,
) -> dict[str, Any]:
    """Build a dataset in ``out``, or continue one, as ``surd build`` does; returns the summary of the build.

    The summary has ``collected``, ``kept``, ``rejected`` (by reason), ``shards``, ``report``, ``run_units`` and
    ``skipped_units``. ``params``: config fields, which may be dotted. A folder remembers what it was built with, and
    what is not given stays as it was. ``refresh``: the source is read again. Raises SurdError; NothingKept, one of
    them, when no sample is left.
    """
    request = _request(out, source, profile, params, overwrite=overwrite)
    return run_build(replace(request, refresh=refresh), listener)


def forecast(
    out: str,
    *,
    source: str | None = None,
    profile: str | None = None,
    params: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Forecast:
    """What ``build`` with the same arguments would do, in at most ten seconds; writes and downloads nothing."""
    return _forecast(_request(out, source, profile, params, overwrite=overwrite))


def records(out: str, *, selection: Selection | None = None, kept: bool | None = None) -> Iterator[BuiltRecord]:
    """The records of a build, in their order: all, or those that are ``kept`` (True) or rejected (False).

    With a ``selection`` as it would have them, else as the build has. Pictures are read when they are asked for.
    Raises SurdError where there is no build, it is not finished, or a file of it is damaged.
    """
    opened = open_build(out)[0]
    verdicts = selection.rows() if selection else None
    return (record for record in iterate_records(opened, verdicts) if kept is None or record.kept == kept)


@contextmanager
def select(out: str, *, file: str | None = None, overwrite: bool = False, **settings: Any) -> Iterator[Selection]:
    """What a build would keep with other fields of ``select``: ``min_clip_simple=0.2``. The build does not change.

    Use it in a with block: the selection lasts as long. ``file``: a .parquet file to write it to, which ``surd select
    --diff`` reads. ``rows()`` gives the verdicts on all records, partition by partition. Raises SurdError.
    """
    if file:
        check_target(file, out)
    with reselect(out, {f"select.{name}": value for name, value in settings.items()}) as selection:
        if file:
            write_selection(selection, file, overwrite)
        yield selection


def export(out: str, layout: str, folder: str, *, overwrite: bool = False) -> int:
    """Write the dataset of a build to a new folder in the layout of another tool; returns how many samples there are.

    ``layout``: as ``surd export --to`` has it. What ``surd forget`` removed stays out. Raises SurdError.
    """
    dataset = Build(out)
    return _export(dataset, layout, Build(folder), overwrite=overwrite, keeps=Tombstones.read(dataset).keeps)


def _request(
    out: str, source: str | None, profile: str | None, params: Mapping[str, Any] | None, *, overwrite: bool
) -> BuildRequest:
    parameters = dict(params or {}) | ({"source": source} if source else {})
    return request_build(out=out, profile=profile, parameters=parameters, overwrite=overwrite)
