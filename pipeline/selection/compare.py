"""Turns an existing build's scores into another selection, and two selections into what came and went, and why."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from surd.pipeline.build.folder import Build, part_file
from surd.pipeline.build.open import open_build
from surd.pipeline.selection.choose import SELECTION, Selection, choose
from surd.schemas import Reason, SelectionRule, SurdError, load_config

NOT_THERE, UNKNOWN = "not_in_build", "unknown"  # why a key is absent, where no Reason of a stage says it
_SCORES = ("clip_simple", "clip_complex")
_Scores = dict[str, float | None]


def reselect(root: str, params: dict[str, Any]) -> Selection:
    """What the build at ``root`` would keep with other ``select.*`` fields; writes nothing. Raises SurdError."""
    for name in params:
        if name != "select" and not name.startswith("select."):
            raise SurdError(
                f"--param is {name!r} and surd select changes only select.*; for the rest: surd build --param"
            )
    build, record = open_build(root)
    settings = load_config({"select": record.config.get("select", {})}, params).select
    parts = build.part_count()
    missing = [part for part in range(parts) if build.marker("correct", part) is None]
    if missing or not parts:
        raise SurdError(f"build is {root!r} and its scores are not finished; run the same surd build again")
    return choose(build, settings, record.models.get("clip", "unknown"))


def summary_of(selection: Selection, root: str, written: str | None) -> dict[str, Any]:
    """``collected``, ``kept``, ``rejected`` by reason, the thresholds, notes, and where the selection was written."""
    rows = [row for of_part in selection.rows for row in of_part]
    reasons = Counter(row.reason for row in rows)
    return {
        "build": root,
        "collected": len(rows),
        "kept": reasons[None],
        "rejected": {reason.value: reasons[reason] for reason in Reason if reasons[reason]},
        "thresholds": [threshold.model_dump(mode="json") for threshold in selection.rule.thresholds],
        "notes": selection.rule.notes,
        "selection": written,
    }


def check_target(out: str, root: str) -> None:
    """Raises SurdError when ``out`` is no place for a selection."""
    if not out.endswith(".parquet"):
        raise SurdError(f"--out is {out!r} and a selection is a Parquet file; end its name with .parquet")
    if Build(_split(out)[0]).path(_split(out)[1]) == Build(root).path(SELECTION):
        raise SurdError(f"--out is {out!r}, the build's own selection; to change that: surd build --param select....")


def write_selection(selection: Selection, out: str) -> None:
    """Write the kept keys and the rule to ``out``; whole or not at all. Raises SurdError."""
    folder, name = _split(out)
    try:
        Build(folder).write_table(name, selection.table())
    except OSError as error:
        why = error.strerror or error.__class__.__name__
        raise SurdError(f"--out is {out!r} and cannot be written ({why}); name another file") from None


@dataclass(frozen=True)
class Side:
    """One of two selections: what it keeps with which scores, by which rule, and its build where that is at hand."""

    path: str
    rule: SelectionRule
    kept: dict[str, _Scores]
    build: Build | None


def load_side(path: str) -> Side:
    """A selection, named by its file or by its build. Raises SurdError when there is none."""
    folder, name = _split(path) if path.endswith(".parquet") else (path, SELECTION)
    build = Build(folder)
    if not build.exists(name):
        mend = "give a build, or the .parquet file of a selection"
        raise SurdError(f"--diff is {path!r} and there is no {build.path(name)}; {mend}")
    try:
        with build.open(name) as file:
            table = pq.read_table(file, use_threads=False)
        rule = SelectionRule.model_validate_json((table.schema.metadata or {})[b"surd.rule"])
        columns = {column: table[column].to_pylist() for column in ("key", *_SCORES)}
    except (pa.ArrowException, ValidationError, KeyError, OSError) as error:
        why = f"{error.__class__.__name__} on reading it"
        raise SurdError(
            f"--diff is {path!r} and holds no selection ({why}); give a file that surd build or surd select wrote"
        ) from None
    scores = [dict(zip(_SCORES, both, strict=True)) for both in zip(*(columns[name] for name in _SCORES), strict=True)]
    kept = dict(zip(columns["key"], scores, strict=True))
    is_build = name == SELECTION and build.exists("build.json")
    return Side(path, rule, kept, build if is_build else None)


def diff(path_a: str, path_b: str) -> dict[str, Any]:
    """``came`` (kept by B, not by A) and ``went`` (by A, not by B): each a count, counts by reason, and rows.

    A row says why the side that lacks the key has it not: by that side's own verdict where its build is at hand, else
    by its rule, which the file carries. Raises SurdError when either is no selection.
    """
    a, b = load_side(path_a), load_side(path_b)
    prompts = _prompts((a, b), a.kept.keys() ^ b.kept.keys())
    told: dict[str, Any] = {"both": len(a.kept.keys() & b.kept.keys())}
    for name, has, lacks in (("came", b, a), ("went", a, b)):
        keys = has.kept.keys() - lacks.kept.keys()
        verdicts = _verdicts(lacks, keys) or _retraced(lacks, has, keys)
        rows = []
        for key in keys:
            reason, detail, scores = verdicts.get(key) or _by_rule(lacks, has.kept[key])
            of_a, of_b = (has.kept[key], scores) if has is a else (scores, has.kept[key])
            row = {"key": key, "simple": prompts.get(key), "reason": reason, "detail": detail, "a": of_a, "b": of_b}
            rows.append(row)
        rows.sort(key=lambda row: (row["reason"], row["key"]))
        counts = Counter(row["reason"] for row in rows)
        told[name] = {"count": len(rows), "by_reason": dict(sorted(counts.items())), "rows": rows}
    for name, side in (("a", a), ("b", b)):
        told[name] = {"path": side.path, "kept": len(side.kept), "rule": side.rule.model_dump(mode="json")}
    return told


def _by_rule(lacks: Side, scores: _Scores) -> tuple[str, str, _Scores]:
    """Why a key is not in a selection whose build is not at hand, as far as its rule tells."""
    nothing: _Scores = dict.fromkeys(_SCORES)
    if lacks.build:
        return NOT_THERE, "that build has no such record", nothing
    for threshold in lacks.rule.thresholds:
        if why := threshold.unmet(scores[threshold.column]):
            return Reason.BELOW_THRESHOLD.value, why, nothing
    return UNKNOWN, "it meets that selection's thresholds; name its build to learn more", nothing


def _verdicts(side: Side, keys: Iterable[str]) -> dict[str, tuple[str, str, _Scores]]:
    """Key -> reason, detail and scores of the keys that the side's build rejected."""
    wanted, found = set(keys), {}
    columns = ["key", "reason", "detail", *_SCORES]
    for row in _rows(side.build, "select", columns, wanted):
        if row["reason"] is not None:
            known = {name: row[name] for name in _SCORES if row[name] is not None and math.isfinite(row[name])}
            scores = dict.fromkeys(_SCORES) | known
            found[row["key"]] = (row["reason"], row["detail"] or "", scores)
    return found


def _retraced(lacks: Side, has: Side, keys: Iterable[str]) -> dict[str, tuple[str, str, _Scores]]:
    """The same for a side that is but a file: its rule, applied again to the other's build. Nothing unless that keeps
    exactly the file's keys, and only where the file's own thresholds do not tell enough."""
    told = {_by_rule(lacks, has.kept[key])[0] for key in keys}
    if lacks.build or not has.build or UNKNOWN not in told:
        return {}
    settings = load_config({"select": lacks.rule.settings}).select
    rows = [row for of_part in choose(has.build, settings, "").rows for row in of_part]
    if {row.key for row in rows if row.kept} != lacks.kept.keys():
        return {}
    return {
        row.key: (
            row.reason.value,
            row.detail or "",
            {"clip_simple": row.clip_simple, "clip_complex": row.clip_complex},
        )
        for row in rows
        if row.reason is not None and row.key in keys
    }


def _prompts(sides: Iterable[Side], keys: Iterable[str]) -> dict[str, str]:
    """Key -> simple prompt, from whichever build is at hand."""
    wanted = set(keys)
    return {
        row["key"]: row["simple"]
        for side in sides
        for row in _rows(side.build, "correct", ["key", "simple"], wanted)
        if row["simple"]
    }


def _rows(build: Build | None, stage: str, columns: list[str], keys: set[str]) -> Iterable[dict[str, Any]]:
    if build is None or not keys:
        return
    for part in range(build.part_count()):
        if build.exists(part_file(stage, part)):
            table = build.read_table(part_file(stage, part), columns=columns)
            here = [key in keys for key in table["key"].to_pylist()]
            yield from table.filter(pa.array(here, pa.bool_())).to_pylist()


def _split(path: str) -> tuple[str, str]:
    """A file's folder and name, of a path or a URL."""
    folder, slash, name = path.rpartition("/")
    return folder or slash or ".", name
