"""Captioners of several architectures: those that need no prompt, and those that answer one."""

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from surd.pipeline.models import Models
from surd.pipeline.models.caption_model import CaptionPrompt
from surd.schemas import SurdError, load_config
from tests.pipeline.models.tiny_models import (
    SIDE,
    TEXT,
    VISION,
    drop_weights,
    save_image_processor,
    save_tokenizer,
)

ASKED = {"k": 3, "num_beams": 2, "max_new_tokens": 6, "seed": 0}


def captioner_of(folder):
    return Models(load_config({}, {"models.captioner": str(folder), "models.device": "cpu"}).models).captioner


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)) for _ in range(3)]


def save_vit_gpt2(folder):
    torch.manual_seed(0)
    size = TEXT["vocab_size"]
    decoder = transformers.GPT2Config(
        vocab_size=size, n_embd=16, n_layer=1, n_head=2, n_positions=32, bos_token_id=2, eos_token_id=3
    )
    encoder = transformers.ViTConfig(**VISION)
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 2, 0, 3
    transformers.VisionEncoderDecoderModel(config).save_pretrained(folder)
    save_tokenizer(folder)
    save_image_processor(folder, "ViTImageProcessor")
    return folder


def save_llava(folder, template=None):
    torch.manual_seed(0)
    vision = transformers.CLIPVisionConfig(**VISION | {"num_hidden_layers": 2})
    config = transformers.LlavaConfig(
        vision_config=vision, text_config=transformers.LlamaConfig(**TEXT), image_token_index=4
    )
    transformers.LlavaForConditionalGeneration(config).save_pretrained(folder)
    save_tokenizer(folder, extra_special_tokens={"image_token": "<image>"})
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    images = transformers.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    processor = transformers.LlavaProcessor(
        images, tokenizer, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=template,
    )  # fmt: skip
    processor.save_pretrained(folder)
    return folder


TEMPLATE = (
    "{% for message in messages %}<s> {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}"
)


def test_vit_gpt2_captions_each_picture_the_same_in_any_batch(tmp_path, pictures):
    captioner = captioner_of(save_vit_gpt2(tmp_path))
    together = captioner.caption(pictures, **ASKED)
    assert [captioner.caption([picture], **ASKED)[0] for picture in pictures] == together
    assert all(len(answers) == 3 and any(answer.text for answer in answers) for answers in together)


def test_the_pooler_that_published_vit_gpt2_captioners_lack_is_no_fault(tmp_path, pictures):
    drop_weights(save_vit_gpt2(tmp_path), "encoder.pooler.dense.weight", "encoder.pooler.dense.bias")
    assert len(captioner_of(tmp_path).caption(pictures, **ASKED)) == 3


@pytest.mark.parametrize("template", [None, TEMPLATE])
def test_llava_answers_a_prompt_and_does_not_repeat_it(tmp_path, pictures, template):
    captioner = captioner_of(save_llava(tmp_path, template))
    prompt = "the red box"
    asked = [CaptionPrompt(text=prompt)]
    answers = captioner.caption(pictures, **ASKED, prompts=[asked] * 3)
    assert len(answers) == 3
    assert not any((answer.text or "").startswith(prompt) for of_one in answers for answer in of_one)
    assert [captioner.caption([picture], **ASKED, prompts=[asked])[0] for picture in pictures] == answers
    inputs = captioner._inputs.of(pictures, [prompt] * 3)
    assert {"input_ids", "pixel_values"} <= set(inputs)
    images = (inputs["input_ids"] == 4).sum(1)
    assert images.tolist() == [4] * 3, "one token for each patch of the picture"


def test_a_captioner_that_lacks_a_tensor_names_it(tmp_path):
    drop_weights(save_vit_gpt2(tmp_path), "decoder.transformer.ln_f.weight")
    with pytest.raises(SurdError, match=r"its weights lack decoder\.transformer\.ln_f\.weight, which would be random"):
        captioner_of(tmp_path)
