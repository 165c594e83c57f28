"""Selecting again from a build's scores, and comparing two selections: which keys came and went, and why."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from surd.pipeline.build.damage import blaming_damage, unfinished
from surd.pipeline.build.folder import Build, part_file
from surd.pipeline.build.open import open_build, recorded_config
from surd.pipeline.build.scratch import temporary
from surd.pipeline.selection.choose import SELECTION, Selection, choose
from surd.pipeline.tables import Tables
from surd.schemas import Reason, SelectionRule, SurdError, load_config

NOT_THERE, UNKNOWN = "not_in_build", "unknown"  # why a key is absent, where no stage gave a Reason
_SCORES = ("clip_simple", "clip_complex")
_KEYS = pa.schema([("key", pa.string()), *((score, pa.float64()) for score in _SCORES)])


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
    """One of two selections: how many keys it keeps, its rule, and its build where that is at hand."""

    path: str
    rule: SelectionRule
    kept: int
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


@contextmanager
def reselect(root: str, params: dict[str, Any]) -> Iterator[Selection]:
    """What the build at ``root`` would keep with other ``select.*`` fields; writes nothing in it. Raises SurdError."""
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
    with blaming_damage(build), temporary("select") as tables:
        yield choose(build, settings, record.models.get("clip", "unknown"), tables)


def summarize_selection(selection: Selection, root: str, written: str | None) -> SelectionSummary:
    """Counts of a selection of the build at ``root``; ``written`` is the file it was written to, if any."""
    reasons = Counter(row.reason for of_part in selection.rows() for row in of_part)
    return SelectionSummary(
        build=root,
        collected=reasons.total(),
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
        content = selection.file()
        if build.exists(name) and not overwrite and build.read_bytes(name) != content.read_bytes():
            raise SurdError(
                f"--out is {out!r}: that file exists and holds something else; use another name, or replace it with"
                " --overwrite"
            )
        with content.open("rb") as chosen, build.writing(name) as file:
            shutil.copyfileobj(chosen, file)
    except OSError as error:
        why = error.strerror or error.__class__.__name__
        raise SurdError(f"--out is {out!r}: it cannot be written ({why}); use another file") from None


def load_side(path: str, tables: Tables, name: str) -> Side:
    """Read a selection, named by its file or by its build, into a table of its keys and scores.

    Raises SurdError when there is none.
    """
    folder, file_name = _split(path) if path.endswith(".parquet") else (path, SELECTION)
    build = Build(folder)
    if not build.exists(file_name):
        remedy = "give a build, or the .parquet file of a selection"
        raise SurdError(f"--diff is {path!r}: there is no {build.path(file_name)}; {remedy}")
    try:
        with build.open(file_name) as file, tables.writing(f"{name}_rows", _KEYS) as writer:
            opened = pq.ParquetFile(file)
            rule = SelectionRule.model_validate_json((opened.schema_arrow.metadata or {})[b"surd.rule"])
            for batch in opened.iter_batches(4096, columns=_KEYS.names, use_threads=False):
                for row in batch.select(_KEYS.names).to_pylist():
                    writer.add(row)
    except (pa.ArrowException, ValidationError, KeyError, OSError) as error:
        why = f"{error.__class__.__name__} on reading it"
        raise SurdError(
            f"--diff is {path!r}: it is not a selection ({why}); give a file that surd build or surd select wrote"
        ) from None
    scores = ", ".join(f"any_value({score}) AS {score}" for score in _SCORES)
    tables.make(name, f"SELECT key, {scores} FROM {name}_rows WHERE key IS NOT NULL GROUP BY key")
    is_build = file_name == SELECTION and build.exists("build.json")
    return Side(path, rule, tables.count(name), build if is_build else None)


def diff(path_a: str, path_b: str) -> SelectionDiff:
    """What B keeps and A does not (``came``), and what A keeps and B does not (``went``), with the reason of each row.

    The reason comes from the side that lacks the key: the verdict of its build if that is at hand, else its rule,
    which the file carries. Raises SurdError when either is not a selection. Memory is that of the rows that differ.
    """
    with temporary("diff") as tables:
        a, b = load_side(path_a, tables, "a"), load_side(path_b, tables, "b")
        only_b, only_a = _only(tables, "b", "a"), _only(tables, "a", "b")
        prompts = _prompts((a, b), only_a.keys() | only_b.keys())
        return SelectionDiff(
            both=a.kept - len(only_a),
            came=_changes(only_b, _absences(a, b, only_b, tables, "a"), prompts, has_is_a=False),
            went=_changes(only_a, _absences(b, a, only_a, tables, "b"), prompts, has_is_a=True),
            a=a,
            b=b,
        )


def _only(tables: Tables, name: str, other: str) -> dict[str, Scores]:
    """The keys of one table that are not in the other, with their scores."""
    tables.make(f"only_{name}", f"SELECT * FROM {name} ANTI JOIN {other} USING (key)")
    return {row["key"]: Scores(*(row[score] for score in _SCORES)) for row in tables.rows(f"only_{name}")}


def _absences(lacks: Side, has: Side, only: dict[str, Scores], tables: Tables, name: str) -> dict[str, _Absence]:
    """Why ``lacks``, whose keys are the table ``name``, does not keep these keys, which ``has`` keeps."""
    known = _verdicts(lacks, only) or _reapplied(lacks, has, only, tables, name)
    return {key: known.get(key) or _by_rule(lacks, scores) for key, scores in only.items()}


def _changes(
    only: dict[str, Scores], absences: dict[str, _Absence], prompts: dict[str, str], *, has_is_a: bool
) -> list[Change]:
    """The keys that one side keeps and the other does not, by reason and key."""
    changes = []
    for key, absence in absences.items():
        scores = (only[key], absence.scores)
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


def _reapplied(lacks: Side, has: Side, only: dict[str, Scores], tables: Tables, name: str) -> dict[str, _Absence]:
    """The same for a side that is only a file: its rule, applied again to the other's build.

    Empty unless that keeps exactly the file's keys, and unless the file's own thresholds leave a key unexplained.
    """
    reasons = {_by_rule(lacks, scores).reason for scores in only.values()}
    if lacks.build or not has.build or UNKNOWN not in reasons:
        return {}
    settings = load_config({"select": lacks.rule.settings}).select
    selection = choose(has.build, settings, "", tables)
    tables.make("unlike", f"SELECT key FROM kept ANTI JOIN {name} USING (key)")
    if tables.count("unlike") or tables.count("kept") != lacks.kept:
        return {}
    return {
        row.key: _Absence(row.reason.value, row.detail or "", Scores(row.clip_simple, row.clip_complex))
        for of_part in selection.rows()
        for row in of_part
        if row.reason is not None and row.key in only
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
