"""Semantic correction of many pictures: captions that err as real ones do come out true, by the measured witnesses."""

import hashlib
import io
import random
import tarfile

import pytest

from surd.pipeline.build.folder import Build, part_tar
from surd.pipeline.demo.world.misreading import careless_caption
from surd.pipeline.demo.world.prompts import complex_prompt, truth
from surd.pipeline.demo.world.render import render
from surd.pipeline.demo.world.scenes import scene
from surd.pipeline.models import Models
from surd.pipeline.stages.correct import correct
from surd.schemas import Captioned, Cleaned, Pair, Rewritten, Scored, load_config
from surd.schemas.shard_format.tar import add_member
from tests.bench.truthfulness import tally
from tests.pipeline.models.vision_service import completion, logprobs, picture, question

pytest_plugins = ["tests.pipeline.served"]

SEED, COUNT = 8300, 130
CONFIG = {"correct.witnesses": ["clip", "vqa"], "correct.vary": False, "facts.similarity": None}
SCENES = [scene(SEED, index) for index in range(COUNT)]


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """A partition of scenes with prompts and careless captions."""
    build, models = Build(str(tmp_path_factory.mktemp("build"))), Models(load_config({}, CONFIG).models)
    keys = [f"{number:016x}" for number in range(COUNT)]
    images = [render(one) for one in SCENES]
    pairs, tar_bytes = [], io.BytesIO()
    with tarfile.open(fileobj=tar_bytes, mode="w") as tar:
        for key, image in zip(keys, images, strict=True):
            file = io.BytesIO()
            image.save(file, "PNG")
            data, start = file.getvalue(), tar_bytes.tell()
            add_member(tar, f"{key}.png", data)
            sha = hashlib.sha256(data).hexdigest()
            pairs.append(Pair(key=key, sha256=sha, ext="png", size=len(data), offset=start + 512))
    build.write_bytes(part_tar("fetch", 0), tar_bytes.getvalue())
    build.write_rows("fetch", 0, Pair, pairs)
    prompts = [complex_prompt(one, random.Random(number), markup=False) for number, one in enumerate(SCENES)]
    vectors = zip(keys, models.clip.embed_images(images), models.clip.embed_texts(prompts), strict=True)
    build.write_rows("score", 0, Scored, [
        Scored(key=key, image_embedding=image.tolist(), complex_embedding=text.tolist(), clip_complex=image @ text)
        for key, image, text in vectors
    ])  # fmt: skip
    build.write_rows("clean", 0, Cleaned, [
        Cleaned(key=key, complex=text, keywords=text.split(", ")) for key, text in zip(keys, prompts, strict=True)
    ])  # fmt: skip
    captions = [[careless_caption(one, random.Random(f"{at}{k}")) for k in range(2)] for at, one in enumerate(SCENES)]
    build.write_rows("caption", 0, Captioned, [
        Captioned(key=key, captions=texts, caption_names=["caption"] * 2)
        for key, texts in zip(keys, captions, strict=True)
    ])  # fmt: skip
    build.write_rows("rewrite", 0, Rewritten, [Rewritten(key=key, rewrites=[]) for key in keys])
    return build


def shares(texts):
    """Of the facts that sentences state the share that is true, and of all facts the share that is stated."""
    total = tally((text, truth(one)) for text, one in zip(texts, SCENES, strict=True))["all"]
    return total.precision, total.recall


def test_what_careless_captions_state_comes_out_true_and_what_they_leave_out_is_added(build):
    config = load_config({}, CONFIG)
    rows = correct(build, 0, config, Models(config.models))
    true_before, stated_before = shares([row.before or row.simple for row in rows])
    true_after, stated_after = shares([row.simple for row in rows])
    assert (true_before < 0.975 <= true_after) and (stated_before < 0.75 <= stated_after - 0.08)
    assert any("unsaid ->" in repair for row in rows for repair in row.repairs)
    loose = load_config({}, CONFIG | {"correct.false_fact_rate": 0.08, "correct.add": False})
    by_rate = shares([row.simple for row in correct(build, 0, loose, Models(loose.models))])[0]
    assert true_before <= by_rate < true_after


def test_a_vision_server_is_asked_each_question_once_and_what_it_does_not_answer_changes_nothing(
    build, serve, tmp_path, no_waiting
):
    asked = []

    def answer(request):
        asked.append((hashlib.sha256(picture(request).tobytes()).hexdigest(), question(request)))
        if "background" in asked[-1][1]:
            return request.send(200, completion("I cannot tell."))
        word = "No" if "apple" in asked[-1][1] else "Yes"
        return request.send(200, completion(word, logprobs=logprobs({word: 0.97})))

    settings = {
        "models.vlm": f"openai:{serve(answer).url}/v1#tiny",
        "models.server.cache": str(tmp_path / "cache.sqlite"),
    }
    config = load_config({}, CONFIG | settings | {"correct.witnesses": ["vlm"], "correct.add": False})
    rows = correct(build, 0, config, Models(config.models))
    assert len(asked) == len(set(asked)) > COUNT
    assert all(row.simple for row in rows)
    count = len(asked)
    assert correct(build, 0, config, Models(config.models)) == rows and len(asked) == count
