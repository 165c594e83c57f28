"""Original bytes of fetched images, compared with what fetch noted of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import IO

from surd.pipeline.build.object_store import RangeFile
from surd.schemas import Pair, SurdError

_MOST_OPEN = 64  # tars
_WINDOW = 8 << 20  # bytes of images that one batch of requests reads
_MOST_IN_WINDOW = 256  # images


class ImageReader:
    """Original bytes by the offset and size that fetch noted in the pair; ``tar`` and ``marker`` are for messages.

    Each image is compared with its pair, length and sha256: 0.6 ms for a megabyte, where decoding it takes 20 ms or
    more. A tar that was cut or damaged after fetch would otherwise give empty, half or wrong pictures that still fit
    their rows.
    """

    def __init__(self, file: IO[bytes] | RangeFile, tar: str, marker: str) -> None:
        self._file, self._tar, self._marker = file, tar, marker

    def read(self, pair: Pair) -> bytes:
        """The image of a pair. Raises SurdError if its bytes are not the fetched ones."""
        start, end = extent(pair)
        self._file.seek(start)
        return self.check(pair, self._file.read(end - start) or b"")

    def check(self, pair: Pair, data: bytes) -> bytes:
        """The bytes read for a pair, if they are its own. Raises SurdError if not."""
        if len(data) != pair.size:
            raise self._damaged(pair, f"ends after {len(data):,} of {pair.size:,} bytes")
        if pair.sha256 is not None and hashlib.sha256(data).hexdigest() != pair.sha256:
            raise self._damaged(pair, "has other bytes than its sha256 says")
        return data

    def close(self) -> None:
        self._file.close()

    def _damaged(self, pair: Pair, problem: str) -> SurdError:
        return SurdError(
            f"{self._tar} is not as fetch wrote it: the image of {pair.key} {problem};"
            f" remove {self._marker} and run the same surd build (or surd import) again, which fetches anew what is"
            " damaged"
        )


def extent(pair: Pair) -> tuple[int, int]:
    """Where the bytes of a fetched pair start and end in the tar of their partition."""
    assert pair.offset is not None and pair.size is not None, "only fetched pairs have bytes"
    return pair.offset, pair.offset + pair.size


class OpenReaders:
    """The readers of several partitions, at most so many of them open as a process may have files."""

    def __init__(self, open_reader: Callable[[int], ImageReader]) -> None:
        self._open_reader = open_reader
        self._readers: dict[int, ImageReader] = {}

    def __getitem__(self, part: int) -> ImageReader:
        """The reader of a partition; the one that was not used for longest makes room for it."""
        reader = self._readers.pop(part, None) or self._open_reader(part)
        self._readers[part] = reader
        if len(self._readers) > _MOST_OPEN:
            self._readers.pop(next(iter(self._readers))).close()
        return reader

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()


def windows(pairs: Iterable[tuple[int, Pair]]) -> Iterator[list[tuple[int, Pair]]]:
    """Pairs in their order, as many at a time as one batch of requests should read."""
    window: list[tuple[int, Pair]] = []
    size = 0
    for part, pair in pairs:
        window.append((part, pair))
        size += pair.size or 0
        if size >= _WINDOW or len(window) == _MOST_IN_WINDOW:
            yield window
            window, size = [], 0
    if window:
        yield window
