"""A build's rows as one DuckDB table, read from the Parquet files of its stages some thousand rows at a time.

DuckDB keeps to a memory limit and writes what is beyond it to a temporary folder, so a build of any size fits. (A table
in a database file took half again as much processor time to make.) A join of all stages at once would hold all but one
of them in memory; partitions are joined one after the other, since a record's rows lie in the same partition of every
stage.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from surd.pipeline.build.damage import unfinished
from surd.pipeline.build.folder import Build, part_file, part_number
from surd.pipeline.build.part_columns import columns_of, read_columns
from surd.pipeline.view.fields import ROWS
from surd.schemas import Scored
from surd.schemas.arrow import arrow_schema
from surd.schemas.shard_format.buckets import USUAL_SIZES

MEMORY = "256MB"  # what DuckDB may hold; beyond it, it writes to the temporary folder
_ROWS_AT_ONCE = 10_240
#: Columns of the table: name -> (SQL type, SQL over the stages' rows).
_COLUMNS: dict[str, tuple[str, str]] = {
    "source": ("VARCHAR", "of_collect.source"),
    "host": ("VARCHAR", "nullif(regexp_extract(lower(of_collect.url), '^https?://(?:[^/?#@]*@)?([^/?#:]+)', 1), '')"),
    "url": ("VARCHAR", "left(of_collect.url, 2000)"),
    "author": ("VARCHAR", "of_collect.author"),
    "licence": ("VARCHAR", "of_collect.licence"),
    "prompt": ("VARCHAR", "coalesce(of_fetch.prompt, of_collect.prompt)"),
    "width": ("BIGINT", "of_fetch.width"),
    "height": ("BIGINT", "of_fetch.height"),
    "short": ("BIGINT", "least(of_fetch.width, of_fetch.height)"),
    "aspect": ("DOUBLE", "of_fetch.width / nullif(of_fetch.height, 0)"),
    "size": ("BIGINT", "of_fetch.size"),
    "ext": ("VARCHAR", "of_fetch.ext"),
    "tool": ("VARCHAR", "of_fetch.tool"),
    "offset": ("BIGINT", 'of_fetch."offset"'),
    "sha256": ("VARCHAR", "of_fetch.sha256"),
    "picture": ("BOOLEAN", "coalesce(of_fetch.\"offset\" IS NOT NULL AND of_decode.status = 'kept', false)"),
    "complex": ("VARCHAR", "of_clean.complex"),
    "language": ("VARCHAR", "of_clean.language"),
    "tokens": ("BIGINT", "of_clean.clip_tokens"),
    "cluster": ("VARCHAR", "of_dedup.cluster"),
    "prompt_cluster": ("VARCHAR", "of_dedup.prompt_cluster"),
    "distance": ("BIGINT", "of_dedup.distance"),
    "nsfw": ("DOUBLE", "of_safety.nsfw_image"),
    "sharpness": ("DOUBLE", "of_score.sharpness"),
    "brisque": ("DOUBLE", "of_score.brisque"),
    **{name: ("DOUBLE", f"of_score.{name}") for name in Scored.only_if_measured if name != "brisque"},
    "simple": ("VARCHAR", "of_correct.simple"),
    "words": ("BIGINT", "len(regexp_extract_all(of_correct.simple, '\\S+'))"),
    "method": ("VARCHAR", "of_correct.method"),
    "correction": ("VARCHAR", "of_correct.decision"),
    "repairs": ("BIGINT", "len(of_correct.repairs)"),
    "score.simple": ("DOUBLE", "of_correct.clip_simple"),
    "score.complex": ("DOUBLE", "coalesce(of_correct.clip_complex, of_score.clip_complex)"),
    "gain": ("DOUBLE", "of_correct.clip_simple - coalesce(of_correct.clip_complex, of_score.clip_complex)"),
    "like": ("VARCHAR", "of_select.cluster"),
    "similarity": ("DOUBLE", "of_select.similarity"),
    "search_text": (
        "VARCHAR",
        "lower(concat_ws(chr(10), of_correct.simple, of_clean.complex, of_fetch.prompt, of_collect.prompt, key))",
    ),
}
_VERDICT = ("status", "reason", "rejected_by", "detail")


@dataclass
class Records:
    """The table ``record`` of one build, in the order of collection; ``rowid`` is a record's place in it."""

    build: Build
    temporary: tempfile.TemporaryDirectory[str]
    database: duckdb.DuckDBPyConnection
    count: int = 0
    files: dict[str, list[Path]] = field(default_factory=dict)
    signature: tuple[Any, ...] = ()
    stages: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return Path(self.temporary.name)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own for one request."""
        return self.database.cursor()

    def relation(self, name: str) -> str:
        """SQL that reads the rows of a stage, with every column it may have, or a table of that name."""
        return name if name in ("decision", "beside") else _scan([self.template(name), *self.files.get(name, [])])

    def rows_of(self, key: str, part: int) -> dict[str, dict[str, Any]]:
        """Each stage's row of a record, without embeddings."""
        found = {}
        for stage in ROWS:
            file = self._file(stage, part)
            if file is None:
                continue
            relation = _scan([self.template(stage), file])
            names = ", ".join(f'"{name}"' for name in _columns(stage))
            rows = self.cursor().execute(f"SELECT {names} FROM {relation} WHERE key = ?", [key]).fetchall()
            if rows:
                found[stage] = dict(zip(_columns(stage), rows[0], strict=True))
        return found

    def close(self) -> None:
        self.database.close()
        self.temporary.cleanup()

    def _file(self, stage: str, part: int) -> Path | None:
        return next((file for file in self.files.get(stage, []) if part_number(file.name) == part), None)

    def template(self, stage: str) -> Path:
        return self.folder / f"{stage}.parquet"


def signature_of(build: Build) -> tuple[Any, ...]:
    """What changes whenever rows of the build do: names, sizes and times of its Parquet files."""
    found: list[tuple[Any, ...]] = []
    for stage in ROWS:
        for name, size in sorted(build.sizes(stage).items()):
            if name.endswith(".parquet") and part_number(name) is not None:
                path = build.local_path(f"{stage}/{name}")
                found.append((stage, name, size, path.stat().st_mtime_ns if path and path.exists() else 0))
    return tuple(found)


def load_records(build: Build, max_nsfw: float) -> Records:
    """Read a build's rows. Pictures above ``max_nsfw`` are veiled, and so are copies of such. Raises SurdError."""
    signature = signature_of(build)
    temporary = tempfile.TemporaryDirectory(prefix="surd-view-", ignore_cleanup_errors=True)
    settings: Any = {"memory_limit": MEMORY, "threads": 2, "temp_directory": f"{temporary.name}/spilled"}
    records = Records(build, temporary, duckdb.connect(config=settings), signature=signature)
    try:
        _fill(records, max_nsfw)
    except BaseException:
        records.close()
        raise
    return records


def _fill(records: Records, max_nsfw: float) -> None:
    build, database = records.build, records.database
    for stage, model in ROWS.items():
        schema = arrow_schema(model)
        names = [name for name in schema.names if "embedding" not in name]
        pq.write_table(
            pa.schema([schema.field(name) for name in names]).empty_table(), records.folder / f"{stage}.parquet"
        )
    parts: dict[int, set[str]] = {}
    for stage, name, _, _ in records.signature:
        parts.setdefault(part_number(name) or 0, set()).add(stage)
    last = build.part_count()
    parts = {
        part: stages for part, stages in sorted(parts.items()) if "collect" in stages and (not last or part < last)
    }
    if not parts:
        raise unfinished(build, "collect", 0)
    columns = ", ".join(f'"{name}" {kind}' for name, (kind, _) in _COLUMNS.items())
    verdict = (
        "key VARCHAR, part INTEGER, status VARCHAR, reason VARCHAR, stage VARCHAR, detail VARCHAR, reached VARCHAR"
    )
    database.execute(f"CREATE TABLE record ({verdict}, {columns}, bucket VARCHAR, veiled BOOLEAN)")
    decision = "key VARCHAR, verdict VARCHAR, reason VARCHAR, simple VARCHAR, keeps BOOLEAN"
    database.execute(f"CREATE TABLE decision ({decision})")
    database.execute(
        "CREATE TABLE beside (key VARCHAR, status VARCHAR, reason VARCHAR, simple VARCHAR, changed BOOLEAN)"
    )
    for stages, group in _groups(parts, build):
        files = {stage: [_local(records, stage, part) for part in group] for stage in stages}
        for stage, some in files.items():
            records.files.setdefault(stage, []).extend(some)
        _add(records, files, max_nsfw)
    records.stages = [stage for stage in ROWS if stage in records.files]
    records.count = database.execute("SELECT count(*) FROM record").fetchall()[0][0]
    if records.count:
        database.execute(
            "UPDATE record SET veiled = true WHERE NOT veiled AND cluster IN (SELECT cluster FROM record WHERE veiled)"
        )


def _groups(parts: dict[int, set[str]], build: Build) -> Iterator[tuple[list[str], list[int]]]:
    """Neighbouring partitions that have the same stages, as many as are read at once."""
    marker = build.marker("collect", 0)
    at_once = max(1, _ROWS_AT_ONCE // max(1, marker.rows // max(1, marker.parts))) if marker else 1
    group: list[int] = []
    for part in parts:
        if group and (parts[part] != parts[group[0]] or len(group) == at_once):
            yield [stage for stage in ROWS if stage in parts[group[0]]], group
            group = []
        group.append(part)
    yield [stage for stage in ROWS if stage in parts[group[0]]], group


def _add(records: Records, files: dict[str, list[Path]], max_nsfw: float) -> None:
    """Add the records of some partitions; where their texts are so long that memory ends, half of them at a time."""
    try:
        records.database.execute(_insert(records, files, max_nsfw))
    except duckdb.OutOfMemoryException:
        count = len(files["collect"])
        if count == 1:
            raise
        for half in (slice(0, count // 2), slice(count // 2, count)):
            _add(records, {stage: some[half] for stage, some in files.items()}, max_nsfw)


def _insert(records: Records, files: dict[str, list[Path]], max_nsfw: float) -> str:
    """SQL that adds the records of some partitions, all of which have these stages.

    Sorted: without, DuckDB kept their order too, but held so much for it that 50,000 rows spilled and took a minute.
    """
    latest = list(files)[-1]
    needed = {latest, *re.findall(r"\bof_(\w+)\.", " ".join(expression for _, expression in _COLUMNS.values()))}
    joins = []
    for stage in (stage for stage in ROWS if stage in needed):
        of_stage = files.get(stage, [])
        if stage == "collect":
            scan = _scan([records.template(stage), *of_stage], ", filename = true, file_row_number = true")
            joins.append(f"{scan} AS of_collect")
        else:
            joins.append(f"LEFT JOIN {_scan([records.template(stage), *of_stage])} AS of_{stage} USING (key)")
    kept = "kept" if latest == "select" else "pending"
    verdict = ", ".join(f"of_{latest}.{name} AS v_{name}" for name in _VERDICT)
    columns = ", ".join(f'{expression} AS "{name}"' for name, (_, expression) in _COLUMNS.items())
    finite = ", ".join(
        f'CASE WHEN isfinite("{name}") THEN "{name}" END' if kind == "DOUBLE" else f'"{name}"'
        for name, (kind, _) in _COLUMNS.items()
    )
    nearest = " ".join(f"WHEN {at} THEN '{width} × {height}'" for at, (width, height) in enumerate(USUAL_SIZES, 1))
    ratios = ", ".join(f"abs(ln(aspect) - ln({width}.0 / {height}))" for width, height in USUAL_SIZES)
    bucket = f"CASE list_position([{ratios}], list_min([{ratios}])) {nearest} END"
    veiled = f"coalesce(v_reason = 'nsfw', false) OR coalesce(nsfw > {float(max_nsfw)!r}, false)"
    status = f"CASE v_status WHEN 'rejected' THEN 'rejected' WHEN 'kept' THEN '{kept}' ELSE 'pending' END"
    return f"""
        INSERT INTO record
        SELECT key, part, {status}, v_reason, v_rejected_by, v_detail, '{latest}', {finite}, {bucket}, {veiled}
        FROM (
            SELECT key, CAST(regexp_extract(of_collect.filename, 'part-(\\d+)', 1) AS INTEGER) AS part,
                of_collect.file_row_number AS place, {verdict}, {columns}
            FROM {" ".join(joins)}
        )
        ORDER BY part, place"""


def _local(records: Records, stage: str, part: int) -> Path:
    """The Parquet file of a part; of a build elsewhere a copy without embeddings."""
    build, relative = records.build, part_file(stage, part)
    path = build.local_path(relative)
    if path is not None:
        return path
    copy = records.folder / relative
    copy.parent.mkdir(exist_ok=True)
    names = [name for name in columns_of(build, stage, part) if "embedding" not in name]
    pq.write_table(read_columns(build, stage, part, names), copy)
    return copy


def _columns(stage: str) -> list[str]:
    return [name for name in arrow_schema(ROWS[stage]).names if "embedding" not in name]


def _scan(files: list[Path], more: str = "") -> str:
    """SQL that reads Parquet files; the first is a template without rows, which has every column a stage may have."""
    names = ", ".join("'" + str(file).replace("'", "''") + "'" for file in files)
    return f"read_parquet([{names}], union_by_name = true{more})"
