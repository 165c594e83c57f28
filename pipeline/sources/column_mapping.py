"""Mapping of a table's columns to the fields of a source record, by config or by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from surd.pipeline import untrusted_json
from surd.pipeline.net.urls import is_http, redact_secrets, web_url
from surd.pipeline.sources.captions import Captions, captions_of
from surd.pipeline.sources.column_names import (
    PROMPT_NAMES,
    Groups,
    likeliest,
    listed,
    one_of,
    plain_name,
    url_candidates,
)
from surd.pipeline.sources.levels import strictest_level
from surd.pipeline.sources.table_reader import storable
from surd.pipeline.untrusted_json import to_text
from surd.schemas import SurdError
from surd.schemas.config import UrlsConfig
from surd.schemas.printable import printable

MAX_URL = 8_000  # characters; servers reject longer ones
MAX_EXTRA = 1_000  # characters of one further value
SIMPLE_NAMES: Groups = (
    ("simple",), ("simpleprompt",), ("simplecaption",), ("narrative",), ("text",), ("caption",)
)  # fmt: skip
_PROBABILITY = re.compile(r"[01]?\.[0-9]+(?:e-?[0-9]+)?|[0-9.]+e-[0-9]+", re.IGNORECASE)
_LEVELS = ("nsfwlevel", "nsfw", "isnsfw", "browsinglevel")
_OTHERS: dict[str, Groups] = {
    "negative_prompt": (("negativeprompt",), ("negative",), ("uc",)),
    "page_url": (("pageurl",), ("page",), ("pagelink",), ("sourceurl",), ("landingpage",)),
    "author": (
        ("author",), ("creator",), ("artist",), ("username",), ("user",), ("attribution",), ("photographer",)
    ),
    "licence": (("license",), ("licence",), ("licenseurl",), ("rights",), ("copyright",)),
    "terms": (("terms",), ("termsofuse",), ("tos",), ("usageterms",)),
    "created_at": (("createdat",), ("created",), ("timestamp",), ("date",)),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ColumnMapping:
    """The column of each field.

    ``rivals``: columns as likely as ``prompt``, which in the sampled rows never differ from it. ``levels``: all columns
    that state how safe for work a picture is. ``others``: field of a source record -> column; ``names``: every column,
    as far as it is known; ``whole``: extra holds every column.
    """

    url: str | None
    prompt: str | None
    others: dict[str, str]
    rivals: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()
    names: frozenset[str] = field(default=frozenset())
    whole: bool = False

    def fields(self, row: dict[str, Any]) -> dict[str, Any]:
        """The fields of a record except its url; columns without a field go to ``extra``.

        ``detail`` says why the row has no prompt, which stands until the picture itself is found to hold one.
        """
        captions = self._captions(row)
        fields = {field: to_text(storable(row.get(column))) or None for field, column in self.others.items()}
        used = {self.url, self.prompt, *self.rivals, *self.others.values()}
        # A classifier's score is not a site's level.
        levels = {
            name: row.get(name) for name in self.levels if not _PROBABILITY.fullmatch(str(storable(row.get(name))))
        }
        fields["nsfw_level"] = strictest_level(map(storable, levels.values()))
        used |= levels.keys()
        if self.whole:
            extra = {name: storable(value) for name, value in row.items() if not isinstance(value, dict | list | bytes)}
        else:
            kept = {name: _extra(value) for name, value in row.items() if name not in used}
            extra = {name: value for name, value in kept.items() if value is not None}
        if captions.further and self.prompt:
            extra[self.prompt] = [text[:MAX_EXTRA] for text in (captions.first or "", *captions.further)]
        return fields | {
            "prompt": captions.first,
            "detail": captions.fault,
            "extra": untrusted_json.dump(extra) if extra else None,
        }

    def _captions(self, row: dict[str, Any]) -> Captions:
        """The row's prompt; none, with the reason, where another column is as likely or the row has others."""
        if self.prompt is None:
            names = listed([*row])
            return Captions(fault=f"no column has a usual name for prompts; name one in urls.prompt_column ({names})")
        captions = captions_of(value_of(row, self.prompt))
        shown = printable(self.prompt)
        if self.names and not self.names.issuperset(row):
            new = [name for name in row if name not in self.names]
            if better := likeliest(new, PROMPT_NAMES):
                return Captions(
                    fault=f"both {shown} and {listed(better)} may be the prompt; name it in urls.prompt_column"
                )
        for rival in self.rivals:
            if (other := captions_of(row.get(rival)).first) and other != captions.first:
                return Captions(fault=f"{shown} and {printable(rival)} differ; name the prompt in urls.prompt_column")
        if captions.first is None:
            why = f"holds {printable(captions.fault)}" if captions.fault else "is empty"
            return Captions(fault=f"the column {shown} {why}")
        return captions


def value_of(row: dict[str, Any], column: str) -> Any:
    """The value of a column; if none is called ``meta.prompt``, that is the field ``prompt`` of the column ``meta``."""
    if column in row:
        return row[column]
    value: Any = row
    for name in column.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def simple_prompt(row: dict[str, Any], settings: UrlsConfig) -> str | None:
    """The simple prompt of a row, from the column in the config, else from one with a usual name."""
    column = settings.simple_column
    if column is None:
        prompt = settings.prompt_column or next(iter(likeliest([*row], PROMPT_NAMES)), None)
        column = next(iter(likeliest([name for name in row if name != prompt], SIMPLE_NAMES)), None)
    return to_text(row.get(column)) if column is not None and isinstance(row.get(column), str) else None


def guess_columns(
    names: Iterable[str], settings: UrlsConfig, where: str, *, need_url: bool, sample: Sequence[Any] = ()
) -> ColumnMapping:
    """The columns by config, else by name. ``sample``: rows to look at where two names are as likely.

    Raises SurdError, with the list of columns, if a needed one is missing or it is not clear which it is.
    """
    names = list(names)
    for option in ("url_column", "prompt_column", "simple_column"):
        column = getattr(settings, option)
        if column is not None and column not in names and column.partition(".")[0] not in names:
            why = f"{where} has no such column; it has: {listed(names)}"
            raise SurdError(f"config field 'urls.{option}' is {column!r} and {why}")
    url = settings.url_column
    if url is None:
        candidates = url_candidates(names, sample)
        # Where the pictures are not at URLs, those are only said of them: the first will do.
        url = (
            one_of(candidates, names, where, "urls.url_column", "the images' URLs", sample=sample)
            if need_url
            else next(iter(candidates), None)
        )
    if need_url and url is None:
        raise SurdError(
            f"{where} has no column with a usual name for URLs; name one in urls.url_column, or give the file a header"
            f" (its columns: {listed(names)})"
        )
    prompts = (
        [settings.prompt_column]
        if settings.prompt_column
        else likeliest([name for name in names if name != url], PROMPT_NAMES)
    )
    prompt = one_of(prompts, names, where, "urls.prompt_column", "the prompts", sample=sample)
    taken = {url, prompt}
    others = {
        field: columns[0]
        for field, spellings in _OTHERS.items()
        if (columns := likeliest([name for name in names if name not in taken], spellings))
    }
    return ColumnMapping(
        url=url,
        prompt=prompt,
        others=others,
        rivals=tuple(prompts[1:]),
        levels=_levels(names),
        names=frozenset(names) if settings.prompt_column is None else frozenset(),
        whole=settings.whole_rows,
    )


def _levels(names: Sequence[str]) -> tuple[str, ...]:
    """All columns that state a level; one that is called only ``level`` counts beside another."""
    plain = {name: plain_name(name) for name in names}
    levels = sorted((name for name in names if plain[name] in _LEVELS), key=lambda name: _LEVELS.index(plain[name]))
    return (*levels, *(name for name in names if plain[name] == "level")) if levels else ()


def url_fault(value: Any) -> tuple[str, str | None]:
    """A cell as a URL, and what is wrong with it or None."""
    stated = (to_text(value[0] if isinstance(value, list) and len(value) == 1 else value) or "").strip()
    if isinstance(value, list) and len(value) > 1:
        return "", f"a list of {len(value)} URLs: which of them is the picture of the prompt is not known"
    if not stated:
        return "", "the row has no URL"
    if len(stated) > MAX_URL:
        return "", f"the URL is {len(stated):,} characters long, more than {MAX_URL:,}"
    url = web_url(stated)
    if not is_http(url):
        return "", f"not an http(s) URL: {redact_secrets(stated)}"
    return url, None


def _extra(value: Any) -> Any:
    if isinstance(value, dict | list | bytes):
        return None
    kept = storable(value)
    return kept[:MAX_EXTRA] or None if isinstance(kept, str) else kept
