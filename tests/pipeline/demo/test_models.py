"""The embedded models load by their public loaders, offline, and do their work on scenes never trained on."""

import open_clip
import pytest
import torch
from diffusers import StableDiffusionPipeline
from transformers import BlipForConditionalGeneration, BlipForQuestionAnswering, BlipProcessor

from surd.pipeline.demo.training import train_captioner, train_clip, train_judge, train_realistic, train_vqa
from surd.pipeline.demo.training.checkpoint import MODELS
from surd.pipeline.demo.world.fact_space import GROUPS
from surd.pipeline.demo.world.prompts import truth
from surd.pipeline.demo.world.scenes import scene
from tests.bench.truthfulness import tally

# What semantic correction needs of the models to mean anything; the model cards report more.
TWO_WAY = {"subject": 0.97, "count": 0.93, "colour": 0.97, "action": 0.97, "relation": 0.97, "style": 0.97}
ALL_FACTS = 0.9
# Which of two things is left of the other the VQA model does not know yet: its card says so.
VQA = {"entity": 0.92, "count": 0.92, "tint": 0.94, "background": 0.88, "action": 0.9, "relation": 0.6, "style": 0.9}
JUDGE = dict.fromkeys(("all", *GROUPS), 0.9)
JUDGE |= {"background": 0.98, "style": 0.98, "tint": 0.98, "action": 0.95, "subject": 0.93, "axis": 0.98}
# Which of two small things stands first is the judge's weak point, and so is every fact at once; its card says so.
NOT_YET = {"all", "first", "second"}


@pytest.fixture(scope="module")
def clip():
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{MODELS / 'clip'}")
    return model, preprocess, open_clip.get_tokenizer(f"local-dir:{MODELS / 'clip'}")


def test_together_they_stay_under_82_megabytes_in_safetensors_with_a_card_each():
    files = [path for path in MODELS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 82_000_000
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".txt", ".md"}
    for role in ("clip", "captioner", "diffusion", "judge", "vqa", "captioner-realistic"):
        assert f"python -m surd.pipeline.demo.train {role}" in (MODELS / role / "README.md").read_text()


def test_the_clip_tells_right_words_from_words_with_one_attribute_changed(clip):
    model, _, tokenizer = clip
    shares = train_clip.two_way_choice(model, tokenizer, 100, seed=31)
    assert all(shares[name] >= bar for name, bar in TWO_WAY.items()), shares


def test_the_clip_pools_at_the_end_of_the_text_whatever_follows(clip):
    model, _, tokenizer = clip
    ids = tokenizer(["three red balloons on a blue background", "a photograph of a medieval cathedral in the rain"])
    ends = (ids == ids.max()).int().argmax(dim=1)
    assert ids.max() == train_clip.VOCABULARY - 1 and (ends > 4).all()
    with torch.inference_mode():
        whole = model.eval().encode_text(ids, normalize=True)
        assert torch.allclose(whole, train_clip.encode_text(model, ids[:, : ends.max() + 1]), atol=1e-5)


def test_the_captioner_states_the_facts():
    processor = BlipProcessor.from_pretrained(MODELS / "captioner")
    model = BlipForConditionalGeneration.from_pretrained(MODELS / "captioner")
    assert model.dtype == torch.float32
    assert train_captioner.all_facts_right(model, processor, 100) >= ALL_FACTS


def test_the_realistic_captioner_is_right_in_part_and_leaves_half_unsaid():
    folder = train_realistic.FOLDER
    processor = BlipProcessor.from_pretrained(folder)
    model = BlipForConditionalGeneration.from_pretrained(folder)
    scenes = [scene(32, index) for index in range(400)]
    texts = train_realistic.captions(model, processor, scenes)
    told = tally((text, truth(one)) for text, one in zip(texts, scenes, strict=True))["all"]
    assert 0.9 <= told.precision <= 0.96, told
    assert 0.5 <= told.recall <= 0.68, told


def test_the_vqa_model_tells_true_facts_from_false_ones():
    processor = BlipProcessor.from_pretrained(train_vqa.FOLDER)
    model = BlipForQuestionAnswering.from_pretrained(train_vqa.FOLDER)
    right = train_vqa.accuracy(model, processor, 60, seed=33)
    assert all(right[group] >= least for group, least in VQA.items()), right
    assert right["calibration"] <= 0.03


def test_the_diffusion_model_is_a_pipeline_that_draws_64x64_from_words():
    pipeline = StableDiffusionPipeline.from_pretrained(MODELS / "diffusion")
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.safety_checker is None and pipeline.unet.dtype == pipeline.text_encoder.dtype == torch.float32
    prompts = [f"1 apple, {colour} background" for colour in ("red", "blue")]
    pictures = pipeline(prompts, num_inference_steps=8, generator=torch.Generator().manual_seed(0)).images
    assert [picture.size for picture in pictures] == [(64, 64)] * 2
    red, blue = (picture.resize((1, 1)).getpixel((0, 0)) for picture in pictures)
    assert red[0] > red[2] and blue[2] > blue[0], "the background is not of the colour asked for"


@pytest.fixture(scope="module")
def judged():
    return train_judge.accuracy(train_judge.load(), 300, seed=31)


@pytest.mark.parametrize(
    "group",
    [
        pytest.param(name, marks=pytest.mark.xfail(strict=True, reason="the judge is not there yet"))
        if name in NOT_YET
        else name
        for name in JUDGE
    ],
)
def test_the_judge_sees_the_facts_of_a_world_it_never_saw(judged, group):
    assert judged[group] >= JUDGE[group], judged
