"""The tokens of a prompt are counted, and cut, as the named model does it."""

from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from surd.pipeline.models.clip_tokenizer import ClipTokenizer
from surd.pretrained.clip_vocabulary import CONTEXT
from surd.schemas import SurdError

WORDS = ["<pad>", "</s>", "<unk>", "a", "red", "fox", ",", "A"]


@pytest.fixture
def folder(tmp_path):
    """A model folder with a tokenizer of whole words and one mark at the end, as SigLIP's has."""
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def write(folder, name, **content):
    (folder / name).write_text(json.dumps(content))


def settings(folder, **text):
    write(folder, "open_clip_config.json", model_cfg={"embed_dim": 8, "text_cfg": text})


def test_the_context_is_that_of_the_named_model(folder):
    assert ClipTokenizer("ViT-B-32/openai").context == CONTEXT == 77
    assert ClipTokenizer("ViT-B-16-SigLIP/webli").context == 64
    settings(folder, context_length=16, hf_tokenizer_name="local")
    assert ClipTokenizer(str(folder)).context == 16


def test_the_context_of_a_folder_of_transformers_is_in_its_config(folder):
    assert ClipTokenizer(str(folder)).context == 77
    write(folder, "tokenizer_config.json", model_max_length=int(1e30))
    assert ClipTokenizer(str(folder)).context == 77
    write(folder, "config.json", text_config={"max_position_embeddings": 64})
    assert ClipTokenizer(str(folder)).context == 64


def test_a_tokenizer_of_its_own_counts_its_own_marks_after_its_own_cleaning(folder):
    settings(folder, context_length=16, hf_tokenizer_name="local")
    assert ClipTokenizer(str(folder)).count("A  red, fox") == 5
    settings(folder, context_length=16, hf_tokenizer_name="local", tokenizer_kwargs={"clean": "canonicalize"})
    assert ClipTokenizer(str(folder)).count("A  red, fox") == 4
    settings(folder, context_length=16)  # no tokenizer named: open_clip takes OpenAI's
    assert ClipTokenizer(str(folder)).count("A  red, fox") == 6


def test_a_damaged_config_is_named(folder):
    (folder / "open_clip_config.json").write_text("{")
    with pytest.raises(SurdError, match=r"open_clip_config\.json"):
        ClipTokenizer(str(folder))
