"""A model string is a path, a file inside a package, or a hub id."""

import pytest

from schemas import SurdError, resolve_model


def test_a_package_path_resolves_inside_the_package():
    assert resolve_model("package:schemas/config.py").endswith("schemas/config.py")


def test_a_local_folder_resolves_to_itself(tmp_path):
    assert resolve_model(str(tmp_path)) == str(tmp_path)


def test_a_hub_id_stays_as_it_is():
    assert resolve_model("openai/clip-vit-large-patch14") == "openai/clip-vit-large-patch14"


@pytest.mark.parametrize(
    "ref", ["package:schemas/nothing", "package:no_such_package/x", "package:a.b/x", "/no/such/folder", "./gone"]
)
def test_what_is_not_there_is_named(ref):
    with pytest.raises(SurdError, match="model '"):
        resolve_model(ref)
