"""What a VQA model is, is said before any stage, from its config files."""

import pytest

from surd.pipeline.models import demo_only_roles
from surd.schemas import load_config
from tests.pipeline.models.test_model_check import PARTS, fault, model_folder


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "blip", "architectures": ["BlipForQuestionAnswering"]},
        {"model_type": "vilt", "architectures": ["ViltForQuestionAnswering"]},
        {"model_type": "qwen2_5_vl"},
        {"model_type": "smolvlm"},
    ],
)
def test_models_that_answer_questions_pass(tmp_path, config):
    assert fault("vqa", {"models.vqa": model_folder(tmp_path, config, *PARTS)}) is None


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (
            {"model_type": "bert"},
            "it is a 'bert', which answers no questions about pictures; name one such as BLIP-VQA",
        ),
        (
            {"model_type": "blip", "architectures": ["BlipForConditionalGeneration"]},
            "it is a 'BlipForConditionalGeneration', which is not made to answer questions; name one such as BLIP-VQA",
        ),
        ({"model_type": "vilt"}, "it is a 'vilt', which is not made to answer questions; name one such as BLIP-VQA"),
    ],
)
def test_models_that_do_not_are_one_sentence(tmp_path, config, why):
    assert fault("vqa", {"models.vqa": model_folder(tmp_path, config, *PARTS)}).endswith(why)


def test_the_embedded_one_passes():
    assert fault("vqa", {}) is None


def test_the_demos_models_are_named_for_other_pictures_where_they_are_in_use():
    assert demo_only_roles(load_config({}, {"source": "folder:x"})) == ["clip", "captioner"]
    assert demo_only_roles(load_config({}, {})) == []
