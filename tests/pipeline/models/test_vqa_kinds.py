"""Models of several architectures answer yes/no questions, each the same in any batch."""

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from surd.pipeline.models import Models
from surd.pretrained.vqa import BlipVqa, ChatVqa, ViltVqa, load_vqa, word_tokens
from surd.schemas import SurdError, load_config
from tests.pipeline.models.tiny_models import SIDE, VISION, drop_weights

QUESTIONS = [["Is the box red?", "Are there exactly three dogs in the picture?", "Is it?"], [], ["Is the dog red?"]]
#: Bytes, so that every text has tokens, and the words of the answers as whole ones.
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
TINY = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    sizes = ((20, 28), (40, 20), (28, 28))
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


def byte_tokenizer(folder, *special, words=("yes", "no", "Yes", "ĠYes", "No"), **options):
    vocabulary = [*special, *ALPHABET, *words]
    whole = [word for word in words if len(word) > 1]
    merges, pieces = [], list(vocabulary)
    for word in whole:
        for end in range(2, len(word) + 1):
            if word[:end] not in pieces:
                pieces.append(word[:end])
            merges.append((word[: end - 1], word[end - 1]))
    merges = list(dict.fromkeys(merges))
    tokenizer = Tokenizer(models.BPE({piece: at for at, piece in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=special[0], additional_special_tokens=list(special[1:]), **options
    )
    fast.save_pretrained(folder)
    return fast


def wordpiece(folder, longest):
    letters = "abcdefghijklmnopqrstuvwxyz?"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "yes", "no", "the", *letters]
    words += [f"##{letter}" for letter in letters]
    file = folder / "vocab.txt"
    file.write_text("\n".join(words))
    return transformers.BertTokenizer(
        vocab=str(file), model_max_length=longest, bos_token="[DEC]", model_input_names=["input_ids", "attention_mask"]
    )


def save_blip(folder):
    torch.manual_seed(0)
    tokenizer = wordpiece(folder, 64)
    text = TINY | {
        "vocab_size": len(tokenizer), "encoder_hidden_size": 16, "max_position_embeddings": 64, "bos_token_id": 5,
        "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0,
    }  # fmt: skip
    config = transformers.BlipConfig(text_config=text, vision_config=VISION | {"initializer_range": 0.02})
    model = transformers.BlipForQuestionAnswering(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    images = transformers.BlipImageProcessor(size={"height": SIDE, "width": SIDE})
    transformers.BlipProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def save_vilt(folder, labels=("maybe", "Yes", "no")):
    torch.manual_seed(0)
    tokenizer = wordpiece(folder, 60)
    config = transformers.ViltConfig(
        **TINY, vocab_size=len(tokenizer), max_position_embeddings=60, image_size=32, patch_size=8,
        id2label=dict(enumerate(labels)), label2id={label: at for at, label in enumerate(labels)},
    )  # fmt: skip
    model = transformers.ViltForQuestionAnswering(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    images = transformers.ViltImageProcessor(size={"shortest_edge": 32}, size_divisor=8)
    transformers.ViltProcessor(images, tokenizer).save_pretrained(folder)
    return folder


TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def save_qwen(folder):
    torch.manual_seed(0)
    special = ("<pad>", "<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>")
    tokenizer = byte_tokenizer(
        folder, *special, extra_special_tokens={"image_token": special[2], "video_token": special[4]}
    )
    config = transformers.Qwen2_5_VLConfig(
        text_config=TINY | {
            "vocab_size": len(tokenizer), "num_key_value_heads": 2, "max_position_embeddings": 512,
            "rope_scaling": {"type": "mrope", "mrope_section": [2, 1, 1]}, "pad_token_id": 0,
        },
        vision_config={
            "depth": 2, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
            "patch_size": 4, "spatial_merge_size": 2, "window_size": 16, "fullatt_block_indexes": [1],
        },
        image_token_id=2, video_token_id=4, vision_start_token_id=1, vision_end_token_id=3,
    )  # fmt: skip
    transformers.Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    images = transformers.Qwen2VLImageProcessor(
        patch_size=4, merge_size=2, size={"shortest_edge": 64, "longest_edge": 1024}
    )
    videos = transformers.Qwen2VLVideoProcessor(patch_size=4, merge_size=2)
    template = TEMPLATE.replace("IMAGE", "".join(special[1:4]))
    transformers.Qwen2_5_VLProcessor(images, tokenizer, videos, chat_template=template).save_pretrained(folder)
    return folder


def save_smolvlm(folder):
    pytest.importorskip("num2words", reason="transformers' processor of SmolVLM needs num2words")
    torch.manual_seed(0)
    special = ("<pad>", "<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    tokenizer = byte_tokenizer(
        folder, *special,
        extra_special_tokens={
            "image_token": special[1], "fake_image_token": special[2], "global_image_token": special[3],
            "end_of_utterance_token": special[4],
        },
    )  # fmt: skip
    config = transformers.SmolVLMConfig(
        text_config=transformers.LlamaConfig(**TINY, vocab_size=len(tokenizer), max_position_embeddings=512),
        vision_config=TINY | {"image_size": SIDE, "patch_size": 4}, image_token_id=1, scale_factor=2, pad_token_id=0,
    )  # fmt: skip
    transformers.SmolVLMForConditionalGeneration(config).save_pretrained(folder)
    images = transformers.SmolVLMImageProcessor(
        size={"longest_edge": SIDE}, max_image_size={"longest_edge": SIDE}, do_image_splitting=False
    )
    transformers.SmolVLMProcessor(
        images,
        tokenizer,
        transformers.SmolVLMVideoProcessor(),
        image_seq_len=4,
        chat_template=TEMPLATE.replace("IMAGE", "<image>"),
    ).save_pretrained(folder)
    return folder


FAMILIES = {
    "blip": (save_blip, BlipVqa), "vilt": (save_vilt, ViltVqa), "qwen2.5-vl": (save_qwen, ChatVqa),
    "smolvlm": (save_smolvlm, ChatVqa),
}  # fmt: skip


@pytest.fixture(scope="module", params=FAMILIES)
def model(request, tmp_path_factory):
    save, kind = FAMILIES[request.param]
    loaded = load_vqa(str(save(tmp_path_factory.mktemp("vqa"))), "cpu")
    assert type(loaded) is kind
    return loaded


def test_each_question_is_answered_as_it_is_alone(model, pictures):
    together = model.probabilities(pictures, QUESTIONS)
    assert [len(row) for row in together] == [3, 0, 1]
    alone = [
        [model.probabilities([picture], [[text]])[0][0] for text in row]
        for picture, row in zip(pictures, QUESTIONS, strict=True)
    ]
    for row, single in zip(together, alone, strict=True):
        assert row == pytest.approx(single, abs=1e-4)
    answers = [p for row in together for p in row]
    assert all(0 <= p <= 1 for p in answers) and len({round(p, 5) for p in answers}) > 1


def test_a_question_asked_twice_is_answered_twice(model, pictures):
    ((first, other, second),) = model.probabilities(pictures[:1], [["Is it red?", "Is it blue?", "Is it red?"]])
    assert first == second != other


def test_the_picture_and_the_question_decide(model, pictures):
    answers = model.probabilities(pictures, [["Is it red?"]] * 3)
    assert len({round(row[0], 6) for row in answers}) == 3


def test_a_question_longer_than_the_model_reads_has_no_answer(model, pictures):
    ((short, long),) = model.probabilities(pictures[:1], [["Is it red?", f"Is the {'very ' * 200}long box red?"]])
    assert short is not None and long is None


def test_no_picture_and_no_question_cost_nothing(model, pictures):
    assert model.probabilities([], []) == []
    assert model.probabilities(pictures, [[], [], []]) == [[], [], []]
    with pytest.raises(ValueError, match="there are 3 images; give one each"):
        model.probabilities(pictures, [["Is it?"]])


def test_blip_gives_what_its_own_forward_gives(tmp_path, pictures):
    folder = save_blip(tmp_path)
    whole = transformers.BlipForQuestionAnswering.from_pretrained(folder).eval()
    processor = transformers.BlipProcessor.from_pretrained(folder)
    inputs = processor(images=pictures[0], text="Is the box red?", return_tensors="pt")
    seen = {}
    whole.text_decoder.register_forward_hook(lambda _, args, kwargs, out: seen.update(out=out.logits), with_kwargs=True)
    with torch.inference_mode():
        whole(**inputs, decoder_input_ids=torch.tensor([[5]]))
    yes, no = processor.tokenizer.convert_tokens_to_ids(["yes", "no"])
    expected = seen["out"][0, 0, [yes, no]].softmax(-1)[0]
    ((p,),) = load_vqa(str(folder), "cpu").probabilities(pictures[:1], [["Is the box red?"]])
    assert p == pytest.approx(float(expected), abs=1e-5)


def test_every_way_to_begin_with_yes_counts(tmp_path):
    tokenizer = byte_tokenizer(tmp_path, "<pad>")
    tokens = tokenizer.convert_ids_to_tokens(word_tokens(tokenizer, "yes"))
    assert sorted(tokens) == ["Yes", "yes", "ĠYes"]
    with pytest.raises(ValueError, match="its tokenizer has no token for 'maybe'"):
        word_tokens(tokenizer, "maybe")


def vqa_of(folder):
    return Models(load_config({}, {"models.vqa": str(folder), "models.device": "cpu"}).models).vqa


def test_a_model_that_cannot_be_asked_says_why_in_one_sentence(tmp_path):
    with pytest.raises(SurdError, match=r"its answers \(id2label\) lack yes or no; name a ViLT fine-tuned on VQAv2"):
        vqa_of(save_vilt(tmp_path, ("cat", "dog", "yes")))
    (tmp_path / "q").mkdir()
    save_qwen(tmp_path / "q")
    (tmp_path / "q" / "chat_template.jinja").unlink()
    with pytest.raises(SurdError, match="it has no chat template, so it cannot be asked"):
        vqa_of(tmp_path / "q")
    (tmp_path / "b").mkdir()
    drop_weights(save_blip(tmp_path / "b"), "text_decoder.cls.predictions.transform.dense.weight")
    with pytest.raises(SurdError, match="which would be random; copy the whole model"):
        vqa_of(tmp_path / "b")
