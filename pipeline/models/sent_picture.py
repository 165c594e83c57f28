"""A picture as it is sent to a vision server: a data URL of the stored file, or of a smaller JPEG."""

from __future__ import annotations

import base64
import hashlib
import io
import threading
from contextlib import suppress

from PIL import Image

from surd.schemas.shard_format.complete import complete_jpeg
from surd.schemas.shard_format.container import strip_metadata
from surd.schemas.shard_format.exif import orientation
from surd.schemas.shard_format.pixels import UNDECODABLE, open_image, to_rgb

#: What all servers decode, and alike: llama.cpp knows no WebP, and each has its own way with transparency, animations,
#: 16 bits a channel and EXIF orientation.
_SENT_AS_STORED = {"JPEG": ("RGB", "L"), "PNG": ("RGB", "L")}
_MOST_BYTES = 1 << 20  # of a file that is sent as stored: nginx refuses bodies from 1 MB on unless it is told otherwise
_QUALITY = 90
_SMALLEST = 32  # pixels: below that no answer can be expected


class UnreadablePicture(Exception):
    """A picture that cannot be decoded; its text says why."""


class SentPicture:
    """A picture to be sent, not encoded before it is; equal pixels or files have one ``name``.

    ``source``: the stored file, or RGB pixels. ``longest``: pixels of its longer side at most. What is stored goes as
    it is, without its texts, if it is a JPEG or PNG of at most that size and 1 MiB that every server shows alike;
    anything else becomes a JPEG by the rule of ``to_rgb``, resized (Lanczos).
    """

    def __init__(self, source: bytes | Image.Image, longest: int) -> None:
        self._source, self.longest = source, longest
        digest = hashlib.sha256(source if isinstance(source, bytes) else repr((source.mode, source.size)).encode())
        if not isinstance(source, bytes):
            digest.update(source.tobytes())
        #: Of the content and the size that was asked for; it does not change when the picture is halved.
        self.name = f"sha256:{digest.hexdigest()}@{longest}"
        self._encoding = threading.Lock()
        self._encoded: tuple[int, bytes] | None = None
        self._is_examined = self._is_halved = False
        self._sides = (0, 0)  # width and height, once it was encoded

    def halve(self) -> bool:
        """Send it at half its size from now on; False if it was halved before, or would be too small."""
        half = min(self.longest, max(self._sides)) // 2
        if self._is_halved or half < _SMALLEST:
            return False
        self.longest, self._is_halved = half, True
        return True

    def stored_url(self) -> bytes | None:
        """The data URL if it is at hand or made in less than a millisecond, of a file that is sent as it is stored."""
        if self._encoded is None and isinstance(self._source, bytes) and not self._is_examined:
            self._is_examined = True
            with suppress(*UNDECODABLE):
                plain = strip_metadata(self._source)
                is_upright = plain is self._source or orientation(self._source) == 1
                if is_upright and (kind := self._kind_as_stored(plain)):
                    self._encoded = (self.longest, _data_url(kind, plain))
        return self._encoded[1] if self._encoded and self._encoded[0] == self.longest else None

    def encoded_url(self) -> bytes:
        """The data URL of a JPEG; encoded once for each size, by whichever thread comes first.

        Raises UnreadablePicture.
        """
        with self._encoding:
            if self._encoded is None or self._encoded[0] != self.longest:
                try:
                    self._encoded = (self.longest, self._encode())
                except UNDECODABLE:
                    raise UnreadablePicture("the picture cannot be decoded") from None
            return self._encoded[1]

    def _encode(self) -> bytes:
        picture = to_rgb(self._source) if isinstance(self._source, bytes) else self._source.convert("RGB")
        self._sides = picture.size
        if max(picture.size) > self.longest:
            picture = picture.copy() if picture is self._source else picture
            picture.thumbnail((self.longest, self.longest), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=_QUALITY)
        return _data_url("jpeg", buffer.getvalue())

    def _kind_as_stored(self, data: bytes) -> str | None:
        """The MIME subtype of a file that is sent as stored; None where it must be encoded anew."""
        if len(data) > _MOST_BYTES or complete_jpeg(data) is not data:
            return None
        with open_image(data) as image:
            self._sides = image.size
            kind = image.format or ""
            plain = image.mode in _SENT_AS_STORED.get(kind, ()) and "transparency" not in image.info
            alike = plain and getattr(image, "n_frames", 1) == 1
            return kind.lower() if alike and max(image.size) <= self.longest else None


def _data_url(kind: str, data: bytes) -> bytes:
    return b"data:image/" + kind.encode() + b";base64," + base64.b64encode(data)
