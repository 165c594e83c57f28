"""Selecting again from a build's scores, and comparing two selections: which keys came and went, and why."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from surd.pipeline.build.damage import blaming_damage, unfinished
from surd.pipeline.build.folder import Build, parquet_bytes, part_file
from surd.pipeline.build.open import open_build, recorded_config
from surd.pipeline.selection.choose import SELECTION, Selection, choose
from surd.schemas import Reason, SelectionRule, SurdError, load_config

NOT_THERE, UNKNOWN = "not_in_build", "unknown"  # why a key is absent, where no stage gave a Reason
_SCORES = ("clip_simple", "clip_complex")


@dataclass(frozen=True)
class Scores:
    """The scores of one record; None: unknown."""

    clip_simple: float | None = None
    clip_complex: float | None = None


@dataclass(frozen=True)
class Change:
    """A key that only one of two selections keeps, why the other lacks it, and its scores in both."""

    key: str
    simple: str | None
    reason: str
    detail: str
    a: Scores
    b: Scores


@dataclass(frozen=True)
class Side:
    """One of two selections: the scores of its kept keys, its rule, and its build where that is at hand."""

    path: str
    rule: SelectionRule
    kept: dict[str, Scores]
    build: Build | None


@dataclass(frozen=True, kw_only=True)
class SelectionDiff:
    """Two selections compared; ``both``: how many keys both keep."""

    both: int
    came: list[Change]
    went: list[Change]
    a: Side
    b: Side


@dataclass(frozen=True, kw_only=True)
class SelectionSummary:
    """What a rule keeps of a build; ``rejected`` by reason, ``written``: the file of the selection, if any."""

    build: str
    collected: int
    kept: int
    rejected: dict[str, int]
    rule: SelectionRule
    written: str | None


@dataclass(frozen=True)
class _Absence:
    """Why one selection lacks a key, and the key's scores there."""

    reason: str
    detail: str
    scores: Scores = Scores()


def reselect(root: str, params: dict[str, Any]) -> Selection:
    """What the build at ``root`` would keep with other ``select.*`` fields; writes nothing. Raises SurdError."""
    for name in params:
        if name != "select" and not name.startswith("select."):
            raise SurdError(
                f"--param is {name!r}: surd select changes only select.* fields; for others use surd build --param"
            )
    build, record = open_build(root)
    recorded_config(build, record)  # else a damaged record would be told as a wrong --param
    settings = load_config({"select": record.config.get("select", {})}, params).select
    if not (parts := build.part_count()):
        raise unfinished(build, "collect", 0)
    ledger = build.ledger("correct")
    for part in range(parts):
        if ledger.marker(part) is None:
            raise unfinished(build, "correct", part)
    with blaming_damage(build):
        return choose(build, settings, record.models.get("clip", "unknown"))


def summarize_selection(selection: Selection, root: str, written: str | None) -> SelectionSummary:
    """Counts of a selection of the build at ``root``; ``written`` is the file it was written to, if any."""
    rows = [row for of_part in selection.rows for row in of_part]
    reasons = Counter(row.reason for row in rows)
    return SelectionSummary(
        build=root,
        collected=len(rows),
        kept=reasons[None],
        rejected={reason.value: reasons[reason] for reason in Reason if reasons[reason]},
        rule=selection.rule,
        written=written,
    )


def check_target(out: str, root: str) -> None:
    """Raise SurdError when a selection cannot go to ``out``."""
    if not out.endswith(".parquet"):
        raise SurdError(f"--out is {out!r}: a selection is a Parquet file; end its name with .parquet")
    if Build(_split(out)[0]).path(_split(out)[1]) == Build(root).path(SELECTION):
        remedy = "change it with surd build --param select.FIELD=VALUE"
        raise SurdError(f"--out is {out!r}: this is the build's own selection; {remedy}")


def write_selection(selection: Selection, out: str, overwrite: bool = False) -> None:
    """Write the kept keys and the rule to ``out``; whole or not at all.

    Raises SurdError if that fails, or if the file is there with other content and ``overwrite`` is not set.
    """
    folder, name = _split(out)
    build = Build(folder)
    try:
        content = parquet_bytes(selection.table())
        if build.exists(name) and not overwrite and build.read_bytes(name) != content:
            raise SurdError(
                f"--out is {out!r}: that file exists and holds something else; use another name, or replace it with"
                " --overwrite"
            )
        build.write_bytes(name, content)
    except OSError as error:
        why = error.strerror or error.__class__.__name__
        raise SurdError(f"--out is {out!r}: it cannot be written ({why}); use another file") from None


def load_side(path: str) -> Side:
    """Read a selection, named by its file or by its build. Raises SurdError when there is none."""
    folder, name = _split(path) if path.endswith(".parquet") else (path, SELECTION)
    build = Build(folder)
    if not build.exists(name):
        remedy = "give a build, or the .parquet file of a selection"
        raise SurdError(f"--diff is {path!r}: there is no {build.path(name)}; {remedy}")
    try:
        with build.open(name) as file:
            table = pq.read_table(file, use_threads=False)
        rule = SelectionRule.model_validate_json((table.schema.metadata or {})[b"surd.rule"])
        columns = {column: table[column].to_pylist() for column in ("key", *_SCORES)}
    except (pa.ArrowException, ValidationError, KeyError, OSError) as error:
        why = f"{error.__class__.__name__} on reading it"
        raise SurdError(
            f"--diff is {path!r}: it is not a selection ({why}); give a file that surd build or surd select wrote"
        ) from None
    scores = (Scores(*both) for both in zip(*(columns[name] for name in _SCORES), strict=True))
    kept = dict(zip(columns["key"], scores, strict=True))
    is_build = name == SELECTION and build.exists("build.json")
    return Side(path, rule, kept, build if is_build else None)


def diff(path_a: str, path_b: str) -> SelectionDiff:
    """What B keeps and A does not (``came``), and what A keeps and B does not (``went``), with the reason of each row.

    The reason comes from the side that lacks the key: the verdict of its build if that is at hand, else its rule,
    which the file carries. Raises SurdError when either is not a selection.
    """
    a, b = load_side(path_a), load_side(path_b)
    prompts = _prompts((a, b), a.kept.keys() ^ b.kept.keys())
    return SelectionDiff(
        both=len(a.kept.keys() & b.kept.keys()),
        came=_changes(b, a, prompts, has_is_a=False),
        went=_changes(a, b, prompts, has_is_a=True),
        a=a,
        b=b,
    )


def _changes(has: Side, lacks: Side, prompts: dict[str, str], *, has_is_a: bool) -> list[Change]:
    """The keys that ``has`` keeps and ``lacks`` does not, by reason and key."""
    keys = has.kept.keys() - lacks.kept.keys()
    absences = _verdicts(lacks, keys) or _reapplied(lacks, has, keys)
    changes = []
    for key in keys:
        absence = absences.get(key) or _by_rule(lacks, has.kept[key])
        scores = (has.kept[key], absence.scores)
        a, b = scores if has_is_a else scores[::-1]
        changes.append(Change(key, prompts.get(key), absence.reason, absence.detail, a, b))
    return sorted(changes, key=lambda change: (change.reason, change.key))


def _by_rule(lacks: Side, scores: Scores) -> _Absence:
    """Why a key is not in a selection whose build is not at hand, as far as its rule shows."""
    if lacks.build:
        return _Absence(NOT_THERE, "that build has no such record")
    for threshold in lacks.rule.thresholds:
        if why := threshold.unmet(getattr(scores, threshold.column)):
            return _Absence(Reason.BELOW_THRESHOLD.value, why)
    return _Absence(UNKNOWN, "it meets that selection's thresholds; name its build to learn more")


def _verdicts(side: Side, keys: Iterable[str]) -> dict[str, _Absence]:
    """The keys that the side's build rejected, with its verdict on each."""
    columns = ["key", "reason", "detail", *_SCORES]
    return {
        row["key"]: _Absence(row["reason"], row["detail"] or "", Scores(*(_finite(row[name]) for name in _SCORES)))
        for row in _rows(side.build, "select", columns, set(keys))
        if row["reason"] is not None
    }


def _reapplied(lacks: Side, has: Side, keys: Iterable[str]) -> dict[str, _Absence]:
    """The same for a side that is only a file: its rule, applied again to the other's build.

    Empty unless that keeps exactly the file's keys, and unless the file's own thresholds leave a key unexplained.
    """
    reasons = {_by_rule(lacks, has.kept[key]).reason for key in keys}
    if lacks.build or not has.build or UNKNOWN not in reasons:
        return {}
    settings = load_config({"select": lacks.rule.settings}).select
    try:
        rows = [row for of_part in choose(has.build, settings, "").rows for row in of_part]
    except SurdError:
        if settings.filters:  # one of them is not installed here
            return {}
        raise
    if {row.key for row in rows if row.kept} != lacks.kept.keys():
        return {}
    return {
        row.key: _Absence(row.reason.value, row.detail or "", Scores(row.clip_simple, row.clip_complex))
        for row in rows
        if row.reason is not None and row.key in keys
    }


def _finite(score: float | None) -> float | None:
    return score if score is not None and math.isfinite(score) else None


def _prompts(sides: Iterable[Side], keys: Iterable[str]) -> dict[str, str]:
    """Key -> simple prompt, from whichever build is at hand."""
    keys = set(keys)
    return {
        row["key"]: row["simple"]
        for side in sides
        for row in _rows(side.build, "correct", ["key", "simple"], keys)
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
