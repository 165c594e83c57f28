"""What the tests of fetch share: pictures, and a build of one partition from a folder, a server or records."""

from __future__ import annotations

import io
import random
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from surd.pipeline.build.folder import Build
from surd.pipeline.models import Models
from surd.pipeline.sources import open_source
from surd.pipeline.stages.decode import decode
from surd.pipeline.stages.fetch import fetch
from surd.schemas import BuildConfig, Decoded, Marker, Pair, Reason, Row, SourceRecord
from surd.schemas.config import ModelsConfig


def picture(format_="PNG", size=(48, 32), mode="RGB", seed=0, **options) -> bytes:
    noise = random.Random(seed).randbytes(size[0] * size[1] * len(mode))
    buffer = io.BytesIO()
    Image.frombytes(mode, size, noise).save(buffer, format_, **options)
    return buffer.getvalue()


def from_folder(root: Path, files: dict[str, bytes], **settings) -> dict[str, Pair]:
    """Fetch a folder of these files; rows by file name."""
    folder = root / "images"
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return run(root, BuildConfig(source=f"folder:{folder}", fetch=settings))


def from_server(root: Path, server, paths: list[str], **settings) -> dict[str, Pair]:
    """Fetch these paths from a server; rows by path."""
    config = BuildConfig(source=f"gallery:{server.url}/api", fetch=settings)
    records = [open_source(config)._record({"id": path, "url": path}) for path in paths]
    return run(root, config, records)


def run(root: Path, config: BuildConfig, records: list[SourceRecord] | None = None) -> dict[str, Pair]:
    build = Build(str(root / "build"))
    if records is None:
        with open_source(config) as source:
            records = source.page(None).records
    build.write_rows("collect", 0, SourceRecord, records)
    pairs = fetch(build, 0, config, Models(ModelsConfig()))
    assert [pair.key for pair in pairs] == [record.key for record in records]
    build.write_rows("fetch", 0, Pair, pairs)
    return {record.source_id: pair for record, pair in zip(records, pairs, strict=True)}


def decodings(root: Path) -> dict[str, Decoded]:
    """What decode makes of the images that one of these fetched last; rows by the source's id."""
    build = Build(str(root / "build"))
    records = build.read_rows("collect", 0, SourceRecord)
    rows = decode(build, 0, BuildConfig(), Models(ModelsConfig()))
    return {record.source_id: row for record, row in zip(records, rows, strict=True)}


def reasons(rows: Mapping[str, Row]) -> dict[str, Reason | None]:
    assert all(row.detail for row in rows.values() if not row.kept), "a rejected row says what happened"
    return {name: row.reason for name, row in rows.items()}


def collected(root: Path, server, paths: list[str], **settings) -> BuildConfig:
    """A build whose collect is done: one partition of these paths."""
    config = BuildConfig(source=f"gallery:{server.url}/api", fetch={"retries": 0, **settings})
    build = Build(str(root))
    records = [open_source(config)._record({"id": path, "url": path}) for path in paths]
    with build.recording() as outputs:
        build.write_rows("collect", 0, SourceRecord, records)
    marker = Marker(stage="collect", part=0, parts=1, fingerprint="-", outputs=outputs, rows=len(paths), seconds=0)
    build.write_marker(marker)
    return config


def rows(root: Path) -> list[Pair]:
    return Build(str(root)).read_rows("fetch", 0, Pair)
