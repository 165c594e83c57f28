"""Lexica's API: v1/search, and infinite-prompts, which has pages."""

from __future__ import annotations

from typing import Any

from surd.pipeline import untrusted_json
from surd.pipeline.net.urls import is_http, redact_secrets
from surd.pipeline.sources import Page, new_record
from surd.pipeline.sources.gallery import Gallery
from surd.pipeline.sources.levels import level_of
from surd.pipeline.untrusted_json import to_text
from surd.schemas import BuildConfig, Reason, SourceRecord, SurdError

TERMS = "https://lexica.art/terms"
_FULL_SIZE = "https://image.lexica.art/full_jpg/"
_PARAMS = ("seed", "model", "guidance", "c", "width", "height", "grid", "initImageStrength", "model_mode", "raw_mode")


class Lexica(Gallery):
    """``lexica:WORDS``: the results of a search. A record's id is the image's, whatever the words.

    v1/search (https://lexica.art/docs) gives 50 images and no more; ``lexica.endless`` pages through infinite-prompts.
    """

    def __init__(self, words: str, config: BuildConfig) -> None:
        base = config.lexica.url.rstrip("/")
        if not is_http(base):
            raise SurdError(f"config field 'lexica.url' is {redact_secrets(base)!r}; give an http(s) URL")
        self._words, self._endless = words, config.lexica.endless
        self._crawling = self._endless  # infinite-prompts is the site's own; v1/search is documented for programs
        endpoint = "infinite-prompts" if self._endless else "v1/search"
        super().__init__(f"{base}/{endpoint}", config, name="lexica")

    def fingerprint(self) -> str:
        return f"{self._shown}, {self._words!r}"

    def page(self, cursor: str | None) -> Page:
        """One request, with retries. Raises SurdError if it fails or the response lists no images."""
        if self._endless:
            query = {"text": self._words, "searchMode": "images", "source": "search", "model": "lexica-aperture-v2"}
            position = int(cursor) if cursor and cursor.isdecimal() else cursor or 0
            document = self._request("POST", json=query | {"cursor": position})
        else:
            document = self._request("GET", params={"q": self._words})
        images = document.get("images") if isinstance(document, dict) else None
        if not isinstance(images, list):
            raise SurdError(f"{self._shown} lists no images; its API has changed, or lexica.url is not Lexica's")
        prompts = _by_id(document.get("prompts"))
        next_cursor = to_text(document.get("nextCursor")) if self._endless else None
        return Page([self._image(image, prompts) for image in images], next_cursor or None)

    @property
    def _shown(self) -> str:
        return f"Lexica ({redact_secrets(self._api)})"

    def _image(self, image: Any, prompts: dict[str, dict[str, Any]]) -> SourceRecord:
        """An image as a record; in infinite-prompts its prompt is in ``prompts``, by id."""
        if not isinstance(image, dict):
            return self._malformed(image, f"the image is {type(image).__name__}, not an object")
        number = to_text(image.get("id"))
        if not number:
            return self._malformed(image, "the image has no id")
        fields = prompts.get(to_text(image.get("promptid")) or "", {}) | image
        params = {name: fields[name] for name in _PARAMS if fields.get(name) is not None}
        record = new_record(
            self.name,
            number,
            page_url=to_text(fields.get("gallery")) or f"https://lexica.art/prompt/{number}",
            prompt=to_text(fields.get("prompt")) or None,
            negative_prompt=to_text(fields.get("negativePrompt")) or None,
            params=untrusted_json.dump(params) if params else None,
            author=to_text(fields.get("userid")),
            terms=TERMS,
            nsfw_level=level_of(fields),
            created_at=to_text(fields.get("timestamp")),
        )
        if fields.get("is_private") is True:
            return record.reject("collect", Reason.OPTED_OUT, "its author marked it private")
        url = fields.get("src") if isinstance(fields.get("src"), str) else f"{_FULL_SIZE}{number}"
        try:
            return record.model_copy(update={"url": self._relative(to_text(url) or "")})
        except ValueError:
            shown = redact_secrets(to_text(url) or "")
            return record.reject("collect", Reason.NO_IMAGE, f"not an http(s) URL: {shown}")


def _by_id(prompts: Any) -> dict[str, dict[str, Any]]:
    objects = [prompt for prompt in prompts if isinstance(prompt, dict)] if isinstance(prompts, list) else []
    return {number: prompt for prompt in objects if (number := to_text(prompt.get("id")))}
