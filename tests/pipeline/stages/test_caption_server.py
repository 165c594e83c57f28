"""Stage caption with a vision server: its answers are captions or a reason in the row, and are asked for once."""

import hashlib
import io
import tarfile

import pytest
from PIL import Image

from surd.pipeline.build.folder import Build, part_tar
from surd.pipeline.models import Models
from surd.pipeline.stages.caption import caption
from surd.schemas import Cleaned, Pair, Safe, SurdError, load_config
from surd.schemas.shard_format.tar import add_member
from tests.pipeline.models.vision_service import completion, picture, stored

pytest_plugins = ["tests.pipeline.served"]
#: What the server says of the picture whose red is ten times the number.
ANSWERS = [
    completion("A red square on a white table."),
    completion('{"caption": "a red square"}'),
    completion("I'm sorry, but I can't help with that."),
    completion(None, refusal="No."),
    completion("A red square on the", "length"),
    None,
]


@pytest.fixture
def build(tmp_path):
    """Six fetched pictures, one of them larger than the captioner is to see."""
    build, pairs, tar_bytes = Build(str(tmp_path / "build")), [], io.BytesIO()
    with tarfile.open(fileobj=tar_bytes, mode="w") as tar:
        for number in range(len(ANSWERS)):
            side = 200 if number == 0 else 80
            data, start = stored(Image.new("RGB", (side, side), (10 * number, 0, 0))), tar_bytes.tell()
            add_member(tar, f"{number:016x}.png", data)
            sha = hashlib.sha256(data).hexdigest()
            pairs.append(Pair(key=f"{number:016x}", sha256=sha, ext="png", size=len(data), offset=start + 512))
    build.write_bytes(part_tar("fetch", 0), tar_bytes.getvalue())
    build.write_rows("fetch", 0, Pair, pairs)
    build.write_rows("clean", 0, Cleaned, [Cleaned(key=pair.key, complex="a square") for pair in pairs])
    build.write_rows("safety", 0, Safe, [Safe(key=pair.key) for pair in pairs])
    return build


def test_each_picture_has_its_caption_or_the_reason_and_is_asked_once(build, serve, tmp_path, no_waiting):
    sides = []

    def answer(request):
        image = picture(request).convert("RGB")
        sides.append(image.size[0])
        body = ANSWERS[round(image.getpixel((0, 0))[0] / 10)]
        if body is None:
            request.send(413)
        else:
            request.send(200, body)

    server = serve(answer)
    config = load_config(
        {},
        {
            "models.captioner": f"openai:{server.url}/v1#tiny",
            "models.server": {"cache": str(tmp_path / "answers.sqlite")},
            "caption": {"k": 1, "prompt": "Describe the picture.", "max_side": 100},
        },
    )
    rows = caption(build, 0, config, Models(config.models))
    assert [row.captions for row in rows] == [
        ["A red square on a white table."], ["a red square"], None, None, None, None,
    ]  # fmt: skip
    reasons = [row.caption_dropped for row in rows]
    assert reasons[:2] == [None, None] and all(reasons[2:])
    assert reasons[3] == "the model refused: No." and "HTTP 413" in reasons[5]
    assert sorted(sides) == [40, 80, 80, 80, 80, 80, 100]
    server.requests.clear()
    again = caption(build, 0, config, Models(config.models))
    assert again == rows
    assert len(server.requests) == 2, "only what was too large, and half of it"


def test_a_captioner_that_is_down_is_one_sentence(build, serve, no_waiting):
    server = serve(lambda request: request.send(200))
    url = server.url
    server.shutdown()
    server.server_close()
    config = load_config({}, {"models.captioner": f"openai:{url}/v1#tiny", "models.server.retries": 0})
    with pytest.raises(SurdError, match=rf"models\.captioner: no server answers at {url}/v1"):
        caption(build, 0, config, Models(config.models))
