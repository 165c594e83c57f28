"""Civitai's API, v1/images and v1/models: images with prompt, author, NSFW level and terms."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx

from surd.pipeline import untrusted_json
from surd.pipeline.net.api_client import ApiClient
from surd.pipeline.net.urls import is_http, redact_secrets
from surd.pipeline.sources.gallery import Gallery
from surd.pipeline.sources.levels import level_of
from surd.pipeline.untrusted_json import to_text
from surd.schemas import BuildConfig, Reason, SourceRecord, SurdError

KEY = "CIVITAI_API_KEY"
TERMS = "https://civitai.com/content/tos"
_LARGEST_PAGE = {"images": 200, "models": 100}
_PERMISSIONS = ("allowNoCredit", "allowCommercialUse", "allowDerivatives", "allowDifferentLicense")
_SIZE = re.compile(r"/(?:width|height|quality|anim|transcode|optimized|original)=[^/]*(?=/)")
_KEPT = ("postId", "width", "height", "hash", "baseModel", "browsingLevel", "modelVersionIds")

log = logging.getLogger(__name__)


class Civitai(Gallery):
    """``civitai``, ``civitai:?QUERY`` or ``civitai:models?QUERY``. The filters are the API's own, on every request.

    https://developer.civitai.com/site/reference/images.md: sort, period, nsfw, modelId, modelVersionId, username, tags,
    baseModels ... Prompts are in v1/images; v1/models has none since 2024. A record's id is the image's, so that the
    same picture is the same record under every filter. The API key comes from the environment, goes out in a header,
    and only over https or to this machine.
    """

    _crawling = False

    def __init__(self, rest: str, config: BuildConfig) -> None:
        path, _, query = rest.partition("?")
        self._kind = path.strip("/") or "images"
        base = config.civitai.url.rstrip("/")
        if self._kind not in _LARGEST_PAGE:
            shown = redact_secrets(f"civitai:{rest}")
            raise SurdError(f"config field 'source' is {shown!r}; give civitai:images?QUERY or civitai:models?QUERY")
        if query and redact_secrets(f"?{query}") != f"?{query}":
            raise SurdError(f"config field 'source' holds a key in its query; put it into the environment as {KEY}")
        if not is_http(base):
            raise SurdError(f"config field 'civitai.url' is {redact_secrets(base)!r}; give an http(s) URL")
        self._key = os.environ.get(KEY, "").strip()
        if not re.fullmatch(r"[!-~]*", self._key):
            problem = "holds characters that an API key cannot have; copy it again from your account"
            raise SurdError(f"environment variable {KEY} {problem}")
        parts = urlsplit(base)
        if self._key and parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise SurdError(f"config field 'civitai.url' is {base!r} and would carry {KEY} in the clear; give https://")
        super().__init__(f"{base}/{self._kind}?{query}", config, name="civitai")
        self._largest_page = _LARGEST_PAGE[self._kind]
        self._original = config.civitai.original
        self._identity = f"{base}/{self._kind}?{sorted(parse_qsl(query, keep_blank_values=True))}"
        self._promptless = False

    def fingerprint(self) -> str:
        """Endpoint, filters and page size; never the key."""
        return f"civitai {redact_secrets(self._identity)} by {self._size}, original {self._original}"

    def _new_client(self) -> ApiClient:
        client = super()._new_client()
        if self._key:
            client.headers["Authorization"] = f"Bearer {self._key}"  # httpx drops it on a redirect to elsewhere
        return client

    def _defaults(self) -> dict[str, Any]:
        return {"limit": self._size} | ({"withMeta": "true"} if self._kind == "images" else {})

    @property
    def _shown(self) -> str:
        return f"Civitai ({redact_secrets(self._api)})"

    def _failure(self, error: Exception) -> SurdError:
        if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in (401, 403):
            status = error.response.status_code
            if self._key:
                return SurdError(
                    f"Civitai rejected the API key in {KEY} (HTTP {status}): it is wrong or expired; make a new one in "
                    "your account settings, or unset it to read what is public"
                )
            return SurdError(f"Civitai requires an API key (HTTP {status}); put yours into the environment as {KEY}")
        return super()._failure(error)

    def _records(self, items: list[Any]) -> Iterator[SourceRecord]:
        """One record per image. Of v1/models, every image of every version of every model."""
        if self._kind == "images":
            return (self._image(item) for item in items)
        return self._of_models(items)

    def _of_models(self, models: list[Any]) -> Iterator[SourceRecord]:
        records = [record for model in models for record in self._model(model)]
        if records and not self._promptless and not any(record.prompt for record in records):
            self._promptless = True
            log.warning("%s has had no prompts since 2024; use civitai:?modelId=ID to get them", self._shown)
        yield from records

    def _image(self, item: Any, model: dict[str, Any] | None = None) -> SourceRecord:
        if isinstance(item, dict) and not item.get("id") and (number := _number_in(item.get("url"))):
            item = item | {"id": number}
        if self._original and isinstance(item, dict) and isinstance(item.get("url"), str):
            item = item | {"url": _SIZE.sub("/original=true", item["url"], count=1)}
        record = self._record(item)
        if not isinstance(item, dict):
            return record
        model = model or {}
        number = to_text(item.get("id")) or ""
        extra = {name: item[name] for name in _KEPT if item.get(name) is not None} | model.get("extra", {})
        update = {
            "page_url": f"https://civitai.com/images/{number}" if number.isdecimal() else None,
            "author": record.author or model.get("author"),
            "nsfw_level": record.nsfw_level or model.get("nsfw_level"),
            "terms": "; ".join([TERMS, *model.get("terms", ())]),
            "extra": untrusted_json.dump(extra) if extra else None,
        }
        record = record.model_copy(update=update)
        if record.kept and to_text(item.get("type")) not in (None, "image"):
            return record.model_copy(update={"url": None}).reject("collect", Reason.NO_IMAGE, f"a {item['type']}")
        return record

    def _model(self, model: Any) -> Iterator[SourceRecord]:
        if not isinstance(model, dict):
            yield self._malformed(model, f"the model is {type(model).__name__}, not an object")
            return
        count = 0
        for version in _dicts(model.get("modelVersions")):
            fields = _model_fields(model, version)
            images = version.get("images")
            for image in images if isinstance(images, list) else ():
                count += 1
                yield self._image(image, fields)
        if not count:
            name = to_text(model.get("id")) or to_text(model.get("name"))
            log.info("%s: model %s has no images", self._shown, name)


def _model_fields(model: dict[str, Any], version: dict[str, Any]) -> dict[str, Any]:
    """The fields of a model and version that apply to the images of the version."""
    creator = model.get("creator")
    permissions = [f"{name}={untrusted_json.dump(model[name])}" for name in _PERMISSIONS if name in model]
    names = {
        "model": to_text(model.get("name")),
        "modelId": model.get("id"),
        "modelVersion": to_text(version.get("name")),
        "modelVersionId": version.get("id"),
        "baseModel": to_text(version.get("baseModel")),
    }
    return {
        "author": to_text(creator.get("username")) if isinstance(creator, dict) else None,
        "nsfw_level": level_of(model),
        "terms": [f"model {to_text(model.get('id'))}: {', '.join(permissions)}"] if permissions else [],
        "extra": {name: value for name, value in names.items() if isinstance(value, int | str)},
    }


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _number_in(url: Any) -> str | None:
    """The image's number in the file name of its URL: v1/models sometimes omits the id."""
    match = re.search(r"/(\d+)\.\w+$", url) if isinstance(url, str) else None
    return match.group(1) if match else None
