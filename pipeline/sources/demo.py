"""The demo world as a source: a gallery like any other, served by this process while it is used."""

from __future__ import annotations

import json
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from surd.pipeline.sources.gallery import Gallery
from surd.schemas import BuildConfig, SurdError


class DemoGallery(Gallery):
    """The gallery of the demo world. Its server lives as long as the ``with`` block and leaves nothing behind."""

    def __init__(self, rest: str, config: BuildConfig) -> None:
        if rest:
            raise SurdError(f"config field 'source' is 'demo:{rest}'; the demo world takes its size from demo.count")
        super().__init__("http://127.0.0.1/", config, name="demo")
        self._world: dict[str, Any] = {
            "count": config.demo.count,
            "seed": config.seed,
            "defects": config.demo.defects,
        }
        self._server = ExitStack()

    def fingerprint(self) -> str:
        return f"{super().fingerprint()} of {json.dumps(self._world)}"

    def __enter__(self) -> Self:
        from surd.pipeline.demo.server import serve_gallery

        gallery = self._server.enter_context(serve_gallery(**self._world))
        self._set_address(gallery.url)
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._server.close()
