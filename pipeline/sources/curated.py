"""Finished samples for ``surd import``: another source whose rows hold both prompts."""

from __future__ import annotations

import hashlib
from functools import cached_property
from types import TracebackType
from typing import Any, Self

from pydantic import ValidationError

from surd.pipeline import untrusted_json
from surd.pipeline.sources import Page, Readable, Source, new_record, open_source
from surd.pipeline.sources.column_mapping import simple_prompt
from surd.schemas import BuildConfig, Reason, Sample, SourceRecord

_RECORD_FIELDS = ("source", "source_id", "page_url", "author", "licence", "terms", "negative_prompt")


class CuratedSource:
    """``finished:`` before another source. Its records hold every column in ``extra``, the simple prompt as ``simple``.

    A row that surd itself exported becomes the record that it was, with its old key and provenance. Any other row is a
    record of the source that lists it.
    """

    def __init__(self, rest: str, config: BuildConfig) -> None:
        self._config = config.model_copy(update={"source": rest})
        self._inner: Source = open_source(self._config)
        self.name = self._inner.name

    @cached_property
    def _whole_rows(self) -> Source:
        """The same source, with every column kept."""
        whole = self._config.urls.model_copy(update={"whole_rows": True})
        return open_source(self._config.model_copy(update={"urls": whole}))

    def fingerprint(self) -> str:
        return hashlib.sha256(f"finished 1 {self._whole_rows.fingerprint()}".encode()).hexdigest()

    def page(self, cursor: str | None) -> Page:
        page = self._whole_rows.page(cursor)
        return Page([self._curated(record) for record in page.records], page.next_cursor)

    def location(self, url: str) -> str | Readable:
        return self._inner.location(url)

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inner.__exit__(kind, error, trace)

    def _curated(self, record: SourceRecord) -> SourceRecord:
        if not record.kept:
            return record
        row = untrusted_json.parse(record.extra) if record.extra else {}
        simple = simple_prompt(row, self._config.urls)
        if not record.prompt or not record.prompt.strip():
            return record.reject("collect", Reason.NO_PROMPT, "the row names no complex prompt")
        if not simple or not simple.strip():
            return record.reject("collect", Reason.NO_SIMPLE_PROMPT, "the row names no simple prompt")
        exported = exported_sample(row, simple, record.prompt)
        if exported is None:
            return record.model_copy(update={"extra": untrusted_json.dump(row | {"simple": simple})})
        fields = {name: getattr(exported, name) for name in _RECORD_FIELDS}
        restored = new_record(prompt=record.prompt, url=record.url, **fields)
        return restored.model_copy(update={"extra": untrusted_json.dump(row | {"simple": simple})})


def exported_sample(row: dict[str, Any], simple: str, complex: str) -> Sample | None:
    """The sample of a row of ``surd export``, or None if the row is of another kind.

    Its key must be that of its source and id, as for every record.
    """
    fields = {name: row[name] for name in Sample.model_fields if name in row}
    try:
        sample = Sample.model_validate(fields | {"simple": simple, "complex": complex})
    except ValidationError:
        return None
    return sample if new_record(sample.source, sample.source_id).key == sample.key else None
