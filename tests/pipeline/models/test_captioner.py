"""The captioner looks at each picture once, and what it samples for a picture is that picture's own."""

import numpy as np
import pytest
import torch
from PIL import Image

from surd.pipeline.models import Models
from surd.schemas import load_config

ASKED = {"k": 3, "num_beams": 2, "max_new_tokens": 12, "seed": 0}


@pytest.fixture(scope="module")
def captioner():
    return Models(load_config({}, {"models.device": "cpu"}).models).captioner


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(4)]


def test_the_vision_encoder_runs_once_for_all_captions_of_a_batch(captioner, pictures):
    runs = []
    hook = captioner._model.vision_model.register_forward_hook(lambda *_: runs.append(1))
    captioner.caption(pictures, **ASKED)
    hook.remove()
    assert len(runs) == 1


def test_a_picture_gets_the_same_captions_in_any_batch_and_whatever_else_draws_numbers(captioner, pictures):
    together = captioner.caption(pictures, **ASKED)
    torch.manual_seed(99)
    assert captioner.caption(pictures[::-1], **ASKED)[::-1] == together
    assert [captioner.caption([picture], **ASKED)[0] for picture in pictures] == together
    assert captioner.caption(pictures, **{**ASKED, "seed": 1}) != together


def test_the_first_caption_is_what_plain_beam_search_gives(captioner, pictures):
    inputs = captioner._inputs.of(pictures, [""] * 4)
    tokens = captioner._model.generate(**inputs, num_beams=2, max_new_tokens=12)
    plain = captioner._inputs.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    assert [of_picture[0].text for of_picture in captioner.caption(pictures, **ASKED)] == plain
    assert [len(one) for one in captioner.caption(pictures, **{**ASKED, "k": 1})] == [1] * 4
