"""The records of a build one by one, kept and rejected, with their verdict, texts, scores and picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

from PIL import Image

from surd.pipeline.build.damage import unfinished
from surd.pipeline.build.folder import Build, part_file
from surd.pipeline.build.part_columns import columns_of, read_columns
from surd.pipeline.build.record_rows import record_rows
from surd.schemas import Pair, Reason, Row, Selected, SurdError
from surd.schemas.errors import one_line
from surd.schemas.shard_format.pixels import UNDECODABLE, to_rgb

_OF_SELECT = ("clip_simple", "clip_complex", "cluster", "by_hand", "simple_by_hand")
_OF_PICTURE = ("sha256", "ext", "size", "offset", "width", "height")


@dataclass(frozen=True, kw_only=True)
class BuiltRecord:
    """One record. ``reason`` None: it is kept. ``simple`` and ``complex``: its two prompts, where it came so far.

    ``fields``: the rest of what the build knows of it by name: source, licence, width, height, scores ...
    """

    key: str
    reason: Reason | None
    detail: str | None
    simple: str | None
    complex: str | None
    fields: Mapping[str, Any]
    _build: Build = field(repr=False)
    _part: int = field(repr=False)
    _pair: Pair | None = field(repr=False)

    @property
    def kept(self) -> bool:
        return self.reason is None

    @property
    def image(self) -> bytes | None:
        """Its picture as it was fetched; None: it was not. Raises SurdError where the build's file is damaged."""
        if self._pair is None:
            return None
        return next(self._build.images(self._part, [self._pair]))

    def picture(self) -> Image.Image | None:
        """Its picture as 8-bit RGB, upright; None: it was not fetched. Raises SurdError when it does not decode."""
        if (data := self.image) is None:
            return None
        try:
            return to_rgb(data)
        except UNDECODABLE as error:
            raise SurdError(f"the picture of record {self.key} does not decode ({one_line(error, 120)})") from None

    def to_dict(self) -> dict[str, Any]:
        """All of it but the picture, as JSON has it."""
        own = {name: getattr(self, name) for name in ("key", "kept", "detail", "simple", "complex")}
        return dict(self.fields) | own | {"reason": self.reason.value if self.reason else None}


def iterate_records(build: Build, verdicts: Iterable[Sequence[Selected]] | None = None) -> Iterator[BuiltRecord]:
    """The records of a build in their order. ``verdicts``: the rows of another selection than the build's own, a
    partition after another.

    Raises SurdError where the build has not come as far as select.
    """
    if not (parts := build.part_count()):
        raise unfinished(build, "collect", 0)
    of_parts = iter(verdicts) if verdicts is not None else repeat(None)
    for part, of_part in zip(range(parts), of_parts, strict=False):
        if not build.exists(part_file("select", part)):
            raise unfinished(build, "select", part)
        yield from _records_of(build, part, of_part)


def _records_of(build: Build, part: int, verdicts: Sequence[Selected] | None) -> Iterator[BuiltRecord]:
    present = columns_of(build, "select", part)
    columns = ["key", *(name for name in _OF_SELECT if name in present)]
    selected = read_columns(build, "select", part, columns).to_pylist()
    pairs = read_columns(build, "fetch", part, [*Row.model_fields, *_OF_PICTURE]).to_pylist()
    for place, row in enumerate(record_rows(build, part, "select")):
        chosen, pair = selected[place], pairs[place]
        if verdicts is not None:
            row |= verdicts[place].verdict()
            chosen = verdicts[place].model_dump(include=set(_OF_SELECT))
        by_hand = chosen.pop("simple_by_hand", None)
        if by_hand is not None:
            row |= {"simple": by_hand, "method": "hand", "text_simple": None}
        row |= chosen
        yield BuiltRecord(
            key=row.pop("key"),
            reason=Reason(reason) if (reason := row.pop("reason")) else None,
            detail=row.pop("detail"),
            simple=row.pop("simple"),
            complex=row.pop("complex"),
            fields={name: value for name, value in row.items() if name != "status"},
            _build=build,
            _part=part,
            _pair=Pair(**pair) if pair["offset"] is not None else None,
        )
