"""The loader on latents in buckets: equal shapes in a batch, for any workers and ranks, resumed where it stopped."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sur_adapter.data.shard_dataset import ShardDataset
from surd.schemas.errors import SurdError
from tests.sur_adapter.bucketed import NAME, SCALE, about, add_buckets, members_of
from tests.sur_adapter.conftest import npy, write_tar


def stream(build: Any, **how: Any) -> Any:
    data = ShardDataset(build.pattern, columns=[NAME], image=False, shuffle=5)
    return data.loader(**({"batch_size": 2, "seed": 0} | how))


def keys(batches: Any) -> list[list[str]]:
    return [batch.keys for batch in batches]


def all_keys(build: Any) -> list[str]:
    return [key for shard in range(build.shards) for key in build.keys(shard)]


def test_a_batch_has_one_shape_and_each_pictures_own_size_and_crop(build: Any) -> None:
    add_buckets(build)
    own = {key: about(shard, at) for shard in range(build.shards) for at, key in enumerate(build.keys(shard))}
    for batch in islice(stream(build), 12):
        assert batch.latents_size_B6.tolist() == [list(own[key]) for key in batch.keys]
        (shape,) = {(own[key].height // SCALE, own[key].width // SCALE) for key in batch.keys}
        assert batch.latents_mean_BCHW.shape == batch.latents_std_BCHW.shape == (2, 4, *shape)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_sample_comes_once_an_epoch_for_any_workers_and_ranks(build: Any, workers: int) -> None:
    add_buckets(build)  # four squares, four lying and two standing, two more: whole batches each epoch
    alone = keys(islice(stream(build), 12))
    assert Counter(key for batch in alone[:6] for key in batch) == dict.fromkeys(all_keys(build), 1)
    ranks = [keys(islice(stream(build, rank=rank, world=3, workers=workers), 4)) for rank in range(3)]
    assert [batch for step in zip(*ranks, strict=True) for batch in step] == alone
    assert keys(stream(build, epochs=2, workers=workers)) == alone


def test_at_any_stop_a_resumed_stream_is_the_uninterrupted_one(build: Any) -> None:
    add_buckets(build)
    whole = keys(islice(stream(build, batch_size=3), 12))  # every epoch leaves some of each bucket for the next
    for stop, workers in ((1, 0), (4, 2), (7, 0), (9, 0)):
        first = stream(build, batch_size=3, workers=workers)
        taken = keys(islice(first, stop))
        second = stream(build, batch_size=3)
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert taken + keys(islice(second, 12 - stop)) == whole
    with pytest.raises(SurdError, match="resume: the state's batch_size is 3, this run's 2; start again"):
        stream(build).load_state_dict(first.state_dict())


def test_what_is_left_at_the_end_of_some_epochs_is_a_shorter_batch(build: Any) -> None:
    add_buckets(build)
    read = keys(stream(build, batch_size=3, epochs=1))
    assert sorted(key for batch in read for key in batch) == sorted(all_keys(build))
    assert sorted(map(len, read)) == [1, 1, 2, 2, 3, 3]


def spoiled(build: Any, change: Any) -> None:
    """Change the members of the first sample, by suffix, and state what is there then."""
    folder, key = add_buckets(build), build.keys(0)[0]
    members = members_of(build, 0)
    own = {name.removeprefix(f"{key}."): members.pop(name) for name in list(members) if name.startswith(key)}
    change(own)
    changed = {f"{key}.{suffix}": data for suffix, data in own.items()} | members
    info = write_tar(folder / "surd-00000.tar", changed, build.count)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["shards"][0] = info.model_dump()
    (folder / "manifest.json").write_text(json.dumps(manifest))


SQUARE = [600, 600, 0, 0, 32, 32]


@pytest.mark.parametrize(
    ("suffix", "data", "sentence"),
    [
        ("npy", npy(np.zeros((8, 8, 12), np.float16)), "its bucket has latents of 8 x 8, not 8 x 12"),
        ("npy", npy(np.zeros((8, 8), np.float16)), r"its shape is \[8, 8\], its manifest says \[8, any, any\]"),
        ("size.npy", None, "it is missing"),
        ("size.npy", npy(np.array(SQUARE, np.int64)), r"it is not size and crop of a picture: int32 \[6\]"),
        ("size.npy", npy(np.array(SQUARE[:5], np.int32)), r"it is not size and crop of a picture"),
        ("size.npy", npy(np.array([0, *SQUARE[1:]], np.int32)), r"it is not size and crop of a picture"),
        ("size.npy", npy(np.array([*SQUARE[:2], 1, 0, 32, 32], np.int32)), r"it says .*600 x 600 follows .*0, 0, 32"),
        ("size.npy", npy(np.array(about(0, 1), np.int32)), "its bucket has latents of 7 x 10, not 8 x 8"),
        ("size.npy", npy(np.array({"an": "object"}), allow_pickle=True), "it asks for pickle"),
    ],
)
def test_a_member_that_is_not_what_its_bucket_asks_for_is_one_sentence(
    build: Any, suffix: str, data: bytes | None, sentence: str
) -> None:
    spoiled(build, lambda own: own.update({suffix: data}) if data else own.pop(suffix))
    with pytest.raises(
        SurdError, match=rf"latents-buckets/surd-00000.tar: member \w+\.(size\.)?npy: {sentence}"
    ) as told:
        list(stream(build, epochs=1))
    assert "\n" not in str(told.value)


def restated(folder: Path, change: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_manifest_that_puts_a_sample_in_another_bucket_is_told_by_the_sample(build: Any) -> None:
    folder = add_buckets(build)
    restated(folder, lambda manifest: manifest["buckets"]["numbers"].reverse())
    with pytest.raises(SurdError, match=r"size.npy: its bucket is '.', and the manifest says '.'; embed again"):
        list(stream(build, epochs=1))


@pytest.mark.parametrize(
    ("lies", "problem"),
    [
        ({"numbers": ["000000"]}, "numbers has not one character for each sample of each shard"),
        ({"numbers": ["00000", "000000"]}, "numbers has not one character for each sample"),
        ({"numbers": ["00000Z", "000000"]}, "numbers: a character stands for none of the"),
        ({"numbers": ["00000é", "000000"]}, "numbers: a character stands for none of the"),
        ({"scale": 3}, "sizes: a side is a multiple of scale, 3"),
        ({"scale": 0}, "Input should be greater than or equal to 1"),
        ({"sizes": [[32, 32], [32, 32]]}, "sizes: one is listed twice"),
        ({"sizes": [[1 << 40, 32]]}, "at most 65536"),
        ({"sizes": []}, "at least 1 item"),
    ],
)
def test_buckets_that_cannot_be_are_refused(build: Any, lies: dict[str, Any], problem: str) -> None:
    folder = add_buckets(build)
    restated(folder, lambda manifest: manifest["buckets"].update(lies))
    with pytest.raises(SurdError, match=f"latents-buckets/manifest.json: not a valid ColumnManifest .*{problem}"):
        stream(build)


@pytest.mark.parametrize("lies", [{"kind": "llm"}, {"shape": [8, 8, 8]}, {"shape": []}, {"shape": [None, None, None]}])
def test_only_latents_of_any_height_and_width_have_buckets(build: Any, lies: dict[str, Any]) -> None:
    folder = add_buckets(build)
    restated(folder, lambda manifest: manifest.update(lies))
    with pytest.raises(SurdError, match="buckets: only latents have some, with the shape"):
        stream(build)


def test_mixed_shapes_in_a_column_of_squares_are_one_sentence(build: Any) -> None:
    folder = add_buckets(build)
    restated(folder, lambda manifest: (manifest.pop("buckets"), manifest.update({"width": 8})))
    with pytest.raises(SurdError, match=r"has shape \(8, .*embed again"):
        list(stream(build, epochs=1, batch_size=6))
    restated(folder, lambda manifest: manifest.update({"shape": [8, 8, 8]}))
    with pytest.raises(SurdError, match=r"its shape is \[8, .*its manifest says \[8, 8, 8\]; embed again"):
        list(stream(build, epochs=1, batch_size=6))
