"""A model is loaded once for all threads, and given up when its stages are over, if it is large."""

import gc
import threading
import weakref

import pytest

from surd.pipeline.models import Models, _shelf, shelf
from surd.pipeline.models.shelf import Shelf, weight
from surd.schemas import load_config
from tests.pipeline.models.tiny_models import save_llm


@pytest.fixture
def models(tmp_path):
    values = {"models.llm": str(save_llm(tmp_path)), "models.dtype": "float32", "models.device": "cpu"}
    return Models(load_config({}, values).models)


def test_a_large_model_whose_stages_are_over_is_given_up_and_a_small_one_stays(models, monkeypatch):
    gone, key = weakref.ref(models.llm), models._key("llm")
    models.unload(["llm"], [])
    assert key in _shelf(), "reading a small one again would cost more than it holds"
    monkeypatch.setattr(shelf, "LARGE", weight(models.llm))
    models.unload(["llm"], ["embed_llm"])
    assert key in _shelf(), "embed reads from the same model"
    models.unload(["llm", "captioner"], ["diffusion"])
    assert key not in _shelf()
    gc.collect()
    assert gone() is None


def test_the_weight_of_every_role_is_known(models):
    demo = Models(load_config({}).models)
    assert weight(models.llm) > 1000
    for model in (demo.clip, demo.captioner, demo.diffusion):
        assert weight(model) > 100_000


def test_threads_that_need_a_model_at_once_load_it_once():
    held, loads, found = Shelf(), [], []
    barrier = threading.Barrier(4)

    def use():
        barrier.wait()
        found.append(held.get("key", lambda: loads.append(1) or object()))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1 and len(set(map(id, found))) == 1


def test_the_model_used_longest_ago_makes_room():
    held = Shelf()
    for key in range(9):
        held.get(key, object)
        held.get(0, object)
    assert 0 in held and 1 not in held and 8 in held
