"""The loader: every sample once an epoch in a seeded order, zipped by key, and nothing hostile gets through."""

from __future__ import annotations

import io
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from schemas.errors import SurdError
from sur_adapter.loader import ShardDataset, expand_pattern, read_npy

COLUMN = "llm-tiny-l2"


def keys(data: ShardDataset, count: int, **where: int) -> list[str]:
    batches = data.batches(batch_size=4, image_size=32, seed=0, **where)
    return [key for batch in islice(batches, count) for key in batch.keys]


def test_an_epoch_holds_every_key_once_in_an_order_that_seed_and_epoch_decide(build: Any) -> None:
    data = ShardDataset(build.pattern)
    everything = sorted(build.keys(0) + build.keys(1))
    orders = [[s.key for s in data.samples(seed, epoch)] for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert len(data) == 12 and all(sorted(order) == everything for order in orders)
    assert orders[0] == orders[3]
    assert orders[0] != orders[1] and orders[0] != orders[2]


def test_a_stream_continues_at_the_very_next_sample_across_epochs(build: Any) -> None:
    data = ShardDataset(build.pattern)
    whole = keys(data, 9)
    assert all(keys(data, 9 - start, start=start) == whole[4 * start :] for start in range(9))


def test_ranks_share_no_sample_and_together_see_all(build: Any) -> None:
    data = ShardDataset(build.pattern)
    one_rank = keys(data, 6)
    ranks = [keys(data, 3, rank=rank, world=2) for rank in range(2)]
    assert [key for pair in zip(*ranks, strict=True) for key in pair] == one_rank


def test_a_batch_holds_pixels_in_minus_one_to_one_and_each_keys_own_vector(build: Any) -> None:
    data = ShardDataset(build.pattern, llm=True)
    batch = next(data.batches(batch_size=4, image_size=16, seed=0))
    assert batch.images_BCHW.shape == (4, 3, 16, 16)
    assert -1 <= batch.images_BCHW.min() < -0.2 and 0.2 < batch.images_BCHW.max() <= 1
    own = {sample.key: sample.llm for sample in data.samples(seed=5, epoch=3)}
    assert batch.llm_BW is not None and batch.llm_BW.shape == (4, 24)
    assert all(torch.equal(row, torch.from_numpy(own[key])) for key, row in zip(batch.keys, batch.llm_BW, strict=True))
    assert all(long.startswith(short) for short, long in zip(batch.simple, batch.complex, strict=True))


def test_token_level_columns_are_averaged(build: Any, write_tar: Any, npy: Any) -> None:
    tokens = np.stack([np.zeros(24), np.full(24, 2.0)]).astype(np.float16)
    replace_column(build, write_tar, {f"{key}.npy": npy(tokens) for key in build.keys(0)})
    sample = next(s for s in ShardDataset(build.pattern, llm=True).samples(0, 0) if s.key in build.keys(0))
    assert sample.llm is not None and np.array_equal(sample.llm, np.ones(24))


def test_a_relative_pattern_without_a_folder_works(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(build.root / "shards")
    data = ShardDataset("surd-{00000..00001}.tar", llm=True)
    assert len(list(data.samples(0, 0))) == 12


def test_a_pattern_matching_nothing_is_named(build: Any) -> None:
    with pytest.raises(SurdError, match=r"--shards: .*nowhere.*matches no file"):
        expand_pattern(f"{build.root}/nowhere/surd-{{00000..00003}}.tar")
    with pytest.raises(SurdError, match=r"surd-00002\.tar, which is not there"):
        expand_pattern(f"{build.root}/shards/surd-{{00000..00003}}.tar")
    with pytest.raises(SurdError, match="unbalanced"):
        expand_pattern("surd-{0..3.tar")


def test_a_missing_column_lists_those_there_are(build: Any) -> None:
    with pytest.raises(SurdError, match=rf"llm-other.*present: {COLUMN}\).*--w-llm 0"):
        ShardDataset(build.pattern, llm=True, llm_column="llm-other")
    shutil.rmtree(build.root / "columns")
    with pytest.raises(SurdError, match="present: none"):
        ShardDataset(build.pattern, llm=True)


def test_two_columns_need_a_name(build: Any) -> None:
    shutil.copytree(build.root / "columns" / COLUMN, build.root / "columns/llm-second")
    build.describe_column([], column="llm-second")
    with pytest.raises(SurdError, match="has several"):
        ShardDataset(build.pattern, llm=True)
    assert ShardDataset(build.pattern, llm=True, llm_column=COLUMN).column.column == COLUMN


def test_a_missing_or_broken_manifest_is_named(build: Any) -> None:
    manifest = build.root / "shards/manifest.json"
    manifest.write_text("{}")
    with pytest.raises(SurdError, match=r"manifest\.json: not a ShardManifest"):
        ShardDataset(build.pattern)
    manifest.unlink()
    with pytest.raises(SurdError, match=r"manifest\.json: there is no such file"):
        ShardDataset(build.pattern)


def replace_column(build: Any, write_tar: Any, members: dict[str, bytes], count: int = 6) -> None:
    folder = build.root / "columns" / COLUMN
    first = write_tar(folder / "surd-00000.tar", members, count)
    second = first.model_copy(update={"name": "surd-00001.tar", "count": 6})
    build.describe_column([first, second])


def read_all(build: Any) -> None:
    list(ShardDataset(build.pattern, llm=True).samples(0, 0))


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (Path("executed"),)


def hostile_arrays(npy: Any) -> dict[str, bytes]:
    huge = io.BytesIO()
    header = {"descr": "<f2", "fortran_order": False, "shape": (10**12,)}
    np.lib.format.write_array_header_1_0(huge, header)
    return {
        "pickle": npy(np.array([Bomb()], dtype=object), allow_pickle=True),
        "huge claim": huge.getvalue() + bytes(48),
        "empty": b"",
        "text": b"not an array at all",
        "integers": npy(np.zeros(24, np.int64)),
        "truncated": npy(np.zeros(24, np.float16))[:-2],
    }


@pytest.mark.parametrize("kind", ["pickle", "huge claim", "empty", "text", "integers", "truncated"])
def test_a_hostile_array_is_refused_by_name_and_not_run(
    build: Any, write_tar: Any, npy: Any, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    good = npy(np.zeros(24, np.float16))
    members = {f"{key}.npy": good for key in build.keys(0)}
    victim = build.keys(0)[2]
    replace_column(build, write_tar, members | {f"{victim}.npy": hostile_arrays(npy)[kind]})
    with pytest.raises(
        SurdError, match=rf"columns/{COLUMN}/surd-00000\.tar: member {victim}\.npy is not a plain array"
    ):
        read_all(build)
    assert not (tmp_path / "executed").exists()


def test_plain_arrays_of_any_order_come_back_equal(npy: Any) -> None:
    for array in (np.arange(6, dtype=np.float32).reshape(2, 3), np.asfortranarray(np.ones((3, 2), np.float16))):
        assert np.array_equal(read_npy(npy(array), "here"), array)


def test_a_column_with_another_key_is_refused_naming_file_and_member(build: Any, write_tar: Any, npy: Any) -> None:
    good = npy(np.zeros(24, np.float16))
    names = build.keys(0)
    swapped = [names[1], names[0], *names[2:]]
    replace_column(build, write_tar, {f"{key}.npy": good for key in swapped})
    with pytest.raises(SurdError, match=rf"surd-00000\.tar: {names[1]} where .*shards/surd-00000\.tar has {names[0]}"):
        read_all(build)


@pytest.mark.parametrize(("kept", "says"), [(5, "no further member where"), (7, "after the last sample")])
def test_a_column_with_too_few_or_too_many_members_is_refused(
    build: Any, write_tar: Any, npy: Any, kept: int, says: str
) -> None:
    names = [*build.keys(0), "feedfeedfeedfeed"][:kept]
    replace_column(build, write_tar, {f"{key}.npy": npy(np.zeros(24, np.float16)) for key in names}, count=kept)
    with pytest.raises(SurdError, match=says):
        read_all(build)


def test_a_column_of_another_width_is_refused(build: Any, write_tar: Any, npy: Any) -> None:
    replace_column(build, write_tar, {f"{key}.npy": npy(np.zeros(25, np.float16)) for key in build.keys(0)})
    with pytest.raises(SurdError, match=r"shape \(25,\), not width 24"):
        read_all(build)


def test_a_column_with_nan_is_refused(build: Any, write_tar: Any, npy: Any) -> None:
    replace_column(build, write_tar, {f"{key}.npy": npy(np.full(24, np.nan)) for key in build.keys(0)})
    with pytest.raises(SurdError, match=r"surd-00000\.tar: member [0-9a-f]{16}\.npy holds NaN"):
        read_all(build)


def test_llm_statistics_are_those_of_the_whole_column(build: Any) -> None:
    data = ShardDataset(build.pattern, llm=True)
    vectors = np.stack([sample.llm for sample in data.samples(0, 0) if sample.llm is not None])
    mean, std = data.llm_statistics()
    np.testing.assert_allclose(mean, vectors.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(std, vectors.std(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("share", [0.02, 0.2, 0.4, 0.6])
def test_a_truncated_shard_is_refused_wherever_it_is_cut(build: Any, share: float) -> None:
    shard = build.root / "shards/surd-00000.tar"
    data = shard.read_bytes()
    shard.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SurdError, match=r"surd-00000\.tar: (damaged|holds|sample)"):
        list(ShardDataset(build.pattern).samples(0, 0))


def test_a_repeated_or_missing_member_and_a_broken_image_are_named(build: Any, write_tar: Any) -> None:
    key = build.keys(0)[0]
    shard = build.root / "shards/surd-00000.tar"
    members = {f"{key}.png": b"no image", f"{key}.simple.txt": b"a", f"{key}.complex.txt": b"b"}

    def spoil(changed: dict[str, bytes]) -> str:
        info = write_tar(shard, changed, 1)
        manifest = ShardDataset(build.pattern).manifest
        shards = [info, manifest.shards[1]]
        (build.root / "shards/manifest.json").write_text(
            manifest.model_copy(update={"shards": shards}).model_dump_json()
        )
        with pytest.raises(SurdError) as refusal:
            next(ShardDataset(str(shard)).batches(batch_size=1, image_size=8, seed=0))
        return str(refusal.value)

    assert f"the image of {key} cannot be read" in spoil(members)
    assert f"sample {key} lacks" in spoil({name: members[name] for name in list(members)[:2]})
    assert "duplicate" in spoil({**members, f"{key}.SIMPLE.txt": b"again"})


def test_members_with_hostile_paths_are_never_written(build: Any, write_tar: Any, tmp_path: Path) -> None:
    shard = build.root / "shards/surd-00000.tar"
    before = sorted(tmp_path.rglob("*"))
    write_tar(shard, {"../../evil.png": b"x", "/tmp/evil-surd.png": b"x"}, 6)
    with pytest.raises(SurdError, match=r"surd-00000\.tar"):
        list(ShardDataset(build.pattern).samples(0, 0))
    assert sorted(tmp_path.rglob("*")) == before and not Path("/tmp/evil-surd.png").exists()
