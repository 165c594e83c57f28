"""What the report shows of single records: which ones, their thumbnails, and every text cut to size."""

from __future__ import annotations

import base64
import io
import re
from collections import defaultdict
from collections.abc import Iterable
from itertools import zip_longest
from operator import itemgetter
from typing import Generic, TypeVar
from urllib.parse import urlsplit

from surd.pipeline.build.folder import Build
from surd.pipeline.net.urls import redact_secrets
from surd.pipeline.report.correction import repaired_entry
from surd.pipeline.report.records import Record
from surd.schemas import Reason, Selected
from surd.schemas.shard_format.complete import complete_jpeg
from surd.schemas.shard_format.exif import orientation
from surd.schemas.shard_format.pixels import UNDECODABLE, open_image, upright_rgb

T = TypeVar("T")
Entry = dict[str, object]
LONG, SHORT = 2000, 200  # characters of a prompt and of any other text on the page
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class Least(Generic[T]):
    """Of values that are added with a key each, the ``limit`` with the least keys."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: list[tuple[str, T]] = []

    def add(self, key: str, value: T) -> None:
        """Add a value, which is dropped again where too many have lesser keys."""
        self._entries.append((key, value))
        if len(self._entries) > 2 * self._limit:
            self._drop()

    def values(self) -> list[T]:
        """Those that are left, by their keys."""
        self._drop()
        return [value for _, value in self._entries]

    def _drop(self) -> None:
        self._entries = sorted(self._entries, key=itemgetter(0))[: self._limit]


def choose(verdicts: Iterable[Selected], limit: int) -> set[str]:
    """Keys of at most ``limit`` rows: all if they fit, else every reason of rejection in turn for a third of the room
    (more where the kept ones leave some), then kept ones. Keys are hashes, so the least of them are a fair draw.
    Of records that were removed there is nothing to show."""
    groups: dict[str, Least[str]] = defaultdict(lambda: Least(limit))
    for row in verdicts:
        groups[row.reason or ""].add(row.key, row.key)
    groups.pop(Reason.FORGOTTEN, None)
    kept = groups.pop("", Least(limit)).values()
    in_turn = [key for turn in zip_longest(*(groups[name].values() for name in sorted(groups))) for key in turn if key]
    rejects = in_turn[: min(limit, max(limit // 3, len(groups), limit - len(kept)))]
    return {*rejects, *kept[: limit - len(rejects)]}


def thumbnails(build: Build, part: int, records: list[Record], pixels: int) -> dict[str, str]:
    """Key -> WebP data URI for every record whose image decodes."""
    pairs = [record.pair for record in records if record.pair.offset is not None and record.decoded.kept]
    if not pairs:
        return {}
    images = zip(pairs, build.images(part, pairs), strict=True)
    return {pair.key: uri for pair, data in images if (uri := thumbnail(data, pixels))}


def thumbnail(data: bytes, pixels: int) -> str | None:
    small = thumbnail_bytes(data, pixels)
    return None if small is None else "data:image/webp;base64," + base64.b64encode(small).decode()


def thumbnail_bytes(data: bytes, pixels: int, method: int = 4) -> bytes | None:
    """A picture as WebP, its longer side at most so many pixels; ``method`` 0 (fast) to 6. None: it does not decode."""
    try:
        with open_image(complete_jpeg(data)) as image:
            image.draft(None, (2 * pixels, 2 * pixels))  # of a JPEG, no more pixels than the thumbnail needs
            small = upright_rgb(image, orientation(data))
    except UNDECODABLE:
        return None
    small.thumbnail((pixels, pixels))
    out = io.BytesIO()
    small.save(out, "WEBP", quality=70, method=method)
    return out.getvalue()


def repaired(record: Record, thumbnail: str | None) -> Entry:
    return repaired_entry(record.corrected, record.source.key, cut(record.cleaned.complex, LONG), thumbnail, LONG)


def entry_of(record: Record, thumbnail: str | None) -> Entry:
    """What the grid and the detail dialog show of one record; every text is cut, every link is http(s)."""
    source, pair, cleaned, prompts, verdict = (
        record.source, record.pair, record.cleaned, record.corrected, record.verdict
    )  # fmt: skip
    raw, fit, complex_fit = pair.prompt or source.prompt, prompts.clip_simple, prompts.clip_complex
    texts = {"rewrite": record.rewritten.rewrites or [], "caption": record.captioned.captions or []}
    origins = {_bare(text): name for name, sentences in texts.items() for text in sentences}
    repairs, worded_from = prompts.repairs or [], prompts.worded_from
    if repairs:
        origins[_bare(worded_from or prompts.simple or "")] = "repair"
    if worded_from:
        origins[_bare(prompts.simple or "")] = "other words"
    candidates, scores = prompts.candidates or [], prompts.candidate_scores or []
    short = {
        "detail": verdict.detail, "source": source.source, "source_id": source.source_id,
        "url": redact_secrets(source.url or ""),
        "author": source.author, "licence": source.licence, "terms": source.terms, "created_at": source.created_at,
        "tool": pair.tool,
    }  # fmt: skip
    entry: Entry = {
        "key": source.key,
        "reason": verdict.reason,
        "meaning": verdict.reason.meaning if verdict.reason else None,
        "by_hand": verdict.by_hand,
        "stage": verdict.rejected_by,
        "thumbnail": thumbnail,
        "simple": cut(prompts.simple, LONG),
        "complex": cut(cleaned.complex or raw, LONG),
        "prompt": cut(raw, LONG) if cleaned.complex and raw != cleaned.complex else None,
        "negative": cut(pair.negative_prompt or source.negative_prompt, LONG),
        "loras": [cut(name, 60) for name in cleaned.loras or ()][:20],
        "method": prompts.method,
        "clip_simple": fit,
        "clip_complex": complex_fit,
        "gain": fit - complex_fit if fit is not None and complex_fit is not None else None,
        "candidates": [
            {
                "text": cut(text, SHORT),
                "score": score,
                "origin": origins.get(_bare(text)),
                "won": text == prompts.simple,
            }
            for text, score in zip_longest(candidates, scores[: len(candidates)])
        ],
        "before": cut(prompts.before, LONG),
        "repairs": [cut(repair, SHORT) for repair in repairs],
        "twin": next((key for key in (record.deduped.cluster, verdict.cluster) if key and key != source.key), None),
        "distance": record.deduped.distance,
        "page": web_link(source.page_url),
        "image": web_link(redact_secrets(source.url or "")),
        "width": pair.width,
        "height": pair.height,
        "ext": pair.ext,
        "size": pair.size,
        "sha256": pair.sha256,
    }
    return entry | {name: cut(text, LONG if name == "detail" else SHORT) for name, text in short.items()}


def _bare(text: str) -> str:
    """A sentence as it compares: correct gives each a capital and a full stop."""
    return text.casefold().rstrip(".!?")


def web_link(url: str | None) -> str | None:
    """The address, if it is a web page's and not something a browser would run or read from disk."""
    try:
        parts = urlsplit(url or "")
    except ValueError:
        return None
    return url if parts.scheme in ("http", "https") and parts.netloc and len(url or "") <= LONG else None


def cut(text: str | None, limit: int) -> str:
    """At most ``limit`` characters, the rest counted; control characters made visible."""
    text = text or ""
    more = f" … [{len(text) - limit:,} more characters]" if len(text) > limit else ""
    return _CONTROL.sub("\ufffd", text[:limit]) + more
