"""Mapping of a table's columns to the fields of a source record, by config or by guessing from the names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from surd.pipeline import untrusted_json
from surd.pipeline.net.urls import is_http
from surd.pipeline.sources.table_reader import storable
from surd.pipeline.untrusted_json import to_text
from surd.schemas import SurdError
from surd.schemas.config import UrlsConfig

MAX_URL = 8_000  # characters; servers reject longer ones
MAX_EXTRA = 1_000  # characters of one further value
# The likeliest first. Names are compared in lower case and without anything but letters.
URL_NAMES = ("url", "imageurl", "imgurl", "urls", "imagelink", "imagesrc", "src", "link", "uri", "image", "img")
PROMPT_NAMES = (
    "prompt", "positiveprompt", "textprompt", "caption", "text", "toptext", "imagecaption", "captions", "alttext",
    "alt", "description", "title",
)  # fmt: skip
SIMPLE_NAMES = ("simple", "simpleprompt", "simplecaption", "narrative", "text", "caption")
_PROBABILITY = re.compile(r"[01]?\.[0-9]+(?:e-?[0-9]+)?|[0-9.]+e-[0-9]+", re.IGNORECASE)
_OTHERS = {
    "negative_prompt": ("negativeprompt", "negative", "uc"),
    "page_url": ("pageurl", "page", "pagelink", "sourceurl", "landingpage"),
    "author": ("author", "creator", "artist", "username", "user", "attribution", "photographer"),
    "licence": ("license", "licence", "licenseurl", "rights", "copyright"),
    "terms": ("terms", "termsofuse", "tos", "usageterms"),
    "nsfw_level": ("nsfwlevel", "nsfw"),
    "created_at": ("createdat", "created", "timestamp", "date"),
}


@dataclass(frozen=True, kw_only=True)
class ColumnMapping:
    """The column of each field. ``others``: field of a source record -> column; ``whole``: extra holds every column."""

    url: str | None
    prompt: str | None
    others: dict[str, str]
    whole: bool = False

    def fields(self, row: dict[str, Any]) -> dict[str, Any]:
        """The fields of a record except its url; columns without a field go to ``extra``."""
        fields = {field: to_text(storable(row.get(column))) or None for field, column in self.others.items()}
        used = {self.url, self.prompt, *self.others.values()}
        if "nsfw_level" in self.others:
            level = storable(row.get(self.others["nsfw_level"]))
            if _PROBABILITY.fullmatch(str(level)):  # a classifier's score is not a site's level
                used.remove(self.others["nsfw_level"])
                level = None
            fields["nsfw_level"] = str(level).lower() if level not in (None, "") else None
        if self.whole:
            extra = {name: storable(value) for name, value in row.items() if not isinstance(value, dict | list | bytes)}
        else:
            kept = {name: _extra(value) for name, value in row.items() if name not in used}
            extra = {name: value for name, value in kept.items() if value is not None}
        prompt = row.get(self.prompt) if self.prompt else None
        return fields | {
            "prompt": to_text(prompt) or None,
            "extra": untrusted_json.dump(extra) if extra else None,
        }


def simple_prompt(row: dict[str, Any], settings: UrlsConfig) -> str | None:
    """The simple prompt of a row, from the column in the config, else from one with a usual name."""
    column = settings.simple_column
    if column is None:
        prompt = settings.prompt_column or _guess([*row], PROMPT_NAMES)
        column = _guess([name for name in row if name != prompt], SIMPLE_NAMES)
    return to_text(row.get(column)) if column is not None and isinstance(row.get(column), str) else None


def guess_columns(names: Iterable[str], settings: UrlsConfig, where: str, *, need_url: bool) -> ColumnMapping:
    """The columns by config, else by name. Raises SurdError, with the list of columns, if a needed one is missing."""
    names = list(names)
    listed = ", ".join(names)[:500] or "none"
    for field in ("url_column", "prompt_column", "simple_column"):
        column = getattr(settings, field)
        if column is not None and column not in names:
            why = f"{where} has no such column; it has: {listed}"
            raise SurdError(f"config field 'urls.{field}' is {column!r} and {why}")
    url = settings.url_column or _guess(names, URL_NAMES)
    if need_url and url is None:
        raise SurdError(
            f"{where} has no column with a usual name for URLs; name one in urls.url_column, or give the file a header"
            f" (its columns: {listed})"
        )
    prompt = settings.prompt_column or _guess([name for name in names if name != url], PROMPT_NAMES)
    taken = {url, prompt}
    others = {
        field: column
        for field, spellings in _OTHERS.items()
        if (column := _guess([name for name in names if name not in taken], spellings)) is not None
    }
    return ColumnMapping(url=url, prompt=prompt, others=others, whole=settings.whole_rows)


def url_fault(value: Any) -> tuple[str, str | None]:
    """A cell as a URL, and what is wrong with it or None."""
    url = (to_text(value) or "").strip()
    if not url:
        return "", "the row has no URL"
    if len(url) > MAX_URL:
        return "", f"the URL is {len(url):,} characters long, more than {MAX_URL:,}"
    if not is_http(url) or re.search(r"\s", url):
        return "", f"not an http(s) URL: {url}"
    return url, None


def _guess(names: list[str], usual: tuple[str, ...]) -> str | None:
    plain: dict[str, str] = {}
    for name in names:
        plain.setdefault(re.sub(r"[^a-z]", "", name.lower()), name)
    return next((plain[name] for name in usual if name in plain), None)


def _extra(value: Any) -> Any:
    if isinstance(value, dict | list | bytes):
        return None
    kept = storable(value)
    return kept[:MAX_EXTRA] or None if isinstance(kept, str) else kept
