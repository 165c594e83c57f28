"""The loader: batches of shards zipped with their columns, resumed to the very next sample by any number of workers."""

from __future__ import annotations

import io
import json
import random
import shutil
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from sur_adapter.data.batch import TrainingSample, decode
from sur_adapter.data.shard_dataset import Batch, ShardDataset
from surd.schemas.errors import SurdError
from surd.schemas.manifest import ColumnManifest, ShardInfo, ShardManifest

COLUMN = "llm-tiny-l2"


def stream(data: ShardDataset, **how: Any) -> Any:
    return data.loader(**({"batch_size": 4, "image_size": 8, "seed": 0} | how))


def keys(batches: Any) -> list[str]:
    return [key for batch in batches for key in batch.keys]


def all_keys(build: Any) -> list[str]:
    return sorted(key for shard in range(build.shards) for key in build.keys(shard))


def add_column(build: Any, write_tar: Any, arrays: dict[str, dict[str, bytes]], **manifest: Any) -> None:
    """A column whose members are given per shard."""
    folder = build.root / "columns" / manifest["column"]
    shards = [write_tar(folder / name, members, build.count) for name, members in arrays.items()]
    told = {"model": "tiny", "revision": "0", "dtype": "float16", "count": sum(s.count for s in shards)}
    document = ColumnManifest(**(told | manifest), shards=shards)
    (folder / "manifest.json").write_text(document.model_dump_json())


def arrays_of(build: Any, make: Any) -> dict[str, dict[str, bytes]]:
    return {
        f"surd-{n:05d}.tar": {name: data for key in build.keys(n) for name, data in make(key).items()}
        for n in range(build.shards)
    }


def write_index(build: Any) -> None:
    """``index.parquet`` as pack writes it, a row group a shard, with prompts that differ from those in the shards."""
    schema = pa.schema([(name, pa.string()) for name in ("key", "shard", "simple", "complex")])
    with pq.ParquetWriter(build.root / "shards/index.parquet", schema) as writer:
        for number in range(build.shards):
            rows = [
                {"key": key, "shard": f"surd-{number:05d}.tar", "simple": f"simple {key}", "complex": f"complex {key}"}
                for key in build.keys(number)
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_key_comes_exactly_once_an_epoch_in_equally_many_batches_a_rank(
    build: Any, world: int, workers: int
) -> None:
    data = ShardDataset(build.pattern, columns=["llm"], image=False, shuffle=5)
    ranks = [list(stream(data, rank=rank, world=world, workers=workers, epochs=1)) for rank in range(world)]
    assert sorted(key for batches in ranks for key in keys(batches)) == all_keys(build)
    assert len({len(batches) for batches in ranks}) == 1
    endless = [keys(islice(stream(data, rank=rank, world=world, workers=workers), 3)) for rank in range(world)]
    assert [len(one) for one in endless] == [12] * world
    assert Counter(key for one in endless for key in one[: 12 // world]) == Counter(all_keys(build))


def test_at_twenty_random_stops_a_resumed_stream_is_the_uninterrupted_one(build: Any) -> None:
    data = ShardDataset(build.pattern, image=False, shuffle=5)
    whole = keys(islice(stream(data), 24))
    pick = random.Random(0)
    for _ in range(20):
        batches, workers, later = pick.randrange(1, 20), pick.choice([0, 0, 1, 2]), pick.choice([0, 0, 1, 2])
        first = stream(data, workers=workers)
        taken = keys(islice(first, batches))
        second = stream(ShardDataset(build.pattern, image=False, shuffle=5), workers=later)
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert taken + keys(islice(second, 24 - batches)) == whole


def test_a_stream_goes_on_with_another_batch_size_and_when_iterated_again(build: Any) -> None:
    data = ShardDataset(build.pattern, image=False)
    whole = keys(islice(stream(data), 6))
    first = stream(data)
    taken = keys(islice(first, 2)) + keys(islice(first, 1))
    second = stream(data, batch_size=3)
    second.load_state_dict(first.state_dict())
    assert taken + keys(islice(second, 4)) == whole


@pytest.mark.parametrize(
    ("changed", "name"), [({"seed": 1}, "seed"), ({"world": 2}, "world"), ({"shuffle": 7}, "shuffle")]
)
def test_a_state_of_another_order_is_refused_by_name(build: Any, changed: dict[str, int], name: str) -> None:
    state = stream(ShardDataset(build.pattern)).state_dict()
    other = ShardDataset(build.pattern, shuffle=changed.pop("shuffle", 2048))
    with pytest.raises(SurdError, match=f"resume: the state's {name} is"):
        stream(other, **changed).load_state_dict(state)
    with pytest.raises(SurdError, match="resume: the state's data is"):
        stream(ShardDataset(build.pattern, columns=["llm"])).load_state_dict(state)


def test_finite_epochs_resume_too(build: Any) -> None:
    data = ShardDataset(build.pattern, image=False)
    whole = list(stream(data, epochs=2, batch_size=5))
    assert [len(batch.keys) for batch in whole] == [4, 5, 5, 5, 5]
    loader = stream(data, epochs=2, batch_size=5)
    taken = keys(islice(loader, 2))
    assert taken + keys(loader) == keys(whole) and list(loader) == []


def test_a_batch_holds_pixels_in_minus_one_to_one_and_each_keys_own_vector(build: Any) -> None:
    data = ShardDataset(build.pattern, columns=["llm"])
    batch = next(iter(stream(data, image_size=16)))
    assert batch.images_BCHW.shape == (4, 3, 16, 16) and batch.images_BCHW.dtype == torch.float32
    assert -1 <= batch.images_BCHW.min() < -0.2 and 0.2 < batch.images_BCHW.max() <= 1
    own = {sample.key: sample.arrays["llm"] for sample in map(data.read, data.order(seed=5).locations(0, 12))}
    assert batch.llm_BW.dtype == torch.float32
    assert np.array_equal(batch.llm_BW, np.stack([own[key] for key in batch.keys]).astype(np.float32))
    assert all(long.startswith(short) for short, long in zip(batch.simple, batch.complex, strict=True))
    assert all(tensor is None for tensor in (batch.llm_BLW, batch.latents_mean_BCHW, batch.clip_simple_BTD))


def test_an_image_is_turned_upright_and_laid_on_white() -> None:
    def decoded(image: Image.Image, format: str, **options: Any) -> np.ndarray:
        data = io.BytesIO()
        image.save(data, format, **options)
        return decode(TrainingSample(key="k", shard="s", simple="", complex="", image=data.getvalue()), 8)

    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert (decoded(clear, "PNG") == 255).all()
    half = Image.new("RGB", (8, 8))
    half.paste((255, 255, 255), (0, 0, 8, 4))
    turned = Image.Exif()
    turned[0x0112] = 3  # upside down
    assert decoded(half, "PNG", exif=turned)[6:].min() > 200 > 50 > decoded(half, "PNG", exif=turned)[:2].max()


def test_token_level_states_are_padded_and_masked(build: Any, write_tar: Any, npy: Any) -> None:
    lengths = {key: 2 + i % 3 for n in range(2) for i, key in enumerate(build.keys(n))}
    tokens = arrays_of(build, lambda key: {f"{key}.npy": npy(np.full((lengths[key], 24), 3, np.float32))})
    add_column(build, write_tar, tokens, column="llm-t", kind="llm", pooling="tokens", width=24,
               shape=[None, 24], dtype="float32")  # fmt: skip
    data = ShardDataset(build.pattern, columns=["llm-t"], image=False)
    batch = next(iter(stream(data)))
    assert batch.llm_BW is None and batch.llm_mask_BL.dtype == torch.bool
    assert batch.llm_mask_BL.sum(1).tolist() == [lengths[key] for key in batch.keys]
    assert torch.equal(batch.llm_BLW[..., 0], batch.llm_mask_BL * 3.0)
    assert data.llm_statistics()[0].tolist() == [3.0] * 24


def test_bfloat16_comes_back_to_the_bit(build: Any, write_tar: Any, npy: Any) -> None:
    values = torch.randn(24).to(torch.bfloat16)
    stored = npy(values.view(torch.uint16).numpy())
    states = arrays_of(build, lambda key: {f"{key}.npy": stored})
    add_column(build, write_tar, states, column="llm-b", kind="llm", width=24, shape=[24], dtype="bfloat16")
    batch = next(iter(stream(ShardDataset(build.pattern, columns=["llm-b"], image=False))))
    assert torch.equal(batch.llm_BW, values.float().expand(4, 24))


def test_latents_and_text_states_are_read_without_any_image(build: Any, write_tar: Any, npy: Any) -> None:
    latent = np.concatenate([np.full((4, 2, 2), 0.5), np.full((4, 2, 2), 0.25)]).astype(np.float16)
    latents = arrays_of(build, lambda key: {f"{key}.npy": npy(latent)})
    add_column(build, write_tar, latents, column="latents", kind="latents", width=2, shape=[8, 2, 2])
    states, mask = npy(np.ones((6, 32), np.float16)), npy(np.array([1, 1, 1, 0, 0, 0], np.uint8))
    for text in ("simple", "complex"):
        add_column(build, write_tar, arrays_of(build, lambda key: {f"{key}.npy": states, f"{key}.mask.npy": mask}),
                   column=f"clip-{text}", kind="clip", text=text, width=32, shape=[6, 32], mask=True)  # fmt: skip
    write_index(build)
    for shard in build.root.glob("shards/*.tar"):
        shard.unlink()  # with prompts in the index, they are not needed
    data = ShardDataset(build.pattern, columns=["llm", "latents", "clip-simple", "clip-complex"], image=False)
    assert sorted(data.columns) == ["clip-complex", "clip-simple", "latents", COLUMN]
    batch = next(iter(stream(data, workers=1)))
    assert batch.images_BCHW is None
    assert batch.latents_mean_BCHW.shape == (4, 4, 2, 2) and (batch.latents_std_BCHW == 0.25).all()
    assert batch.clip_simple_BTD.shape == batch.clip_complex_BTD.shape == (4, 6, 32)
    assert batch.clip_complex_mask_BT.tolist() == [[True] * 3 + [False] * 3] * 4
    assert batch.simple == [f"simple {key}" for key in batch.keys]


def test_without_prompts_in_the_index_they_are_read_in_the_shard(build: Any) -> None:
    pq.write_table(pa.table({"key": ["k"], "shard": ["surd-00000.tar"]}), build.root / "shards/index.parquet")
    batch = next(iter(stream(ShardDataset(build.pattern, image=False))))
    assert batch.images_BCHW is None and all(text.count(" ") == 2 for text in batch.simple)


def test_batches_move_whole(build: Any) -> None:
    batch = next(iter(stream(ShardDataset(build.pattern, columns=["llm"]))))
    moved = batch.to("meta")
    assert isinstance(moved, Batch) and moved.images_BCHW.is_meta and moved.llm_BW.is_meta and moved.keys == batch.keys


def test_a_relative_pattern_without_a_folder_works(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(build.root / "shards")
    data = ShardDataset("surd-{00000..00001}.tar", columns=["llm"])
    assert len(keys(stream(data, epochs=1))) == 12


def test_a_build_stands_for_all_of_its_shards(build: Any) -> None:
    data, named = ShardDataset(str(build.root), columns=["llm"]), ShardDataset(build.pattern, columns=["llm"])
    assert data.shards == named.shards and keys(stream(data, epochs=1)) == keys(stream(named, epochs=1))


def test_a_pattern_matching_nothing_is_named(build: Any) -> None:
    with pytest.raises(SurdError, match=r"--shards: .*nowhere.*matches no build"):
        ShardDataset(f"{build.root}/nowhere/surd-{{00000..00003}}.tar")
    with pytest.raises(SurdError, match=r"surd-00002\.tar, which is not there"):
        ShardDataset(f"{build.root}/shards/surd-{{00000..00003}}.tar")
    with pytest.raises(SurdError, match="unbalanced"):
        ShardDataset("surd-{0..3.tar")
    with pytest.raises(SurdError, match=r"nosuch://.*cannot be read here"):
        ShardDataset("nosuch://bucket/shards/surd-{0..3}.tar")
    (build.root / "shards/surd-00001.tar").unlink()
    with pytest.raises(SurdError, match=r"surd-00001\.tar: the file is missing"):
        keys(stream(ShardDataset(build.pattern), epochs=1))


def test_a_missing_column_lists_those_there_are(build: Any) -> None:
    with pytest.raises(SurdError, match=rf"columns: 'llm-other', but .* has no such column \(present: {COLUMN}\)"):
        ShardDataset(build.pattern, columns=["llm-other"])
    shutil.rmtree(build.root / "columns")
    with pytest.raises(SurdError, match="present: none"):
        ShardDataset(build.pattern, columns=["llm"])


def test_two_columns_of_a_kind_need_a_name(build: Any) -> None:
    shutil.copytree(build.root / "columns" / COLUMN, build.root / "columns/llm-second")
    build.describe_column([], column="llm-second")
    with pytest.raises(SurdError, match="has several columns of that kind"):
        ShardDataset(build.pattern, columns=["llm"])
    with pytest.raises(SurdError, match=f"{COLUMN} and llm-second are both llm"):
        ShardDataset(build.pattern, columns=[COLUMN, "llm-second"])
    assert ShardDataset(build.pattern, columns=[COLUMN]).reads["llm"].column == COLUMN


def test_a_missing_or_broken_manifest_is_named(build: Any) -> None:
    manifest = build.root / "shards/manifest.json"
    manifest.write_text("{}")
    with pytest.raises(SurdError, match=r"manifest\.json: not a valid ShardManifest"):
        ShardDataset(build.pattern)
    manifest.unlink()
    with pytest.raises(SurdError, match=r"manifest\.json, which belongs to every build, is not there"):
        ShardDataset(build.pattern)


def test_llm_statistics_are_those_of_the_whole_column(build: Any) -> None:
    data = ShardDataset(build.pattern, columns=["llm"])
    locations = data.order(seed=0).locations(0, 12)
    vectors = np.stack([data.read(location).arrays["llm"] for location in locations]).astype(np.float32)
    mean, std = data.llm_statistics()
    np.testing.assert_allclose(mean, vectors.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(std, vectors.std(0), rtol=1e-4, atol=1e-6)


def test_one_nan_in_the_llm_column_is_named_where_it_lies(build: Any, write_tar: Any, npy: Any) -> None:
    sick = build.keys(1)[3]
    states = arrays_of(build, lambda key: {f"{key}.npy": npy(np.full(24, np.nan if key == sick else 1, np.float16))})
    add_column(build, write_tar, states, column="llm-n", kind="llm", width=24, shape=[24], dtype="float16")
    with pytest.raises(SurdError, match=rf"llm-n/surd-00001.tar: member {sick}.npy holds NaN or infinity; embed again"):
        ShardDataset(build.pattern, columns=["llm-n"], image=False).llm_statistics()


def test_a_worker_tells_of_a_broken_shard_in_one_sentence(build: Any) -> None:
    shard = build.root / "shards/surd-00000.tar"
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(SurdError) as refusal:
        keys(stream(ShardDataset(build.pattern), workers=1, epochs=1))
    assert "\n" not in str(refusal.value) and "surd-00000.tar" in str(refusal.value)


def test_the_first_batch_of_a_thousand_shards_opens_but_a_few(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one = (build.root / "shards/surd-00000.tar").stat().st_size
    shards = [ShardInfo(name=f"surd-{n:05d}.tar", count=6, bytes=one, sha256="") for n in range(1000)]
    manifest = ShardManifest(count=6000, diffusion="d", shards=shards)
    (build.root / "shards/manifest.json").write_text(manifest.model_dump_json())
    for number in range(2, 1000):
        (build.root / f"shards/surd-{number:05d}.tar").hardlink_to(build.root / "shards/surd-00000.tar")
    opened: list[Path] = []
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda path, *a, **k: (opened.append(path), real(path, *a, **k))[1])
    began = time.perf_counter()
    next(iter(stream(ShardDataset(f"{build.root}/shards/surd-{{00000..00999}}.tar"))))
    assert time.perf_counter() - began < 2
    assert len(opened) <= 4


def test_a_damaged_index_is_named_with_what_mends_it(build: Any) -> None:
    write_index(build)
    file = build.root / "shards/index.parquet"
    whole = file.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for harmed in (whole[:-30], whole[:footer] + b"\xff" * 20 + whole[footer + 20 :], b"no parquet"):
        file.write_bytes(harmed)
        with pytest.raises(SurdError, match=r"index.parquet: cannot be read .*; surd verify BUILD --repair makes it"):
            list(ShardDataset(build.pattern, columns=["llm"], image=False).loader(batch_size=4, seed=0, epochs=1))
