"""caption asks what the templates ask, keeps the answers that are captions, and says of a picture without any why."""

from __future__ import annotations

import hashlib
import io
import tarfile

import pytest

from surd.pipeline.build.folder import Build, part_tar
from surd.pipeline.demo.world.render import render
from surd.pipeline.demo.world.scenes import scene
from surd.pipeline.inspection.unusable import unusable_note
from surd.pipeline.model_cache.outputs import forget
from surd.pipeline.models import Models
from surd.pipeline.models.caption_model import CaptionAnswer, CaptionModel
from surd.pipeline.runner.fingerprint import inputs
from surd.pipeline.stages import BY_NAME
from surd.pipeline.stages.caption import caption
from surd.schemas import Captioned, Cleaned, Pair, Reason, Safe, load_config
from surd.schemas.shard_format.tar import add_member
from tests.pipeline.models.stand_in import stand_in
from tests.pipeline.models.tiny_captioners import save_captioner

DOG = "A dog sits on a red mat."
OWN = """
version: 1
language: en
templates:
  short: {ask: "One sentence. Tags: {keywords}.", max_words: 12}
  long: {ask: "A paragraph about: {prompt} ({facts})", max_new_tokens: 99}
"""


@pytest.fixture
def build(tmp_path) -> Build:
    """Three demo scenes with prompts; the last one was rejected before."""
    build = Build(str(tmp_path / "build"))
    pairs, tar_bytes = [], io.BytesIO()
    with tarfile.open(fileobj=tar_bytes, mode="w") as tar:
        for number in range(3):
            image = io.BytesIO()
            render(scene(3, number)).save(image, "PNG")
            data, start = image.getvalue(), tar_bytes.tell()
            add_member(tar, f"{number:016x}.png", data)
            sha = hashlib.sha256(data).hexdigest()
            pairs.append(Pair(key=f"{number:016x}", sha256=sha, ext="png", size=len(data), offset=start + 512))
    build.write_bytes(part_tar("fetch", 0), tar_bytes.getvalue())
    build.write_rows("fetch", 0, Pair, pairs)
    first = {"complex": "<b>a white dress</b>, 8k", "keywords": ["a white dress", "8k"], "qualities": ["8k"]}
    second = {"complex": "8k", "keywords": ["8k"], "qualities": ["8k"]}
    cleaned = [Cleaned(key=pair.key, **values) for pair, values in zip(pairs, (first, second, {}), strict=True)]
    build.write_rows("clean", 0, Cleaned, cleaned)
    rows = [Safe(key=pair.key) for pair in pairs]
    rows[2] = rows[2].reject("safety", Reason.NSFW, "no")
    build.write_rows("safety", 0, Safe, rows)
    return build


@pytest.fixture
def own(tmp_path):
    """A user's templates with all placeholders."""
    (tmp_path / "own.yaml").write_text(OWN)
    return str(tmp_path / "own.yaml")


class Scripted(CaptionModel):
    """Stands in for a captioner: notes what it is asked and shown, and gives the answers it was made with."""

    def __init__(self, *answers, prompted=True):
        self.answers, self._prompted, self.asked, self.sizes = answers, prompted, [], []

    @property
    def prompted(self):
        return self._prompted

    def caption(self, images, k, num_beams, max_new_tokens, seed, prompts=None):
        self.asked += prompts
        self.sizes += [image.size for image in images]
        return [
            [answer if isinstance(answer, CaptionAnswer) else CaptionAnswer(name=prompt.name, text=answer)
             for prompt in of_picture for answer in self.answers]
            for of_picture in prompts
        ]  # fmt: skip


def captioned(build, captioner, **values):
    models = stand_in(captioner=captioner)
    return caption(build, 0, load_config({}, values), models)


def test_what_the_captioner_said_of_a_picture_is_looked_up_and_forgotten_with_it(build):
    model = Scripted(DOG)
    models = stand_in(captioner=model)
    rows = [caption(build, 0, load_config({}), models) for _ in range(2)]
    assert rows[0] == rows[1] and len(model.sizes) == 2
    picture = build.read_rows("fetch", 0, Pair)[0].sha256
    forget(build.root, [picture])
    assert caption(build, 0, load_config({}), models) == rows[0] and len(model.sizes) == 3


def test_each_template_gives_captions_of_its_name(build):
    model = Scripted(DOG, "It has a mat.", DOG)
    rows = captioned(build, model, **{"caption.names": ["short", "long"]})
    assert rows[0].captions == [DOG, "It has a mat."] * 2
    assert rows[0].caption_names == ["short", "short", "long", "long"] and rows[0].caption_dropped is None
    assert [prompt.name for prompt in model.asked[0]] == ["short", "long"]
    assert all("{" not in prompt.text and prompt.max_new_tokens for prompt in model.asked[0])
    assert (rows[2].captions, rows[2].reason) == (None, Reason.NSFW) and len(model.asked) == 2


def test_by_default_one_caption_is_asked_for_that_states_nothing_of_the_prompt(build):
    model = Scripted(DOG)
    assert captioned(build, model)[0].caption_names == ["medium"]
    assert model.asked[0] == model.asked[1] and inputs(BY_NAME["caption"], load_config({})) == ("fetch", "safety")


def test_a_captioner_that_needs_no_prompt_is_asked_nothing_and_its_text_is_taken_as_it_is(build):
    model = Scripted("dog", "a dog, a mat", "dog", prompted=False)
    row = captioned(build, model)[0]
    assert (row.captions, row.caption_names) == (["dog", "a dog, a mat"], ["caption"] * 2)
    assert [prompt.text for prompt in model.asked[0]] == [""]


def test_templates_get_their_context_without_markup_and_are_not_asked_where_there_is_none(build, own):
    model = Scripted(DOG)
    config = {"caption.templates": own}
    first, second, _ = captioned(build, model, **config)
    assert [(prompt.text, prompt.max_new_tokens) for prompt in model.asked[0]] == [
        ("One sentence. Tags: a white dress.", None),
        ("A paragraph about: a white dress , 8k (white dress)", 99),
    ]
    assert (first.captions, first.caption_names) == ([DOG, DOG], ["short", "long"])
    assert [prompt.name for prompt in model.asked[1]] == [] and second.captions is None
    assert second.caption_dropped.startswith("short: its prompt gives nothing for {keywords}; long: its prompt")
    assert "clean" in inputs(BY_NAME["caption"], load_config({}, config))


def test_a_picture_without_a_usable_answer_keeps_its_row_and_the_reasons(build):
    refused = CaptionAnswer(name="medium", why="HTTP 400: the image is too large")
    model = Scripted("I'm sorry, I can't help with that.", '{"a": "b", "c": "d"}', refused, "word " * 9, "A dog. " * 50)
    first, second, _ = captioned(build, model, **{"caption.names": ["medium"]})
    assert first.kept and first.captions is None and first.caption_names is None
    assert first.caption_dropped == (
        "medium: a refusal; medium: JSON where a sentence was asked; medium: HTTP 400: the image is too large;"
        " medium: it repeats itself; medium: fewer than three words"
    )
    build.write_rows("caption", 0, Captioned, [first, second])
    assert "2 of 2 pictures got no caption; the commonest reason (2): medium: a refusal" in unusable_note(
        build, "caption"
    )


def test_usable_answers_beside_unusable_ones_stay(build):
    long = " ".join(f"The dog number {number} barks." for number in range(400))
    cut = CaptionAnswer(name="medium", text="A dog sits. It is looking at", cut=True)
    german = "Ein Hund sitzt auf einer roten Matte vor dem Haus und schaut."
    row = captioned(build, Scripted(german, long, cut))[0]
    assert row.captions[1] == "A dog sits." and len(row.captions[0].split()) <= 60
    assert row.caption_dropped == "medium: in another language (de)"


def test_only_captioners_that_are_asked_see_a_smaller_copy(build):
    for prompted, side in ((True, 64), (False, 256)):
        model = Scripted(DOG, prompted=prompted)
        captioned(build, model, **{"caption.max_side": 64})
        assert {max(size) for size in model.sizes} == {side} or not prompted
        assert prompted or min(max(size) for size in model.sizes) > 64


@pytest.mark.parametrize("family", ["qwen2_5_vl", "florence2", "blip"])
def test_a_real_captioner_goes_through_the_stage(build, own, tmp_path, family):
    values = {"models.captioner": str(save_captioner(tmp_path / family, family)), "models.device": "cpu"}
    values |= {"caption.max_new_tokens": 12, "caption.k": 4}
    if family == "qwen2_5_vl":
        values["caption.templates"] = own
    config = load_config({}, values)
    rows = caption(build, 0, config, Models(config.models))
    assert [row.kept for row in rows] == [True, True, False] and rows[2].captions is None
    assert all(row.captions or row.caption_dropped for row in rows[:2])
    assert all(len(row.captions or ()) == len(row.caption_names or ()) for row in rows)
    assert caption(build, 0, config, Models(config.models)) == rows


def test_the_embedded_captioner_captions_as_it_always_did(build):
    config = load_config({}, {"models.device": "cpu"})
    models = Models(config.models)
    (first, second, _) = caption(build, 0, config, models)
    pictures = [render(scene(3, number)) for number in range(2)]
    answers = models.captioner.caption(pictures, k=3, num_beams=3, max_new_tokens=40, seed=0)
    assert [row.captions for row in (first, second)] == [
        list(dict.fromkeys(answer.text for answer in of_one)) for of_one in answers
    ]
    assert first.caption_dropped is None and set(first.caption_names) == {"caption"}
