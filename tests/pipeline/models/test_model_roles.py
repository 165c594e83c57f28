"""Each role may have a device and a dtype of its own; what is the default for all stays where nothing is said."""

import pytest

from surd.pipeline.models import ROLES, Models
from surd.pipeline.models.check import check_role
from surd.schemas import SurdError, load_config


def models_of(**values):
    return Models(load_config({}, {f"models.{name}": value for name, value in values.items()}).models)


def test_a_role_has_its_own_device_and_the_others_the_one_of_all():
    models = models_of(**{"device": "cpu", "devices.captioner": "cuda:1", "devices.llm": "cuda:2"})
    assert models.device == "cpu"
    assert {role: models.device_of(role) for role in ROLES} == {
        **dict.fromkeys(ROLES, "cpu"), "captioner": "cuda:1", "llm": "cuda:2", "embed_llm": "cuda:2",
    }  # fmt: skip
    other = models_of(**{"device": "cpu", "devices.llm": "cuda:2", "embed_llm": "some/llm"})
    assert other.device_of("embed_llm") == "cpu", "another model than llm's"


def test_what_fills_two_roles_alike_is_loaded_once():
    models = models_of(**{"device": "cpu", "dtypes.llm": "float32"})
    assert models._key("llm") == models._key("embed_llm")
    assert models._key("llm") != models_of(**{"device": "cpu", "dtypes.llm": "bfloat16"})._key("llm")
    assert models._key("captioner") != models_of(**{"device": "cpu", "dtypes.captioner": "bfloat16"})._key("captioner")


def test_a_dtype_that_is_asked_for_is_part_of_the_revision_and_the_default_changes_none():
    plain, other = models_of(), models_of(**{"dtypes.captioner": "bfloat16", "dtypes.llm": "float32"})
    for role in ("clip", "captioner", "diffusion"):
        assert plain.revision(role) == plain.weights(role)
    assert plain.revision("llm") == f"{plain.weights('llm')} auto"
    assert other.revision("captioner") == f"{plain.weights('captioner')} bfloat16"
    assert other.revision("llm") == other.revision("embed_llm") == f"{plain.weights('llm')} float32"
    assert models_of(**{"devices.captioner": "cuda:1"}).revision("captioner") == plain.revision("captioner")
    assert models_of(dtype="bfloat16").revision("clip") == plain.revision("clip")


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"models.devices.captoner": "cpu"}, "there is no role 'captoner'; the roles here are clip, captioner"),
        ({"models.dtypes.clip": "bfloat16"}, "clip computes in float32 alone; leave it out"),
        ({"models.dtypes.captioner": "int8"}, "'models.dtypes.captioner' is 'int8'"),
        ({"models.devices": "cpu"}, "'models.devices' is 'cpu'"),
    ],
)
def test_a_wrong_role_or_dtype_is_one_sentence(values, why):
    with pytest.raises(SurdError) as caught:
        load_config({}, values)
    assert why in str(caught.value) and "\n" not in str(caught.value)


def test_a_device_that_is_not_there_is_named_with_its_role_before_any_stage():
    config = load_config({}, {"models.devices.captioner": "cuda:99"})
    with pytest.raises(SurdError, match=r"models\.devices\.captioner is 'cuda:99': .*; use auto, cpu or cuda"):
        check_role("captioner", config)
    check_role("llm", config)
