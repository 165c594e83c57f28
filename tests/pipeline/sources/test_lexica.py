"""Lexica's documented answer and its paged one become records."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from surd.pipeline.build.folder import Build
from surd.pipeline.models import Models
from surd.pipeline.sources import open_source
from surd.pipeline.stages.collect import collect
from surd.schemas import BuildConfig, Reason, SourceRecord, SurdError, to_table
from surd.schemas.config import ModelsConfig

pytest_plugins = ["tests.pipeline.served"]

SEARCH = {
    "id": "0482ee68", "gallery": "https://lexica.art?q=0482ee68", "src": "https://image.lexica.art/md/0482ee68",
    "srcSmall": "https://image.lexica.art/sm/0482ee68", "prompt": "cute fruits ", "width": 512, "height": 512,
    "seed": "1413536227", "grid": False, "model": "stable-diffusion", "guidance": 7, "promptid": "d98", "nsfw": False,
}  # fmt: skip
PROMPT = {
    "id": "p1", "prompt": "a castle", "negativePrompt": "fog", "timestamp": "2023-05-01T10:00:00.000Z", "grid": False,
    "seed": "5", "c": 7, "model": "lexica-aperture-v2", "width": 640, "height": 1024, "initImage": None,
    "initImageStrength": None, "is_private": False, "cleanedPrompt": None, "images": [],
}  # fmt: skip
PAINTED = {"id": "i1", "promptid": "p1", "width": 640, "height": 1024, "userid": "u7", "model_mode": None}


def config_of(server, words: str = "red apples", **lexica) -> BuildConfig:
    return BuildConfig(source=f"lexica:{words}", lexica={"url": f"{server.url}/api", **lexica}, collect={"retries": 0})


def run(root: Path, config: BuildConfig) -> list[SourceRecord]:
    return [record for part in collect(Build(str(root)), config, Models(ModelsConfig())) for record in part]


def test_a_search_is_one_page_with_prompt_parameters_and_terms(serve, tmp_path):
    server = serve(lambda request: request.send(200, json.dumps({"images": [SEARCH]}).encode()))
    (record,) = run(tmp_path, config_of(server))
    assert (record.source, record.source_id, record.prompt) == ("lexica", "0482ee68", "cute fruits ")
    assert (record.url, record.page_url) == (SEARCH["src"], SEARCH["gallery"])
    assert record.terms == "https://lexica.art/terms" and record.nsfw_level == "false"
    assert json.loads(record.params)["seed"] == "1413536227" and json.loads(record.params)["grid"] is False
    (path,) = server.requests
    assert urlsplit(path).path == "/api/v1/search" and parse_qs(urlsplit(path).query) == {"q": ["red apples"]}


def test_the_endless_list_is_paged_and_each_image_finds_its_prompt(serve, tmp_path):
    hidden = [PROMPT | {"id": "p2", "is_private": True}]
    first = {
        "prompts": [PROMPT, *hidden],
        "images": [PAINTED, PAINTED | {"id": "i2", "promptid": "p2"}],
        "nextCursor": 50,
    }
    second = {"prompts": [], "images": [PAINTED | {"id": "i3", "promptid": "gone"}], "nextCursor": None}
    asked = []

    def answer(request):
        asked.append(json.loads(request.body))
        request.send(200, json.dumps(second if asked[-1]["cursor"] else first).encode())

    painted, private, bare = run(tmp_path, config_of(serve(answer), endless=True))
    assert (painted.prompt, painted.negative_prompt, painted.author) == ("a castle", "fog", "u7")
    assert painted.url == "https://image.lexica.art/full_jpg/i1" and painted.created_at.startswith("2023-05-01")
    assert private.reason is Reason.OPTED_OUT and private.url is None
    assert bare.kept and bare.prompt is None
    assert [body["cursor"] for body in asked] == [0, 50] and {body["text"] for body in asked} == {"red apples"}


def test_the_documented_sample_is_read(samples, serve, tmp_path):
    sample = (samples / "api" / "lexica_v1_search_official-doc-sample.json").read_bytes()
    (record,) = run(tmp_path, config_of(serve(lambda request: request.send(200, sample))))
    assert record.kept and record.prompt.startswith("cute chubby blue fruits") and record.page_url


def test_every_name_of_the_paged_answer_is_known(samples):
    schema = json.loads((samples / "api" / "lexica_infinite-prompts_schema.json").read_text())
    assert {*PROMPT} == {*schema["prompts"][0]} and {*PAINTED} <= {*schema["images"][0]}


@pytest.mark.parametrize("body", [b"<html>", b'{"items": []}', b"[]", b'{"images": {}}'])
def test_another_shape_is_one_sentence(serve, tmp_path, body):
    with pytest.raises(SurdError, match="Lexica") as raised:
        run(tmp_path, config_of(serve(lambda request: request.send(200, body))))
    assert "\n" not in str(raised.value)


def test_words_are_needed_and_other_words_are_another_source():
    with pytest.raises(SurdError, match="config field 'source'"):
        open_source(BuildConfig(source="lexica"))
    assert len({open_source(BuildConfig(source=f"lexica:{words}")).fingerprint() for words in ("a", "b")}) == 2


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from([*SEARCH, *PROMPT]), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values, values)
def test_no_image_crashes_and_every_record_can_be_stored(image, prompt):
    source = open_source(BuildConfig(source="lexica:x"))
    changed = [image, SEARCH | {"src": image}, SEARCH | {"id": image}, PAINTED | {"promptid": "p"}]
    records = [source._image(one, {"p": prompt if isinstance(prompt, dict) else {}}) for one in changed]
    assert to_table(SourceRecord, records).num_rows == 4
