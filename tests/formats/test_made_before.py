"""A build, an adapter, a checkpoint and a saved pipeline made at commit 5a4e99b are read, continued and not redone.

``made_at_5a4e99b.tar.xz`` holds what that commit wrote: ``surd build --param demo.count=6 --param partition_size=4
--param pack.max_count=3 --param models.dtype=float32`` with latents and clip-simple, ``sur-train --steps 2`` on it, and
the index of a saved pipeline. Its weights were set to zero afterwards, so that it is small.
"""

import json
import shutil
import tarfile
from pathlib import Path

import pytest
import yaml

from sur_adapter import ShardDataset, SURAdapter, SURStableDiffusionPipeline
from surd.pipeline.build.folder import Build
from surd.pipeline.build.open import open_build
from surd.pipeline.dataset.verify.dataset import read_manifests, verify
from surd.pipeline.runner.verify_markers import verify_stages
from surd.schemas import BuildConfig, load_config, resolve_model
from tests.pipeline.conftest import redone, run_all

ARCHIVE = Path(__file__).with_name("made_at_5a4e99b.tar.xz")
#: Stages whose version was raised since: they, and what depends on them, are done again on purpose.
RAISED_SINCE = {
    "collect", "fetch", "decode", "clean", "dedup", "safety", "caption", "rewrite", "correct", "select", "pack",
    "report",
}  # fmt: skip
#: They are done again where another kind of processor computes the last digit of what they read otherwise.
FOLLOWING = {"embed"}


@pytest.fixture
def before(tmp_path) -> Path:
    with tarfile.open(ARCHIVE) as tar:
        tar.extractall(tmp_path, filter="data")
    return tmp_path


def files_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_build_is_sound_and_not_redone(before):
    root = before / "build"
    build, record = open_build(str(root))
    found = files_of(root)
    checked = [*verify(build, read_manifests(build)), *verify_stages(build)]
    assert [finding for one in checked for finding in one.findings] == []
    assert RAISED_SINCE <= redone(run_all(root, BuildConfig.model_validate(record.config))) <= RAISED_SINCE | FOLLOWING
    if not RAISED_SINCE:
        assert files_of(root) == found


def test_its_config_with_the_model_strings_of_then_still_resolves(before):
    config = json.loads((before / "build/build.json").read_text())["config"]
    assert config["models"]["clip"] == "package:pipeline/demo/models/clip"
    mine = before / "mine.yaml"
    mine.write_text(yaml.safe_dump({"models": {"clip": config["models"]["clip"]}}))
    loaded = load_config(yaml.safe_load(mine.read_text()))
    assert (Path(resolve_model(loaded.models.clip)) / "open_clip_config.json").is_file()


def test_its_shards_are_read_for_training(before):
    pattern = str(before / "build/shards/surd-{00000..00001}.tar")
    data = ShardDataset(pattern, columns=["llm", "latents", "clip-simple"], image=True)
    batches = list(data.loader(batch_size=3, image_size=32, seed=0, epochs=1))
    assert sorted(key for batch in batches for key in batch.keys) == sorted(
        row["key"] for row in Build(str(before / "build")).read_table("shards/index.parquet").to_pylist()
    )
    assert all(batch.images_BCHW is not None and batch.llm_BW is not None for batch in batches)


def test_its_adapter_loads(before):
    adapter = SURAdapter.from_pretrained(before / "adapter")
    assert (adapter.config.width, adapter.config.base_model) == (192, "package:pipeline/demo/models/diffusion")


def test_a_saved_pipeline_loads(before, tmp_path):
    folder = tmp_path / "pipe"
    shutil.copytree(resolve_model("package:pipeline/demo/models/diffusion"), folder)
    shutil.copy(before / "pipeline_index/model_index.json", folder)
    (folder / "adapter").mkdir()
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        shutil.copy(before / "adapter" / name, folder / "adapter")
    pipe = SURStableDiffusionPipeline.from_pretrained(folder)
    assert isinstance(pipe.adapter, SURAdapter)


def test_a_training_goes_on_from_its_checkpoint(before, tmp_path):
    from sur_adapter import train
    from sur_adapter.training.config import TrainConfig

    out = tmp_path / "continued"
    shutil.copytree(before / "adapter", out)
    pattern = str(before / "build/shards/surd-{00000..00001}.tar")
    options = {"batch_size": 2, "feed_forward": 16, "heads": 2, "depth": 1, "w_llm": 0.0, "checkpoint_every": 2}
    result = train(TrainConfig(shards=pattern, out=out, steps=3, device="cpu", **options))
    assert (result.resumed_from, result.steps) == (2, 3)
