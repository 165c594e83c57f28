"""The SURD that the paper's authors published: images, metadata.jsonl, prompt2vec."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from surd.pipeline import untrusted_json
from surd.pipeline.sources.huggingface import HuggingFaceFolder
from surd.pipeline.untrusted_json import to_text
from surd.schemas import SourceRecord, SurdError

TERMS = (
    "collected by the authors of arXiv 2305.05189 from Lexica, Civitai and Stable Diffusion Online under their terms; "
    "commercial use needs those sites' or the creators' leave"
)
log = logging.getLogger(__name__)


class AuthorsSurd(HuggingFaceFolder):
    """``metadata.jsonl`` with ``file_name``, ``text`` (the simple prompt) and ``prompt`` (the complex one).

    The authors' simple prompt is kept in ``extra`` as ``simple``; the complex prompt is the record's. Vectors at
    ``prompt2vec/<llm>/<layer>.pt`` are listed in the log and never opened: a .pt file is a pickle.
    """

    kind = "authors"

    def records(self) -> Iterator[SourceRecord]:
        if not any(name.rpartition("/")[2] == "metadata.jsonl" for name in self._files):
            raise SurdError(
                f"config field 'source' names {str(self._root)!r}, which holds no metadata.jsonl; give the folder that "
                "SURD was unpacked to"
            )
        for llm, layer, name in self.vectors():
            log.info("%s: vectors of %s, layer %s, are at %s and are not read", self.name, llm, layer, name)
        yield from super().records()

    def vectors(self) -> list[tuple[str, str, str]]:
        """LLM, layer and path of every file of vectors."""
        vectors = []
        for name in self._files:
            parts = name.split("/")
            if name.endswith(".pt") and "prompt2vec" in parts[:-2]:
                vectors.append((parts[-2], parts[-1].removesuffix(".pt"), name))
        return vectors

    def _fields(self, fields: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
        simple = to_text(row.get("text"))
        extra = untrusted_json.parse(fields["extra"]) if fields.get("extra") else {}
        extra = {name: value for name, value in extra.items() if name != "text"} | (
            {"simple": simple} if simple else {}
        )
        return super()._fields(fields, row) | {
            "prompt": to_text(row.get("prompt")) or None,
            "terms": fields.get("terms") or TERMS,
            "extra": untrusted_json.dump(extra) if extra else None,
        }

    def _unlisted(self, name: str) -> dict[str, Any]:
        return super()._unlisted(name) | {"terms": TERMS}
