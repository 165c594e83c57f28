"""embed: turns a shard's simple prompts into LLM hidden states, one column of ``{key}.npy`` per layer and pooling."""

from __future__ import annotations

import io
import re
import tarfile
from contextlib import ExitStack
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.build import Build, add_member
from pipeline.models import Models
from pipeline.pixels import batched
from schemas import ColumnManifest, Row, ShardInfo, ShardManifest, SurdError
from schemas.config import EmbedConfig

_DTYPE = "float16"
Pooling = Literal["mean", "tokens"]
Key = tuple[int, Pooling]
States = dict[Key, npt.NDArray[np.float16]]


def embed(build: Build, shard: int, settings: EmbedConfig, models: Models) -> list[Row]:
    """Write ``columns/<column>/surd-NNNNN.tar`` for every layer and pooling: same keys and order as the shard.

    ``mean`` gives [width], the mean over the prompt's tokens; ``tokens`` gives [tokens, width]; both float16.
    Raises SurdError when a layer is deeper than the LLM.
    """
    name = _manifest(build).shards[shard].name
    llm = models.config.ref("embed_llm")
    keys, texts = _prompts(build, name)
    if too_deep := [layer for layer in settings.layers if not 0 <= layer <= models.embed_llm.depth]:
        raise SurdError(
            f"config field 'embed.layers' asks for {too_deep[0]}; choose 0 to {models.embed_llm.depth},"
            f" the layers of {llm!r}"
        )
    vectors = _embed_distinct(texts, settings, models)
    with ExitStack() as stack:
        for layer, pooling in _columns(settings):
            relative = f"columns/{column_name(llm, layer, pooling)}/{name}"
            file = stack.enter_context(build.writing(relative))
            tar = stack.enter_context(tarfile.open(fileobj=file, mode="w|"))  # type: ignore[call-overload]
            for key, text in zip(keys, texts, strict=True):
                add_member(tar, f"{key}.npy", _npy(vectors[text][layer, pooling]))
    return []


def finish(build: Build, settings: EmbedConfig, models: Models) -> None:
    """Describe each finished column in its ``manifest.json``, and remove tars of shards that are no more."""
    shards = _manifest(build).shards
    llm = models.config.ref("embed_llm")
    for layer, pooling in _columns(settings):
        column = column_name(llm, layer, pooling)
        for stale in set(build.listdir(f"columns/{column}")) - {shard.name for shard in shards} - {"manifest.json"}:
            build.remove(f"columns/{column}/{stale}")
        infos = [_shard_info(build, number, column, shard) for number, shard in enumerate(shards)]
        manifest = ColumnManifest(
            column=column,
            kind="llm",
            model=llm,
            revision=models.revision("embed_llm"),
            layer=layer,
            pooling=pooling,
            width=_width(build, column, shards),
            dtype=_DTYPE,
            text="simple",
            count=sum(info.count for info in infos),
            shards=infos,
        )
        build.write_json(f"columns/{column}/manifest.json", manifest)


def column_name(llm: str, layer: int, pooling: Pooling) -> str:
    """``llm-<model>-l<layer>``, plus ``-tokens`` for token-level states; the model is a slug of its last part."""
    stem = re.sub(r"\.gguf$", "", llm.rstrip("/").rsplit("/", 1)[-1])
    slug = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")
    return f"llm-{slug}-l{layer}" + ("-tokens" if pooling == "tokens" else "")


def _columns(settings: EmbedConfig) -> list[Key]:
    return [(layer, pooling) for layer in sorted(set(settings.layers)) for pooling in sorted(set(settings.pooling))]


def _manifest(build: Build) -> ShardManifest:
    return ShardManifest.model_validate_json(build.read_bytes("shards/manifest.json"))


def _prompts(build: Build, shard: str) -> tuple[list[str], list[str]]:
    """Keys and simple prompts of a shard, in order."""
    keys, texts = [], []
    with build.open(f"shards/{shard}") as raw, tarfile.open(fileobj=raw, mode="r|") as tar:
        for member in tar:
            key, _, ext = member.name.partition(".")
            file = tar.extractfile(member) if ext == "simple.txt" else None
            if file is not None:
                keys.append(key)
                texts.append(file.read().decode())
    return keys, texts


def _embed_distinct(texts: list[str], settings: EmbedConfig, models: Models) -> dict[str, States]:
    """Each distinct text once, texts of like length together, so that little of a batch is padding."""
    vectors: dict[str, States] = {}
    for batch in batched(sorted(set(texts), key=lambda text: (len(text), text)), settings.batch_size):
        for text, states in zip(batch, models.embed_llm.hidden_states(batch, settings.layers), strict=True):
            vectors[text] = {
                (layer, pooling): (states[layer].mean(0) if pooling == "mean" else states[layer]).astype(np.float16)
                for layer, pooling in _columns(settings)
            }
    return vectors


def _npy(array: npt.NDArray[np.float16]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _shard_info(build: Build, number: int, column: str, shard: ShardInfo) -> ShardInfo:
    relative = f"columns/{column}/{shard.name}"
    marker = build.marker("embed", number)
    assert marker is not None, "finish runs after every shard is embedded"
    return ShardInfo(name=shard.name, count=shard.count, bytes=build.size(relative), sha256=marker.outputs[relative])


def _width(build: Build, column: str, shards: list[ShardInfo]) -> int:
    if not shards:
        return 0
    with build.open(f"columns/{column}/{shards[0].name}") as raw, tarfile.open(fileobj=raw, mode="r|") as tar:
        file = tar.extractfile(tar.next())  # type: ignore[arg-type]  # a shard is never empty
        assert file is not None
        return int(np.load(io.BytesIO(file.read()), allow_pickle=False).shape[-1])
