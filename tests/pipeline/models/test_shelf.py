"""A model is loaded once for all threads, and given up when its stages are over, if it is large."""

import gc
import json
import subprocess
import sys
import threading
import weakref

import pytest

from surd.pipeline.models import Models, shelf
from surd.pipeline.models.shelf import SHELF, Shelf, weight
from surd.schemas import load_config
from tests.pipeline.models.test_safety_models import save_text
from tests.pipeline.models.tiny_models import save_llm


@pytest.fixture
def models(tmp_path):
    values = {"models.llm": str(save_llm(tmp_path)), "models.dtype": "float32", "models.device": "cpu"}
    return Models(load_config({}, values).models)


def test_a_large_model_whose_stages_are_over_is_given_up_and_a_small_one_stays(models, monkeypatch):
    gone, key = weakref.ref(models.llm), models._key("llm")
    models.unload(["llm"], [])
    assert key in SHELF, "reading a small one again would cost more than it holds"
    monkeypatch.setattr(shelf, "LARGE", weight(models.llm))
    models.unload(["llm"], ["embed_llm"])
    assert key in SHELF, "embed reads from the same model"
    models.unload(["llm", "captioner"], ["diffusion"])
    assert key not in SHELF
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


def test_models_that_threads_need_at_once_are_loaded_one_after_the_other_and_each_once(tmp_path):
    places = save_llm(tmp_path / "llm"), save_text(tmp_path / "text", "Bert"), save_text(tmp_path / "words", "Bert")
    # In a new process: a model that another test has loaded would not be loaded again.
    program = [sys.executable, "-m", "tests.pipeline.models.first_use", *map(str, places)]
    ran = subprocess.run(program, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {"failed": [], "at once": 1, "loads": 5, "models": 5}


def test_the_model_used_longest_ago_makes_room():
    held = Shelf()
    for key in range(shelf._MOST + 1):
        held.get(key, object)
        held.get(0, object)
    assert 0 in held and 1 not in held and shelf._MOST in held
