"""Each family of captioners that people use describes pictures: alone or in a batch, each asked in its own way."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from surd.pipeline.models import Models
from surd.pipeline.models.caption_model import CaptionPrompt
from surd.pipeline.models.check import check_role
from surd.pipeline.stages.caption import check_questions
from surd.schemas import SurdError, load_config
from tests.pipeline.models.tiny_captioners import FAMILIES, save_captioner

ASKED = {"k": 2, "num_beams": 2, "max_new_tokens": 6, "seed": 0}
QUESTIONS = {
    "llava": ("Describe the picture", "what is shown in one short sentence"),
    "qwen2_5_vl": ("Describe the picture", "what is shown in one short sentence"),
    "smolvlm": ("Describe the picture", "what is shown in one short sentence"),
    "paligemma": ("caption en", "describe en en"),
    "florence2": ("<CAPTION>", "<MORE_DETAILED_CAPTION>"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("captioners")
    return {family: save_captioner(root / family, family) for family in FAMILIES}


@pytest.fixture(scope="module")
def pictures():
    """Of several sizes, so that a model that looks at as many tiles or patches as fit gets different numbers."""
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in ((20, 20), (20, 40), (33, 17))
    ]


def config_of(folder, **values):
    return load_config({}, {"models.captioner": str(folder), "models.device": "cpu"} | values)


def captioner_of(folder, **values):
    return Models(config_of(folder, **values).models).captioner


def prompts_of(family, count):
    """For each of ``count`` pictures the family's questions, in turn in another order; None for those without."""
    named = [
        CaptionPrompt(name=name, text=text)
        for name, text in zip(("short", "long"), QUESTIONS.get(family, ()), strict=False)
    ]
    return [named[:: 1 if at % 2 else -1] for at in range(count)] if named else None


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_captions_each_picture_the_same_in_any_batch(folders, pictures, family):
    check_role("captioner", config_of(folders[family]))
    check_questions(config_of(folders[family]))
    captioner, prompts = captioner_of(folders[family]), prompts_of(family, 3)
    assert captioner.prompted == (family in QUESTIONS) and captioner.family == family
    together = captioner.caption(pictures, **ASKED, prompts=prompts)
    alone = [
        captioner.caption([picture], **ASKED, prompts=prompts and [prompts[at]])[0]
        for at, picture in enumerate(pictures)
    ]
    assert together == alone
    names = [[name for name in ("long", "short") for _ in range(2)][:: 1 if at % 2 == 0 else -1] for at in range(3)]
    assert [[answer.name for answer in of_one] for of_one in together] == (names if prompts else [["caption"] * 2] * 3)
    answers = [answer for of_one in together for answer in of_one]
    assert any(answer.text for answer in answers) and all(answer.text or answer.why for answer in answers)
    assert not any(
        mark in (answer.text or "") for answer in answers for mark in ("</s>", "[PAD]", "<|", "picture picture")
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_looks_at_the_picture(folders, pictures, family):
    captioner = captioner_of(folders[family])
    question = QUESTIONS.get(family, ("",))[0]
    first, second = (
        captioner._model.generate(
            **captioner._inputs.of([picture], [question]), max_new_tokens=3, do_sample=False, output_scores=True,
            return_dict_in_generate=True,
        ).scores
        for picture in (pictures[0], Image.new("RGB", pictures[0].size))
    )  # fmt: skip
    assert not all(torch.equal(*scores) for scores in zip(first, second, strict=False))


def test_a_question_is_answered_and_not_repeated(folders, pictures):
    captioner = captioner_of(folders["qwen2_5_vl"])
    inputs = captioner._inputs.of(pictures[:2], list(QUESTIONS["qwen2_5_vl"]))
    assert {"input_ids", "attention_mask", "pixel_values", "image_grid_thw"} <= set(inputs)
    mask = inputs["attention_mask"]
    assert mask[:, -1].all() and not mask[:, 0].all(), "the padding of the shorter row is on the left"
    tokens = torch.cat([inputs["input_ids"], torch.full((2, 3), 11)], dim=1)
    assert captioner._texts(tokens, inputs, 3) == [("blue blue blue", True)] * 2


def test_bart_forces_an_end_mark_at_the_limit_and_the_answer_counts_as_cut(folders, pictures):
    captioner = captioner_of(folders["florence2"])
    (first, _), *_ = captioner.caption(pictures[:1], **ASKED, prompts=[[CaptionPrompt(text="<CAPTION>")]])
    assert first.text and first.cut


def test_a_prompt_of_its_own_length_and_name_has_answers_of_its_own(folders, pictures):
    captioner = captioner_of(folders["smolvlm"])
    prompt = CaptionPrompt(name="short", text="Describe the picture", max_new_tokens=2)
    (answers,) = captioner.caption(pictures[:1], **{**ASKED, "k": 4}, prompts=[[prompt]])
    assert len(answers) == 4 and all(len((answer.text or "").split()) <= 2 for answer in answers)
    assert captioner.caption(pictures[:2], **ASKED, prompts=[[], [prompt]])[0] == []


def test_a_picture_that_the_model_does_not_take_has_a_reason_and_the_others_their_captions(folders, pictures):
    captioner = captioner_of(folders["qwen2_5_vl"])
    thin = Image.new("RGB", (900, 2))
    prompts = [[CaptionPrompt(text="Describe the picture")]] * 3
    answers = captioner.caption([pictures[0], thin, pictures[1]], **ASKED, prompts=prompts)
    assert [answer.text for answer in answers[1]] == [None] and "does not take it" in answers[1][0].why
    assert answers[::2] == captioner.caption(pictures[:2], **ASKED, prompts=prompts[:2])


def test_a_batch_that_memory_does_not_hold_is_halved_and_one_picture_alone_is_a_sentence(
    folders, pictures, monkeypatch
):
    captioner = captioner_of(folders["llava"])
    prompts = [[CaptionPrompt(text="Describe the picture")]] * 3
    whole = captioner.caption(pictures, **ASKED, prompts=prompts)
    generate, most = captioner._generate, 1

    def short_of_memory(inputs, *how):
        if len(inputs["input_ids"]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(inputs, *how)

    monkeypatch.setattr(captioner, "_generate", short_of_memory)
    assert captioner.caption(pictures, **ASKED, prompts=prompts) == whole
    most = 0
    with pytest.raises(
        SurdError, match=r"does not fit into memory with a batch of one; name a smaller model, or lower caption"
    ):
        captioner.caption(pictures, **ASKED, prompts=prompts)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [(1, 1), (1, 60), (150, 1), (300, 200)])
def test_a_picture_of_an_odd_size_has_an_answer_or_a_reason(folders, family, size):
    captioner, prompts = captioner_of(folders[family]), prompts_of(family, 1)
    (answers,) = captioner.caption([Image.new("RGB", size, "red")], **{**ASKED, "k": 1}, prompts=prompts)
    assert answers and all(answer.text or answer.why for answer in answers)


@pytest.mark.parametrize(("family", "dtype"), [("blip", "float32"), ("qwen2_5_vl", "bfloat16")])
def test_where_the_hardware_computes_in_bfloat16_only_models_that_are_asked_do(folders, monkeypatch, family, dtype):
    monkeypatch.setattr("surd.pipeline.models.captioner.computes_bfloat16", lambda device: True)
    from surd.pipeline.models.captioner import Captioner

    assert Captioner(str(folders[family]), "cpu", "auto")._model.dtype == getattr(torch, dtype)


@pytest.mark.parametrize("family", ["blip", "qwen2_5_vl", "florence2"])
def test_a_captioner_computes_in_the_dtype_of_its_role(folders, pictures, family):
    captioner = captioner_of(folders[family], **{"models.dtypes.captioner": "bfloat16"})
    assert captioner._model.dtype == torch.bfloat16
    (answers,) = captioner.caption(pictures[:1], **ASKED, prompts=prompts_of(family, 1))
    assert any(answer.text for answer in answers)


def test_a_tokenizers_template_serves_where_the_processor_has_none(folders, tmp_path, pictures):
    folder = save_captioner(tmp_path, "llava")
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": template}))
    asked = ASKED | {"prompts": [[CaptionPrompt(text="Describe the picture")]]}
    check_role("captioner", config_of(folder))
    assert captioner_of(folder).caption(pictures[:1], **asked) == captioner_of(folders["llava"]).caption(
        pictures[:1], **asked
    )
