"""Safety models of the user's own: any transformers classifier whose labels say what is unsafe."""

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from surd.pipeline.models.nsfw import load_image_classifier, load_text_classifier, safety_files
from surd.schemas import SurdError
from surd.schemas.config import SafetyConfig
from tests.pipeline.models.tiny_models import TEXT, VISION, drop_weights, save_image_processor, save_tokenizer

LABELS = {"id2label": {0: "safe", 1: "nsfw"}, "label2id": {"safe": 0, "nsfw": 1}}
LONG = "the red box on the white table " * 100


def save_text(folder, kind="Roberta", **options):
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**TEXT | {"pad_token_id": 0} | options, **LABELS)
    getattr(transformers, f"{kind}ForSequenceClassification")(config).save_pretrained(folder)
    save_tokenizer(folder)
    return str(folder)


@pytest.mark.parametrize(("kind", "longest"), [("Roberta", 63), ("XLMRoberta", 63), ("Bert", 64)])
def test_a_text_longer_than_the_models_positions_is_cut_and_judged(tmp_path, kind, longest):
    classifier = load_text_classifier(save_text(tmp_path, kind), "cpu")
    assert classifier._length == longest, "RoBERTa's positions begin behind the padding's own"
    scores = classifier.score([LONG, "the box"])
    assert all(0 <= score <= 1 for score in scores)
    assert classifier.score(["the box"]) == [pytest.approx(scores[1], abs=1e-5)]


def test_a_text_model_without_a_padding_token_judges_in_batches(tmp_path):
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=TEXT["vocab_size"], n_embd=16, n_layer=1, n_head=2, pad_token_id=3, eos_token_id=3, **LABELS
    )
    transformers.GPT2ForSequenceClassification(config).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    assert len(load_text_classifier(str(tmp_path), "cpu").score(["the box", "a", LONG])) == 3


def save_images(folder, labels=LABELS):
    torch.manual_seed(0)
    transformers.ViTForImageClassification(transformers.ViTConfig(**VISION, **labels)).save_pretrained(folder)
    save_image_processor(folder, "ViTImageProcessor")
    return str(folder)


def test_an_image_model_of_the_users_own_gives_the_probability_of_its_unsafe_labels(tmp_path):
    folder = save_images(tmp_path)
    classifier = load_image_classifier(folder, "cpu")
    pictures = [Image.new("RGB", (30, 20), colour) for colour in ("red", "blue")]
    model = transformers.ViTForImageClassification.from_pretrained(folder).eval()
    pixels = transformers.AutoImageProcessor.from_pretrained(folder)(images=pictures, return_tensors="pt")
    with torch.inference_mode():
        expected = model(**pixels).logits.softmax(-1)[:, 1].numpy()
    found = classifier.score([classifier.prepare(picture) for picture in pictures])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    files = safety_files(SafetyConfig(image_model=folder))
    assert {file.name for file in files} >= {"config.json", "model.safetensors"}, "they decide the outcome"


def test_a_classifier_of_random_weights_is_refused(tmp_path):
    save_images(tmp_path / "images")
    drop_weights(tmp_path / "images", "classifier.weight")
    with pytest.raises(SurdError, match=r"safety\.image_model .* lack classifier\.weight, which would be random"):
        load_image_classifier(str(tmp_path / "images"), "cpu")
    save_text(tmp_path / "text")
    drop_weights(tmp_path / "text", "classifier.dense.weight", "classifier.out_proj.weight")
    with pytest.raises(SurdError, match=r"safety\.text_model .* lack classifier\.dense\.weight and 1 more"):
        load_text_classifier(str(tmp_path / "text"), "cpu")


def test_labels_that_say_nothing_of_safety_are_named(tmp_path):
    folder = save_images(tmp_path, {"id2label": {0: "cat", 1: "dog"}, "label2id": {"cat": 0, "dog": 1}})
    with pytest.raises(SurdError, match=r"safety\.image_model has the labels cat, dog"):
        load_image_classifier(folder, "cpu")


@pytest.mark.parametrize("name", ["/", "~nobody/x", "a" * 5000, "\ud800", "package:__main__/x"])
@pytest.mark.parametrize("field", ["image_model", "text_model"])
def test_odd_names_are_one_sentence(field, name):
    with pytest.raises(SurdError) as error:
        safety_files(SafetyConfig(**{field: name}))
    assert str(error.value).isprintable()
