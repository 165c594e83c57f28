"""Which column of a table holds what, by its name; where two are as likely, an error that asks which."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

from surd.pipeline.net.urls import is_http, web_url
from surd.pipeline.untrusted_json import to_text
from surd.schemas import SurdError
from surd.schemas.printable import printable

Groups = tuple[tuple[str, ...], ...]
# Groups of names, the likeliest group first; names of one group are as likely as each other. Names are compared in
# lower case and without anything but letters and digits; a number at the end makes a name less likely.
URL_NAMES: Groups = (
    ("imageurl", "imgurl", "imagelink", "imagesrc", "pictureurl", "photourl"),
    ("url", "urls", "src", "link", "uri", "image", "img"),
)
PROMPT_NAMES: Groups = (
    ("prompt",), ("positiveprompt", "textprompt"), ("caption", "text", "toptext", "imagecaption", "captions"),
    ("alttext", "alt"), ("description",), ("title",),
)  # fmt: skip
IMAGE_NAMES: Groups = (
    ("image",), ("img", "images", "picture", "photo"), ("jpg", "jpeg", "png", "webp"), ("imagebytes", "bytes"),
)  # fmt: skip
_NOT_PICTURES = ("image", "img")  # usual names of a column of URLs, whose bytes are no text


def plain_name(name: str) -> str:
    """A name as it is compared."""
    return re.sub(r"[\W_]+", "", name.lower())


def is_text_name(name: str) -> bool:
    """Whether a column of this name is read as text even if its type is bytes."""
    plain = plain_name(name)
    return plain not in _NOT_PICTURES and any(
        plain in group for groups in (URL_NAMES, PROMPT_NAMES) for group in groups
    )


def likeliest(names: Collection[str], groups: Groups) -> list[str]:
    """The names of the likeliest group, in their order: none, one, or several that are as likely as each other."""
    exact: dict[str, list[str]] = {}
    numbered: dict[str, list[str]] = {}
    for name in names:
        plain = plain_name(name)
        exact.setdefault(plain, []).append(name)
        if (base := plain.rstrip("0123456789")) != plain:
            numbered.setdefault(base, []).append(name)
    for group in groups:
        for named in (exact, numbered):
            if among := [name for usual in group for name in named.get(usual, ())]:
                return among
    return []


def listed(names: Sequence[str]) -> str:
    """Column names for a message."""
    return ", ".join(printable(name) for name in names)[:500] or "none"


def one_of(
    candidates: Sequence[str], names: Sequence[str], where: str, option: str, what: str, *, sample: Any = ()
) -> str | None:
    """The only candidate, or the first of several that never differ in the sampled rows.

    Raises SurdError, which lists the columns and names the option that decides, if several are as likely.
    """
    if not candidates:
        return None
    if Counter(names)[candidates[0]] > 1:
        shown = printable(candidates[0])
        raise SurdError(f"{where} has the column {shown} twice; rename one of them (its columns: {listed(names)})")
    if len(candidates) > 1 and not _never_differ(candidates, sample):
        raise SurdError(
            f"{where} has {len(candidates)} columns that may hold {what}: {listed(candidates)}; name the right one in "
            f"{option} (its columns: {listed(names)})"
        )
    return candidates[0]


def _never_differ(candidates: Sequence[str], sample: Any) -> bool:
    rows = [row for row in sample if isinstance(row, dict)]
    return bool(rows) and all(len({str(row.get(name) or "").strip() for name in candidates}) == 1 for row in rows)


def url_candidates(names: Sequence[str], sample: Any) -> list[str]:
    """The columns that may hold the images' URLs: of those with usual names, the ones that hold URLs, if any does."""
    rows = [row for row in sample if isinstance(row, dict)]
    usual = [name for group in URL_NAMES for name in likeliest(names, (group,))]
    holding = [name for name in usual if any(_is_url(row.get(name)) for row in rows)]
    return likeliest(holding or [name for name in usual if _may_be_text(name, rows)], URL_NAMES)


def _is_url(value: Any) -> bool:
    text = to_text(value[0] if isinstance(value, list) and value else value)
    return bool(text) and is_http(web_url(text or ""))


def _may_be_text(name: str, rows: Sequence[dict[str, Any]]) -> bool:
    return not rows or any(not isinstance(row.get(name), dict | bytes) for row in rows)


def narrowed(names: Sequence[str], is_usable: Callable[[str], bool]) -> list[str]:
    """The names that are usable, each once, in their order."""
    return [name for name in dict.fromkeys(names) if is_usable(name)]
