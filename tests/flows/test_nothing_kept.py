"""A build that keeps nothing says why, and leaves the shards that were there."""

import shutil

from PIL import Image

from surd.flows.build import build_surd
from surd.schemas.errors import NothingKept
from tests.flows.conftest import SMALL


def ended(**parameters):
    return build_surd(**parameters, return_state=True).result(raise_on_failure=False)


def test_pictures_without_prompts_are_counted_with_an_example_and_what_to_try(tmp_path):
    (tmp_path / "photos").mkdir()
    for shade in range(4):
        Image.new("RGB", (64, 64), (60 * shade, 0, 0)).save(tmp_path / "photos" / f"{shade}.png")
    (tmp_path / "photos" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    error = ended(out=str(tmp_path / "b"), source=f"folder:{tmp_path}/photos", **SMALL)
    assert isinstance(error, NothingKept)
    first, *lines = str(error).splitlines()
    assert first == f"out is '{tmp_path}/b': none of its 5 records is kept"
    assert lines[0].startswith("  4 no_prompt: ") and "(for example " in lines[0]
    assert lines[1].startswith("  1 ")
    assert any("urls.prompt_column" in line for line in lines) and any("--profile small" in line for line in lines)
    assert lines[-1] == f"  try: look at one record: surd inspect {tmp_path}/b KEY"
    assert not (tmp_path / "b" / "shards").exists()


def test_a_rule_that_nothing_meets_leaves_the_shards_alone(built, tmp_path):
    out = shutil.copytree(built[0], tmp_path / "copy")
    before = {path.name: path.read_bytes() for path in (out / "shards").iterdir()}
    error = ended(out=str(out), select={"min_clip_simple": 1.0})
    assert isinstance(error, NothingKept)
    assert "below_threshold" in str(error) and "the shards that were there stay" in str(error)
    assert "surd select" in str(error)
    assert {path.name: path.read_bytes() for path in (out / "shards").iterdir()} == before
