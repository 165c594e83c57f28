"""The tiny build with several captions a sample, in its shards and its index as pack writes them."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from surd.schemas.arrow import arrow_schema
from surd.schemas.manifest import ShardManifest
from surd.schemas.records import Caption
from surd.schemas.shard_format.captions import dump_captions
from tests.sur_adapter.conftest import TinyBuild, write_tar

CaptionsOf = Callable[[int, str], Sequence[Caption]]


def add_captions(build: TinyBuild, captions_of: CaptionsOf, *, index: bool = True) -> TinyBuild:
    """Give each sample the captions of its number and its simple prompt; ``index``: with ``index.parquet``."""
    names = ("key", "shard", "simple", "complex")
    fields: list[Any] = [(name, pa.string()) for name in names]
    fields.append(pa.field("captions", pa.list_(pa.struct([*arrow_schema(Caption)]))))
    infos, tables = [], []
    for shard in range(build.shards):
        path = build.root / f"shards/surd-{shard:05d}.tar"
        with tarfile.open(path) as tar:
            before = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        members, rows = {}, []
        for number, key in enumerate(build.keys(shard)):
            members |= {name: data for name, data in before.items() if name.startswith(key)}
            simple, complex_ = (members[f"{key}.{kind}.txt"].decode() for kind in ("simple", "complex"))
            captions = captions_of(shard * build.count + number, simple)
            if captions:
                members[f"{key}.captions.json"] = dump_captions(captions).encode()
            rows.append(dict(zip(names, (key, path.name, simple, complex_), strict=True)))
            rows[-1]["captions"] = [one.model_dump() for one in captions] or None
        infos.append(write_tar(path, members, build.count))
        tables.append(pa.Table.from_pylist(rows, schema=pa.schema(fields)))
    file = build.root / "shards/manifest.json"
    manifest = ShardManifest.model_validate_json(file.read_bytes())
    file.write_text(manifest.model_copy(update={"shards": infos}).model_dump_json())
    if index:
        with pq.ParquetWriter(build.root / "shards/index.parquet", tables[0].schema) as writer:
            for table in tables:
                writer.write_table(table)
    return build


def two_of_three(number: int, simple: str) -> list[Caption]:
    """None for every third sample; else a short one and, for half of those, a long one."""
    short = Caption(name="short", text=simple.split()[0], score=0.25)
    return [short, Caption(name="long", text=f"{simple} {simple} sits")][: number % 3]
