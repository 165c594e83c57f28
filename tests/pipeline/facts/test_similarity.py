"""Text vectors come from the packaged model, a folder or nowhere; what cannot be loaded is one sentence."""

import zipfile

import numpy as np
import pytest

from surd.pipeline.facts import similarity
from surd.pipeline.facts.similarity import PACKAGED, TextVectors, installed, text_vectors
from surd.schemas import SurdError


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A tiny BERT with random weights, in the layout of sentence-transformers models."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    (folder / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefg", *["dog", "cat"]])
    )
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(vocab_size=14, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertModel(config).save_pretrained(folder)
    return str(folder)


def test_vectors_have_length_one_and_do_not_depend_on_what_they_are_computed_with(encoder):
    together = TextVectors(encoder).embed(["dog", "a b c d e f g", "dog"])
    alone = TextVectors(encoder).embed(["dog"])
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert np.allclose(together[0], alone[0], atol=1e-5)
    assert np.array_equal(together[0], together[2])
    assert TextVectors(encoder).embed([]).shape == (0, 0)


def test_no_reference_and_no_package_mean_no_vectors(monkeypatch):
    monkeypatch.setattr(similarity, "_zip_file", lambda: None)
    similarity._loaded.cache_clear()
    assert text_vectors(None) is None
    assert text_vectors(PACKAGED) is None
    assert not installed(PACKAGED)
    similarity._loaded.cache_clear()


def test_a_folder_without_a_model_is_one_sentence(tmp_path):
    with pytest.raises(SurdError, match=r"facts\.similarity is .*: it is not a text encoder") as error:
        text_vectors(str(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [{"config.json": "{}"}, None, {"weights.bin": "x"}])
def test_an_archive_that_is_not_the_published_model_is_refused_and_leaves_nothing(tmp_path, monkeypatch, content):
    archive = tmp_path / "model.zip"
    if content is None:
        archive.write_bytes(b"not a zip")
    else:
        with zipfile.ZipFile(archive, "w") as file:
            for name, text in content.items():
                file.writestr(name, text)
    monkeypatch.setattr(similarity, "_zip_file", lambda: archive)
    monkeypatch.setattr(similarity, "user_cache_path", lambda name: tmp_path / "cache")
    similarity._loaded.cache_clear()
    with pytest.raises(SurdError, match=r"facts\.similarity"):
        text_vectors(PACKAGED)
    similarity._loaded.cache_clear()
    assert list((tmp_path / "cache" / "text_encoders").iterdir()) == []
