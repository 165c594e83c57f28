"""A batch that memory does not hold is halved, said once; its rows have the results they would have had."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image

from surd.pipeline.models import Models
from surd.pretrained.batch_limit import BatchLimit
from surd.schemas import SurdError, load_config
from tests.pipeline.models.tiny_models import WORDS, save_llm

CPU = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate"
ERRORS = [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError(CPU), MemoryError()]
TEXTS = [" ".join(WORDS[5 : 6 + at % 4]) + f" {WORDS[5 + at]}" for at in range(10)]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    values = {"models.llm": str(save_llm(tmp_path_factory.mktemp("llm"))), "models.dtype": "float32"}
    return Models(load_config({}, values | {"models.device": "cpu"}).models)


def short_of_memory(network, most, error):
    """A network's call, for at most so many rows."""

    def call(*args, **options):
        first = next(value for value in (*args, *options.values()) if hasattr(value, "__len__") and len(value))
        if len(first) > most:
            raise error
        return network(*args, **options)

    return call


def embed_images(models):
    return models.clip.embed_images([Image.new("RGB", (64, 64), (20 * at, 99, 200)) for at in range(10)])


def embed_texts(models):
    return models.clip.embed_texts(TEXTS)


def replies(models):
    return models.llm.replies([[{"role": "user", "content": text}] for text in TEXTS], 4)


def hidden_states(models):
    read = dict(models.embed_llm.hidden_states.read(TEXTS, [(1, "mean")], None))
    return np.stack([read[at][1, "mean"].numpy() for at in range(len(TEXTS))])


@pytest.mark.parametrize("error", ERRORS, ids=["GPU", "CPU", "python"])
@pytest.mark.parametrize(
    ("compute", "owner", "name"),
    [
        (embed_images, lambda models: models.clip, "_encode_images"),
        (embed_texts, lambda models: models.clip, "_encode_short"),
        (replies, lambda models: models.llm._model, "generate"),
        (hidden_states, lambda models: models.embed_llm.hidden_states, "_forward"),
    ],
)
def test_a_batch_that_memory_does_not_hold_is_halved_and_gives_the_same(
    models, monkeypatch, caplog, compute, owner, name, error
):
    whole, network = compute(models), getattr(owner(models), name)
    for limited in (models.clip, models.llm, models.embed_llm.hidden_states):
        monkeypatch.setattr(limited, "_limit", BatchLimit("models.x"))
    monkeypatch.setattr(owner(models), name, short_of_memory(network, 1, error))
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(compute(models), whole)
        assert np.array_equal(compute(models), whole)
    assert sum("memory does not suffice" in record.message for record in caplog.records) == 1
    monkeypatch.setattr(owner(models), name, short_of_memory(network, 0, error))
    with pytest.raises(SurdError, match=r"models.x does not fit into memory with a batch of one; name a smaller model"):
        compute(models)


def test_a_batch_smaller_than_one_that_did_not_fit_is_tried_first_from_then_on():
    sizes = []

    def compute(rows):
        sizes.append(len(rows))
        if len(rows) > 3:
            raise ERRORS[0]
        return list(rows)

    limit = BatchLimit("models.x")
    assert limit.run(compute, range(8)) == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert limit.run(compute, range(3)) == [[0, 1], [2]]
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 1]


def test_other_errors_are_not_of_memory():
    def fail(rows):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        BatchLimit("models.x").run(fail, [1, 2])
