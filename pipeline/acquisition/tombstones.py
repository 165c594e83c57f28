"""What was removed from a build for good, and must not be collected or fetched again.

``forgotten.jsonl`` beside ``build.json`` starts with a line that holds a salt; then comes a Tombstone a line. Nothing
of the removed content is kept, only hashes: of URLs, authors and hosts salted, so that no list of known ones matches
them at a glance, of pictures the plain sha256.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import secrets
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Self
from urllib.parse import urljoin, urlsplit

from pydantic import ValidationError

from surd.pipeline.build.folder import Build
from surd.pipeline.net.urls import is_http, url_identity
from surd.schemas import Reason, Sample, SourceRecord, Status, SurdError, Tombstone

FORGOTTEN = "forgotten.jsonl"


class Tombstones:
    """The tombstones of a build, and which records they keep out. ``salt``: of the hashes of URLs, authors, hosts."""

    def __init__(self, salt: str, stones: Iterable[Tombstone] = ()) -> None:
        self.salt = salt
        self.stones = list(stones)
        self.keys = {stone.key for stone in self.stones if stone.key}
        self.pictures = {sha256 for stone in self.stones for sha256 in stone.pictures}
        self._urls = {stone.url for stone in self.stones if stone.url}
        self._pages = {stone.page for stone in self.stones if stone.page}
        self._authors = {stone.author for stone in self.stones if stone.author}
        self._hosts = {stone.host for stone in self.stones if stone.host}
        #: What a record may be named by: keys, and hashes of URLs, pages, authors and hosts.
        self.names = self.keys | self._urls | self._pages | self._authors | self._hosts

    @classmethod
    def read(cls, build: Build) -> Self:
        """Those of a build; none where nothing was removed yet. Raises SurdError when the file is not valid: to go on
        without it would bring removed records back."""
        try:
            first, *lines = build.read_bytes(FORGOTTEN).splitlines()
        except FileNotFoundError:
            return cls(secrets.token_hex(16))
        except ValueError:
            first, lines = b"", []
        number = 1
        try:
            salt = str(json.loads(first)["salt"])
            stones = []
            for line in lines:
                number += 1
                stones.append(Tombstone.model_validate_json(line))
        except (ValueError, LookupError, TypeError, ValidationError):
            raise SurdError(
                f"{build.path(FORGOTTEN)} is not valid in line {number}: it says what must not come back into the"
                " build; restore it from a backup"
            ) from None
        return cls(salt, stones)

    def __bool__(self) -> bool:
        return bool(self.stones)

    def adding(self, stones: Iterable[Tombstone]) -> Self:
        """These and further ones."""
        return type(self)(self.salt, [*self.stones, *stones])

    def text(self) -> str:
        """What the file holds."""
        stones = (stone.model_dump_json(exclude_defaults=True) for stone in self.stones)
        return "\n".join([json.dumps({"salt": self.salt}), *stones]) + "\n"

    def of_url(self, url: str) -> str:
        """The hash of an image's URL or path. The scheme and secrets do not count."""
        return self._hash("url", _plain_url(url))

    def of_page(self, url: str) -> str:
        return self._hash("page", _plain_url(url))

    def of_author(self, name: str) -> str:
        """The hash of an author's name. Upper case and spaces do not count."""
        return self._hash("author", " ".join(unicodedata.normalize("NFKC", name).casefold().split()))

    def of_host(self, host: str) -> str:
        return self._hash("host", plain_host(host))

    def matches(
        self, key: str, url: str | None, page_url: str | None, author: str | None, source: str | None
    ) -> Iterator[str]:
        """What keeps a record out: its key, and the hash of its URL, page, author or host."""
        url = full_url(source, url)
        if key in self.keys:
            yield key
        if self._urls and url:
            yield from self._urls & {self.of_url(url)}
        if self._pages and page_url:
            yield from self._pages & {self.of_page(page_url)}
        if self._authors and author:
            yield from self._authors & {self.of_author(author)}
        if self._hosts:
            names = {host for link in (url, page_url) if link for host in _hosts_of(link)}
            yield from self._hosts & {self._hash("host", name) for name in names}

    def keeps(self, sample: Sample) -> bool:
        """Whether a finished sample is none that was removed: by its key, page, author or host, or by its bytes."""
        if not self.stones or sample.sha256 in self.pictures:
            return not self.stones
        return next(self.matches(sample.key, None, sample.page_url, sample.author, sample.source), None) is None

    def applied(self, record: SourceRecord) -> SourceRecord:
        """The record, or what is left of one that was removed."""
        names = (record.key, record.url, record.page_url, record.author, record.source)
        if not self.stones or next(self.matches(*names), None) is None:
            return record
        return SourceRecord(**stub(record.key), source=record.source, source_id="")

    def _hash(self, kind: str, text: str) -> str:
        return hashlib.sha256(f"{self.salt}\0{kind}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()


def stub(key: str) -> dict[str, str]:
    """The columns of a removed record that are not null: the same in every stage, as collect rejects it."""
    return {
        "key": key,
        "status": Status.REJECTED.value,
        "reason": Reason.FORGOTTEN.value,
        "rejected_by": "collect",
    }


def full_url(source: str | None, url: str | None) -> str | None:
    """The whole URL of an image: what a gallery says of its own pictures may be the path alone."""
    base = (source or "").partition(":")[2]
    with suppress(ValueError):
        return urljoin(base, url) if url and is_http(base) else url
    return url


def plain_host(host: str) -> str:
    """A host's name as it compares: in lower case, without a last dot, in ASCII."""
    name = host.strip().rstrip(".").lower()
    with suppress(UnicodeError):
        return name.encode("idna").decode()
    return name


def _plain_url(url: str) -> str:
    """What identifies an image or a page; http and https are the same, and so are hosts in upper and lower case."""
    identity = url_identity(url.strip())
    if not is_http(identity):
        return identity
    parts = urlsplit(identity)
    port = "" if parts.port in (None, 80, 443) else f":{parts.port}"
    return parts._replace(
        scheme="http", netloc=plain_host(parts.hostname or "") + port, path=parts.path or "/"
    ).geturl()


def _hosts_of(url: str) -> Iterator[str]:
    """The host of a URL and the domains above it, without the last: img.a.example gives itself and a.example."""
    if not is_http(url):
        return
    host = plain_host(urlsplit(url).hostname or "")
    yield host
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return
    labels = host.split(".")
    yield from (".".join(labels[at:]) for at in range(1, len(labels) - 1))
