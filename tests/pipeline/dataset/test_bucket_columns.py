"""The column of latents in aspect-ratio buckets: what the VAE makes of each picture, verified, and kept true."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from sur_adapter import ShardDataset
from sur_adapter.base_model import load_base
from surd.flows.add_columns import add_columns
from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.columns import buckets as described
from surd.pipeline.dataset.columns.spec import columns_present
from surd.pipeline.forget import forget as removal
from surd.pipeline.forget.forget import RemovalRequest, plan_removal
from surd.pipeline.models.diffusion import DiffusionEncoders
from surd.pipeline.runner.repair import repair
from surd.pipeline.runner.verify_markers import verify_stages
from surd.schemas import ColumnManifest
from surd.schemas.shard_format.buckets import DIGITS, bucket_sizes, nearest_bucket, size_and_crop
from tests.pipeline.finished_sets import authors_set, exchanged, findings, imported, restate, rewrite, told, without

NAME, SIDE = "latents-buckets", 64  # of the embedded diffusion model
SIZES = ((30, 20), (20, 30), (24, 24), (80, 45), (45, 80), (33, 24), (50, 7))


@pytest.fixture(scope="module")
def bucketed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve samples in three shards, of pictures of many shapes, with the column."""
    root = tmp_path_factory.mktemp("buckets")
    imported(f"authors:{authors_set(root / 'SURD', sizes=SIZES)}", root / "build", pooling=None)
    add(root / "build")
    return root / "build"


@pytest.fixture
def breakable(bucketed: Path, tmp_path: Path) -> Path:
    """A copy of it, to break."""
    return shutil.copytree(bucketed, tmp_path / "build")


def add(root: Path, *names: str) -> list[ColumnManifest]:
    return add_columns(str(root), {"embed.columns": list(names or [NAME])}, lambda done, total: None)


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def column(root: Path, suffix: str) -> dict[str, np.ndarray]:
    found = {}
    for tar in sorted((root / f"columns/{NAME}").glob("*.tar")):
        for name, data in members(tar).items():
            key, _, ending = name.partition(".")
            if ending == suffix:
                found[key] = np.load(io.BytesIO(data), allow_pickle=False)
    return found


def test_each_picture_is_encoded_in_the_bucket_that_cuts_least_off_it(bucketed: Path) -> None:
    manifest = columns_present(Build(str(bucketed)))[NAME]
    assert manifest.buckets is not None and manifest.shape == [48, None, None]
    assert (manifest.buckets.sizes, manifest.buckets.scale, manifest.image_size) == (bucket_sizes(SIDE), 8, SIDE)
    latents, sizes = column(bucketed, "npy"), column(bucketed, "size.npy")
    digits = "".join(manifest.buckets.numbers)
    vae = load_base("package:pipeline/demo/models/diffusion", unet=False, text=False).vae
    shards = [members(path) for path in sorted((bucketed / "shards").glob("*.tar"))]
    images = {
        name[:16]: data for shard in shards for name, data in shard.items() if name[17:] in ("png", "jpg", "webp")
    }
    assert list(latents) == list(images) and len({one.shape for one in latents.values()}) >= 5
    for (key, data), digit in zip(images.items(), digits, strict=True):
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        size = manifest.buckets.sizes[number := nearest_bucket(*picture.size, manifest.buckets.sizes)]
        assert sizes[key].tolist() == list(size_and_crop(*picture.size, size)) and digit == DIGITS[number]
        pixels = np.asarray(ImageOps.fit(picture, size, Image.Resampling.LANCZOS), np.float32)
        with torch.no_grad():
            posterior = vae.encode(torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)[None]).latent_dist
        expected = torch.cat([posterior.mean, posterior.std], 1)[0]
        torch.testing.assert_close(torch.from_numpy(latents[key].astype(np.float32)), expected, rtol=2e-3, atol=2e-3)


def test_the_loader_reads_it_in_batches_of_one_shape(bucketed: Path) -> None:
    sizes = column(bucketed, "size.npy")
    read = list(ShardDataset(str(bucketed), columns=[NAME], image=False).loader(batch_size=3, seed=0, epochs=1))
    assert sorted(key for batch in read for key in batch.keys) == sorted(sizes)
    for batch in read:
        assert batch.latents_size_B6.tolist() == [sizes[key].tolist() for key in batch.keys]
        assert [[side * 8 for side in batch.latents_mean_BCHW.shape[2:]]] * len(batch.keys) == [
            sizes[key][4:].tolist() for key in batch.keys
        ]


def test_the_column_is_sound_and_beside_the_square_one_that_stays_as_it_was(breakable: Path) -> None:
    assert told(breakable) == ""
    before = (breakable / f"columns/{NAME}/manifest.json").read_bytes()
    (square,) = add(breakable, "latents")
    assert "buckets" not in json.loads((breakable / "columns/latents/manifest.json").read_text())
    assert square.shape == [48, 8, 8] and told(breakable) == ""
    add(breakable, "latents", NAME)
    assert (breakable / f"columns/{NAME}/manifest.json").read_bytes() == before


def test_a_manifest_made_again_reads_only_the_tars_that_changed(
    breakable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = breakable / f"columns/{NAME}/manifest.json"
    before = file.read_text()
    read: list[str] = []
    whole = described.bucket_digits

    def counted(build: Build, tar: str, of: object) -> str:
        read.append(tar)
        return whole(build, tar, of)

    monkeypatch.setattr(described, "bucket_digits", counted)
    document = json.loads(before)
    document["shards"][1]["sha256"] = "0" * 64
    file.write_text(json.dumps(document))
    add(breakable)
    assert read == [f"columns/{NAME}/surd-00001.tar"] and file.read_text() == before


def test_a_shard_written_again_takes_what_is_there_of_the_same_pictures(
    breakable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tar_of(breakable).read_bytes()
    drop_markers(breakable)
    monkeypatch.setattr(DiffusionEncoders, "latents", lambda *_: pytest.fail("the VAE ran"))
    add(breakable)
    assert tar_of(breakable).read_bytes() == before and told(breakable) == ""


def drop_markers(root: Path) -> None:
    """As if the shards had changed: nothing says any more that their tars are made."""
    for file in (root / "embed" / NAME).rglob("*"):
        if file.is_file() and not file.name.startswith("items-"):
            file.unlink()


def tar_of(root: Path) -> Path:
    return root / f"columns/{NAME}/surd-00001.tar"


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without(1), "size.npy: it is missing: its shard has that sample"),
        (exchanged(1, npy(np.zeros(6, np.int32))), "size.npy: it is not size and crop of a picture"),
        (
            exchanged(1, npy(np.array([24, 24, 5, 0, 64, 64], np.int32))),
            "size.npy: it says [24, 24, 5, 0, 64, 64], and",
        ),
        (exchanged(1, npy(np.array([7, 50, 0, 0, 16, 2**31 - 1], np.int32))), "size.npy: it says"),
        (exchanged(1, b"\x93NUMPY"), "size.npy: it is not an .npy file"),
        (exchanged(0, npy(np.zeros((48, 9, 9), np.float16))), "size.npy: its bucket has latents of"),
        (exchanged(0, npy(np.zeros((47, 8, 8), np.float16))), ".npy: its shape is [47, 8, 8], its manifest says [48"),
        (lambda members: members[2:4] + members[:2] + members[4:], "it stands where"),
    ],
)
def test_a_member_that_is_not_its_buckets_is_told(breakable: Path, change: object, sentence: str) -> None:
    rewrite(tar_of(breakable), change)
    restate(tar_of(breakable).parent)
    (finding,) = findings(breakable)
    assert str(finding).startswith(f"columns/{NAME}/surd-00001.tar: ") and sentence in str(finding)


def test_a_sample_whose_manifest_says_another_bucket_is_told(breakable: Path) -> None:
    file = breakable / f"columns/{NAME}/manifest.json"
    document = json.loads(file.read_text())
    digits = document["buckets"]["numbers"][0]
    document["buckets"]["numbers"][0] = ("1" if digits[0] == "0" else "0") + digits[1:]
    file.write_text(json.dumps(document))
    assert f"size.npy: its bucket is {digits[0]!r}, and the manifest says" in told(breakable)


def test_a_lost_tar_is_repaired_byte_for_byte(breakable: Path) -> None:
    before = tar_of(breakable).read_bytes()
    tar_of(breakable).unlink()
    assert [one.problem for one in repair(Build(str(breakable)), findings(breakable))] == [None]
    assert tar_of(breakable).read_bytes() == before and told(breakable) == ""


def test_a_removed_record_leaves_the_column_and_its_buckets(breakable: Path) -> None:
    build = Build(str(breakable))
    key = list(column(breakable, "npy"))[5]
    before = columns_present(build)[NAME]
    removal.forget(build, plan_removal(build, RemovalRequest(records=(key,))))
    after = columns_present(build)[NAME]
    assert key not in column(breakable, "npy")
    assert sum(map(len, after.buckets.numbers)) == after.count == before.count - 1
    assert told(breakable) == "" and not [one for checked in verify_stages(build) for one in checked.findings]
