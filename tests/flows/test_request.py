"""Profiles and --param values become a config, or one sentence that says what to fix."""

import pytest

from surd.flows.request import default_out, find_profile, parse_params, resolve_config
from surd.schemas import SurdError


@pytest.mark.parametrize("profile", ["demo", "small", "paper"])
def test_every_profile_is_a_valid_config(profile):
    assert resolve_config(profile).models.diffusion


def test_the_papers_profile_takes_the_layer_before_the_last_of_a_40_layer_llm():
    config = resolve_config("paper")
    assert (config.models.clip, config.embed.layers) == ("ViT-L-14/openai", [39])


def test_a_profile_can_be_a_file_and_names_the_default_folder(tmp_path):
    (tmp_path / "pictures.yaml").write_text("source: folder:pics\n")
    assert resolve_config(str(tmp_path / "pictures.yaml")).source == "folder:pics"
    assert default_out(str(tmp_path / "pictures.yaml")) == "data/pictures"


def test_later_overrides_win_and_keep_the_rest_of_a_section():
    config = resolve_config("demo", {"fetch": {"retries": 7, "timeout": 5}}, {"fetch.retries": 1})
    assert (config.fetch.retries, config.fetch.timeout, config.partition_size) == (1, 5, 160)


def test_parameters_are_yaml_with_dotted_names():
    assert parse_params(["embed.layers=[5, 20]", "limit=3", "source=gallery:http://host/x?a=b"]) == {
        "embed.layers": [5, 20],
        "limit": 3,
        "source": "gallery:http://host/x?a=b",
    }


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: find_profile("dmo"), "did you mean 'demo'"),
        (lambda: find_profile("zzz"), "demo, paper, small"),
        (lambda: resolve_config("no/such.yaml"), "no/such.yaml"),
        (lambda: resolve_config("demo", {"corect": {}}), "did you mean 'correct'"),
        (lambda: resolve_config("demo", {"correct.tolernce": 1}), "did you mean 'tolerance'"),
        (lambda: resolve_config("demo", {"partition_size": 0}), "'partition_size' is 0"),
        (lambda: parse_params(["limit"]), "field=value"),
        (lambda: parse_params(["=3"]), "field=value"),
        (lambda: parse_params(["embed.layers=[1,"]), "not valid YAML"),
    ],
)
def test_a_mistake_is_one_sentence_with_its_remedy(call, sentence):
    with pytest.raises(SurdError) as error:
        call()
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)
