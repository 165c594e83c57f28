"""``croissant.json``: the dataset in MLCommons Croissant 1.1, from which loaders read it without code of its own.

Every tar is a FileObject with its sha256; the pictures in them are one FileSet. The record set joins picture and
sentences, which come from the index, by the key. https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from surd.pipeline.dataset.publish.contents import INDEX, Published
from surd.schemas.shard_format.manifests import IMAGE_SUFFIXES

CROISSANT = "croissant.json"
VERSION = "1.0.0"  # a hub's own history tells one state of the data from another
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    **{
        name: f"cr:{name}"
        for name in (
            "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileObject",
            "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5",
            "parentField", "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate",
            "separator", "source", "subField", "transform",
        )
    },
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    "description": {"@container": "@language"},
}  # fmt: skip
_TEXTS = {"simple": "One plain sentence that says what the picture shows.", "complex": "The keyword prompt, cleaned."}


def croissant(
    name: str, url: str, files: Sequence[Published], *, revision: str, description: str, licences: Sequence[str],
    limits: str,
) -> bytes:  # fmt: skip
    """The document. ``url``: of the repo's page; ``licences``: URLs or names, each once.

    The same dataset gives the same bytes: it says no date.
    """
    shards = [file for file in files if file.path.startswith("shards/") and file.path.endswith(".tar")]
    resolve = f"{url}/resolve/{revision}"
    index = next(file for file in files if file.path == INDEX)
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": name,
        "description": description,
        "url": url,
        "license": list(licences),
        "citeAs": url,
        "version": VERSION,
        "rai:dataLimitations": limits,
        "distribution": [
            _file(index, resolve, "application/x-parquet"),
            *(_file(file, resolve, "application/x-tar") for file in shards),
            {
                "@type": "cr:FileSet",
                "@id": "images",
                "name": "images",
                "containedIn": [{"@id": shard.path} for shard in shards],
                "encodingFormat": ["image/png", "image/jpeg", "image/webp"],
                "includes": [f"*.{suffix}" for suffix in IMAGE_SUFFIXES],
            },
        ],
        "recordSet": [_samples()],
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def _file(file: Published, resolve: str, media_type: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": file.path,
        "name": file.path,
        "contentUrl": f"{resolve}/{file.path}",
        "contentSize": f"{file.size} B",
        "encodingFormat": media_type,
        "sha256": file.sha256,
    }


def _samples() -> dict[str, Any]:
    from_index = {"fileObject": {"@id": INDEX}}
    suffixes = "|".join(IMAGE_SUFFIXES)
    name_of_image = {
        "fileSet": {"@id": "images"},
        "extract": {"fileProperty": "filename"},
        "transform": {"regex": rf"^([0-9a-f]{{16}})(?:\.(?:{suffixes}))?$"},
    }
    image = {"fileSet": {"@id": "images"}, "extract": {"fileProperty": "content"}}
    key = {
        **_field("key", "sc:Text", "First 16 hex digits of sha256(source, source id).", name_of_image),
        "references": {**from_index, "extract": {"column": "key"}},
    }
    return {
        "@type": "cr:RecordSet",
        "@id": "samples",
        "name": "samples",
        "key": {"@id": "samples/key"},
        "field": [
            key,
            _field("image", "sc:ImageObject", "The picture, in its original bytes.", image),
            *(
                _field(name, "sc:Text", text, from_index | {"extract": {"column": name}})
                for name, text in _TEXTS.items()
            ),
        ],
    }


def _field(name: str, kind: str, description: str, source: dict[str, Any]) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"samples/{name}",
        "name": name,
        "description": description,
        "dataType": kind,
        "source": source,
    }
