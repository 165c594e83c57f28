"""Galleries with a paged JSON API in the shape of Civitai's v1/images."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urljoin, urlsplit, urlunsplit

import httpx

from surd.pipeline import untrusted_json
from surd.pipeline.metadata import comfyui
from surd.pipeline.metadata.a1111 import parse_a1111
from surd.pipeline.net.address_guard import ForbiddenAddress
from surd.pipeline.net.api_client import ApiClient
from surd.pipeline.net.retry import describe
from surd.pipeline.net.urls import is_http, redact_secrets, tidy_url, url_identity
from surd.pipeline.rejection import Rejected
from surd.pipeline.sources import Page, new_record
from surd.pipeline.sources.levels import level_of
from surd.pipeline.untrusted_json import to_text
from surd.schemas import BuildConfig, Reason, SourceRecord, SurdError

log = logging.getLogger(__name__)
_PAGE_NUMBER = re.compile(r"[0-9]{1,9}")
_PROMPT_KEYS, _NEGATIVE_KEYS = ("prompt", "Prompt"), ("negativePrompt", "negative_prompt", "Negative prompt")


class Gallery:
    """A gallery at the URL of an API; the URL may have filters (``?sort=Newest``), which are sent for every page.

    Image URLs on the gallery's own host are recorded relative to it, so that no record changes if the gallery moves or
    the demo gallery gets another port.
    """

    _largest_page: int | None = None
    _crawling = True  # false for an API that is documented for programs: to others the site's robots.txt applies

    def __init__(self, api_url: str, config: BuildConfig, name: str | None = None) -> None:
        self.name = name or f"gallery:{redact_secrets(api_url)}"
        if not is_http(api_url):
            raise SurdError(f"config field 'source' is {self.name!r}; after gallery: give an http(s) URL")
        self._config = config
        self._set_address(api_url)
        self._client: ApiClient | None = None

    def fingerprint(self) -> str:
        """Name and page size. A gallery counts as unchanged, since checking it costs as much as collecting."""
        return f"{self.name} by {self._size}"

    @property
    def _size(self) -> int:
        """Records requested per page."""
        limit, size = self._config.limit, self._config.collect.page_size
        size = size if limit is None else max(1, min(size, limit))
        return size if self._largest_page is None else min(size, self._largest_page)

    @property
    def trusted_url(self) -> str:
        return self._api

    def page(self, cursor: str | None) -> Page:
        """One request, with retries. An empty page is not the end; a page without a cursor is."""
        query = httpx.QueryParams(self._defaults()).merge(self._filters)
        if cursor is not None:
            name, _, number = cursor.partition("=")
            query = query.set("page", number) if name == "page" else query.remove("page").set("cursor", cursor)
        document = self._request("GET", params=query)
        items = document.get("items") if isinstance(document, dict) else None
        if not isinstance(items, list):
            raise SurdError(
                f"{self._shown} lists no items; its API has changed, or the URL is not that of an API like "
                "Civitai's v1/images"
            )
        return Page([*self._records(items)], self._next_cursor(document.get("metadata"), query.get("page")))

    def _defaults(self) -> dict[str, Any]:
        """Parameters of every request, unless the URL has others."""
        return {"limit": self._size, "withMeta": "true"}

    def _records(self, items: list[Any]) -> Iterator[SourceRecord]:
        return (self._record(item) for item in items)

    def _next_cursor(self, metadata: Any, page: str | None) -> str | None:
        """The next cursor: ``nextCursor``; of galleries of 2023, ``page=N`` from ``nextPage``."""
        if not isinstance(metadata, dict):
            return None
        cursor = metadata.get("nextCursor")
        if following := to_text(cursor):
            return following
        if cursor:
            log.warning("%s: the next cursor is a %s and cannot be followed", self._shown, type(cursor).__name__)
        following = metadata.get("nextPage")
        query = parse_qs(urlsplit(following).query) if isinstance(following, str) else {}
        if cursor := query.get("cursor"):
            return cursor[0]
        number = query.get("page", [""])[0]
        if not _PAGE_NUMBER.fullmatch(number):
            return None
        if page and _PAGE_NUMBER.fullmatch(page) and int(number) <= int(page):
            log.warning("%s: page %s follows page %s, so its pages go in a circle", self._shown, number, page)
            return None
        return f"page={number}"

    def location(self, url: str) -> str:
        return urljoin(self._api, url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client:
            self._client.close()
            self._client = None

    def _set_address(self, api_url: str) -> None:
        parts = urlsplit(api_url)
        self._filters = httpx.QueryParams(parts.query)
        self._api = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))

    def _request(self, method: str, **options: Any) -> Any:
        """The JSON response to one request, with retries. Raises SurdError if it cannot be had."""
        if self._client is None:  # not earlier: to locate images takes no connection
            self._client = self._new_client()
        try:
            return self._client.request(method, self._api, **options)
        except ForbiddenAddress as error:
            raise SurdError(f"{self._shown} must not be requested: {error}") from error
        except Rejected as rejected:
            if rejected.transient:
                raise SurdError(f"{self._shown} cannot be requested now ({rejected.detail}); try later") from rejected
            remedy = "if its owner permits, set collect.respect_robots to false"
            raise SurdError(f"{self._shown} is closed to programs: {rejected.detail}; {remedy}") from rejected
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise self._failure(error) from error

    def _new_client(self) -> ApiClient:
        return ApiClient(self._api, self._config, crawling=self._crawling)

    def _failure(self, error: Exception) -> SurdError:
        remedy = "try later or correct the URL"
        if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in (401, 403):
            remedy = "it requires a login, and galleries are requested without a key: correct the URL, or ask its owner"
        return SurdError(f"{self._shown} failed ({describe(error)}); {remedy}")

    @property
    def _shown(self) -> str:
        """The gallery's name in messages."""
        return f"gallery {redact_secrets(self._api)}"

    def _record(self, item: Any) -> SourceRecord:
        """One item as a record: fields missing or of unknown shape stay empty; without an image it is rejected."""
        if not isinstance(item, dict):
            return self._malformed(item, f"the item is {type(item).__name__}, not an object")
        url = to_text(item.get("url")) if isinstance(item.get("url"), str) else None
        source_id = to_text(item.get("id")) or (url and url_identity(url))
        if not source_id:
            return self._malformed(item, "the item has neither id nor url")
        meta = _meta(item.get("meta"))
        user = item.get("user")
        record = new_record(
            self.name,
            source_id,
            page_url=to_text(item.get("pageUrl")),
            prompt=_first(meta, _PROMPT_KEYS),
            negative_prompt=_first(meta, _NEGATIVE_KEYS),
            params=untrusted_json.dump(rest) if (rest := _without(meta, *_PROMPT_KEYS, *_NEGATIVE_KEYS)) else None,
            author=to_text(item.get("username")) or (to_text(user.get("username")) if isinstance(user, dict) else None),
            licence=_first(item, ("license", "licence")),
            terms=_first(item, ("terms", "termsOfUse")),
            nsfw_level=level_of(item),
            created_at=to_text(item.get("createdAt")),
        )
        if not url:
            return record.reject("collect", Reason.NO_IMAGE, "the item has no url")
        try:
            return record.model_copy(update={"url": self._relative(url)})
        except ValueError:
            return record.reject("collect", Reason.NO_IMAGE, f"not an http(s) URL: {redact_secrets(url)}")

    def _relative(self, url: str) -> str:
        """The URL as it is recorded. Raises ValueError if it is not an http(s) URL."""
        absolute = urlunsplit((*urlsplit(urljoin(self._api, tidy_url(url)))[:4], ""))
        if not is_http(absolute):
            raise ValueError(url)
        origin = urljoin(self._api, "/")
        same = absolute.startswith(origin) and not absolute.startswith(f"{origin}/")  # "//x" would name a host
        return absolute[len(origin) - 1 :] if same else absolute

    def _malformed(self, item: Any, why: str) -> SourceRecord:
        digest = hashlib.sha256(untrusted_json.dump(item).encode()).hexdigest()[:16]
        return new_record(self.name, f"malformed-{digest}").reject("collect", Reason.NO_IMAGE, why)


def _meta(value: Any) -> dict[str, Any]:
    """An item's ``meta``: an object, an object in ``meta.meta``, JSON or A1111 text in a string; empty for others."""
    if isinstance(value, str):
        try:
            value = untrusted_json.parse(value)
        except ValueError:
            if a1111 := parse_a1111(value):
                return {"prompt": a1111.prompt, "negativePrompt": a1111.negative_prompt, **a1111.params}
    if not isinstance(value, dict):
        return {}
    if isinstance(value.get("meta"), dict) and not _first(value, _PROMPT_KEYS):
        value = _without(value, "meta") | value["meta"]
    if not _first(value, _PROMPT_KEYS) and (graph := _comfy_graph(value.get("comfy"))):
        return value | {"prompt": graph.prompt, "negativePrompt": graph.negative_prompt}
    return value


def _comfy_graph(value: Any) -> comfyui.GraphPrompt | None:
    """``meta.comfy``: a JSON text of ``{"prompt": graph, "workflow": ...}``, not always valid."""
    try:
        document = untrusted_json.parse(value) if isinstance(value, str) else value
    except ValueError:
        return None
    graph = document.get("prompt") if isinstance(document, dict) else None
    return comfyui.read_graph(graph) if isinstance(graph, dict) else None


def _first(values: dict[str, Any], names: tuple[str, ...]) -> str | None:
    return next((text for name in names if (text := to_text(values.get(name)))), None)


def _without(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}
