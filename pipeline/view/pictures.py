"""PictureCache of records on demand: thumbnails made from the stored bytes, and the stored bytes themselves."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from surd.pipeline.build.folder import Build
from surd.pipeline.build.image_reader import OpenReaders
from surd.schemas import Pair

SIDE = 256  # pixels of a thumbnail's longer side
_KEPT = 48 << 20  # bytes of thumbnails in memory
MEDIA = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}


class PictureCache:
    """Reads pictures of one build; the thumbnails that were used last stay in memory."""

    def __init__(self, build: Build) -> None:
        self._readers = OpenReaders(build.image_reader)
        self._thumbnails: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._reading, self._lock = threading.Lock(), threading.Lock()
        self._decoding = threading.Semaphore(2)  # a decoded picture may take hundreds of megabytes

    def original(self, key: str, where: dict[str, Any]) -> bytes:
        """The stored bytes. Raises SurdError where they are not those that were fetched."""
        names = ("offset", "size", "sha256", "ext")
        pair = Pair.model_construct(key=key, **{name: where[name] for name in names})
        with self._reading:
            return self._readers[where["part"]].read(pair)

    def thumbnail(self, key: str, where: dict[str, Any]) -> bytes | None:
        """The picture as a small WebP; None when it does not decode."""
        name = where["sha256"] or key
        with self._lock:
            if name in self._thumbnails:
                self._thumbnails.move_to_end(name)
                return self._thumbnails[name]
        data = self.original(key, where)
        with self._decoding:
            from surd.pipeline.report.entries import thumbnail_bytes  # loads Pillow, which the first page does without

            small = thumbnail_bytes(data, SIDE, method=0)
        if small is not None:
            with self._lock:
                self._size += len(small) - len(self._thumbnails.get(name, b""))
                self._thumbnails[name] = small
                while self._size > _KEPT:
                    self._size -= len(self._thumbnails.popitem(last=False)[1])
        return small
