"""A config says what is wrong with it in one sentence."""

import pytest

from surd.schemas import SurdError, load_config, read_profile


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"fetch": {"retrys": 3}}, "'fetch.retrys' does not exist; did you mean 'retries'?"),
        ({"partitionsize": 5}, "'partitionsize' does not exist; did you mean 'partition_size'?"),
        ({"fetch.retries": -1}, "'fetch.retries' is -1: input should be greater than or equal to 0"),
        ({"models": "clip"}, "'models' is 'clip'"),
        ({"models.dtype": "int8"}, "'models.dtype' is 'int8'"),
        ({"source.kind": 3}, "'source'"),
    ],
)
def test_a_wrong_field_is_named_with_its_value_and_the_mend(overrides, sentence):
    with pytest.raises(SurdError) as error:
        load_config({}, overrides)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_dotted_names_and_sections_overlay_a_profile_without_changing_it():
    profile = {"fetch": {"retries": 1, "concurrency": 2}}
    config = load_config(profile, {"fetch.retries": 7, "caption": {"k": 2}})
    assert (config.fetch.retries, config.fetch.concurrency, config.caption.k) == (7, 2, 2)
    assert profile == {"fetch": {"retries": 1, "concurrency": 2}}


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "\xff"])
def test_a_profile_that_is_no_mapping_is_refused(tmp_path, text):
    path = tmp_path / "p.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SurdError, match=r"p\.yaml"):
        read_profile(path)


def test_a_missing_profile_is_one_sentence(tmp_path):
    with pytest.raises(SurdError, match=r"gone\.yaml.*cannot be read"):
        read_profile(tmp_path / "gone.yaml")
