"""Civitai's answers of four years become records; its key stays secret, and whatever it does, collecting ends."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from surd.pipeline.build.folder import Build
from surd.pipeline.models import Models
from surd.pipeline.sources import open_source
from surd.pipeline.stages.collect import BARREN, END, collect
from surd.schemas import BuildConfig, Reason, SourceRecord, SurdError, to_table
from surd.schemas.config import ModelsConfig

pytest_plugins = ["tests.pipeline.served"]

KEY = "c1v1ta1-s3cr3t-k3y"
IMAGE = {
    "id": 7, "url": "https://image.example/xG1/aa-bb/width=768/7.jpeg", "hash": "U5", "width": 768, "height": 512,
    "nsfwLevel": "None", "nsfw": False, "browsingLevel": 1, "createdAt": "2024-04-04T21:24:07.499Z", "postId": 9,
    "meta": {"seed": 1, "steps": "45", "prompt": "a cat", "negativePrompt": "dog", "cfgScale": 5.5},
    "username": "Ann", "baseModel": "SDXL",
}  # fmt: skip
MODEL = {
    "id": 4384, "name": "Dream", "type": "Checkpoint", "nsfw": False, "allowNoCredit": True,
    "allowCommercialUse": ["Image", "Rent"], "allowDerivatives": True, "allowDifferentLicense": False,
    "creator": {"username": "Lyk"}, "tags": ["anime"],
    "modelVersions": [
        {"id": 128713, "name": "8", "baseModel": "SD 1.5", "images": [
            {"id": 1, "url": "https://image.example/x/width=450/1.jpeg", "nsfw": "None", "meta": {"prompt": "a fox"}},
            {"url": "https://image.example/x/width=450/2.jpeg", "nsfwLevel": 8, "meta": None},
            {"id": 3, "url": "https://image.example/x/width=450/3.mp4", "type": "video", "hasMeta": True},
        ]},
        {"id": 5, "images": None},
    ],
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("CIVITAI_API_KEY", raising=False)


def config_of(server, query: str = "", **fields) -> BuildConfig:
    civitai = {"url": f"{server.url}/api/v1", **fields.pop("civitai", {})}
    return BuildConfig(source=f"civitai:{query}" if query else "civitai", civitai=civitai, **fields)


def run(root: Path, config: BuildConfig) -> list[SourceRecord]:
    return [record for part in collect(Build(str(root)), config, Models(ModelsConfig())) for record in part]


def asked(server) -> list[dict[str, list[str]]]:
    return [parse_qs(urlsplit(path).query) for path in server.requests]


def answer_pages(*documents):
    """Answers the documents in turn, the last one again and again."""
    left = list(documents)

    def answer(request):
        request.send(200, json.dumps(left.pop(0) if len(left) > 1 else left[0]).encode())

    return answer


def images(*numbers: int, **metadata) -> dict:
    return {"items": [IMAGE | {"id": number} for number in numbers], "metadata": metadata}


def test_an_image_carries_prompt_origin_author_level_and_terms(serve, tmp_path):
    (record,) = run(tmp_path, config_of(serve(answer_pages(images(7)))))
    assert (record.source, record.source_id, record.page_url) == ("civitai", "7", "https://civitai.com/images/7")
    assert (record.prompt, record.negative_prompt, record.author) == ("a cat", "dog", "Ann")
    assert (record.nsfw_level, record.created_at) == ("none", "2024-04-04T21:24:07.499Z")
    assert record.terms == "https://civitai.com/content/tos" and record.licence is None
    assert json.loads(record.params) == {"seed": 1, "steps": "45", "cfgScale": 5.5}
    extra = {"postId": 9, "width": 768, "height": 512, "hash": "U5", "baseModel": "SDXL", "browsingLevel": 1}
    assert json.loads(record.extra) == extra


def test_every_image_of_every_version_of_a_model_is_a_record_with_the_models_permissions(serve, tmp_path):
    server = serve(answer_pages({"items": [MODEL, "?"], "metadata": {}}))
    fox, second, video, broken = run(tmp_path, config_of(server, "models?types=Checkpoint"))
    assert (fox.source_id, fox.prompt, fox.author, fox.nsfw_level) == ("1", "a fox", "Lyk", "none")
    assert fox.terms.startswith("https://civitai.com/content/tos; model 4384: allowNoCredit=true")
    assert 'allowCommercialUse=["Image","Rent"]' in fox.terms and "allowDifferentLicense=false" in fox.terms
    assert json.loads(fox.extra)["modelVersionId"] == 128713 and json.loads(fox.extra)["baseModel"] == "SD 1.5"
    assert (second.source_id, second.nsfw_level, second.prompt) == ("2", "8", None)
    assert video.reason is Reason.NO_IMAGE and video.detail == "a video"
    assert broken.reason is Reason.NO_IMAGE and "str, not an object" in broken.detail
    assert urlsplit(server.requests[0]).path == "/api/v1/models"
    assert asked(server)[0] == {"types": ["Checkpoint"], "limit": ["100"]}


def test_models_without_any_prompt_are_warned_of(serve, tmp_path, caplog):
    bare = copy.deepcopy(MODEL)
    bare["modelVersions"][0]["images"] = [{"id": 1, "url": "https://image.example/1.jpeg", "hasMeta": True}]
    run(tmp_path, config_of(serve(answer_pages({"items": [bare]})), "models"))
    assert "has had no prompts since 2024" in caplog.text and "modelId" in caplog.text


def test_filters_go_with_every_page_and_an_opaque_cursor_with_those_after_the_first(serve, tmp_path):
    server = serve(answer_pages(images(1, nextCursor="feed:17:9|x"), images(nextCursor=101), images(2)))
    query = "?sort=Newest&period=Week&nsfw=None&modelId=5&tags=1&tags=2"
    assert [record.source_id for record in run(tmp_path, config_of(server, query))] == ["1", "2"]
    filters = {"sort": ["Newest"], "period": ["Week"], "nsfw": ["None"], "modelId": ["5"], "tags": ["1", "2"]}
    always = filters | {"limit": ["100"], "withMeta": ["true"]}
    assert asked(server) == [always, always | {"cursor": ["feed:17:9|x"]}, always | {"cursor": ["101"]}]


def test_the_page_numbers_of_2023_are_followed_where_there_is_no_cursor(serve, tmp_path):
    def next_page(number):
        return f"https://civitai.com/api/v1/images?page={number}&token=theirs"

    server = serve(answer_pages(images(1, nextPage=next_page(2)), images(2, nextPage=next_page(3)), images(3)))
    assert [record.source_id for record in run(tmp_path, config_of(server))] == ["1", "2", "3"]
    assert [query.get("page") for query in asked(server)] == [None, ["2"], ["3"]]
    assert not any("token" in path for path in server.requests)


def test_a_cursor_in_next_page_alone_is_followed(serve, tmp_path):
    link = "https://civitai.com/api/v1/images?limit=1&cursor=1%7C17"
    server = serve(answer_pages(images(1, nextPage=link), images(2)))
    assert len(run(tmp_path, config_of(server, "?page=1"))) == 2
    assert asked(server)[1]["cursor"] == ["1|17"] and "page" not in asked(server)[1]


def test_a_cursor_that_is_not_text_ends_the_pages_with_a_warning(serve, tmp_path, caplog):
    server = serve(answer_pages(images(1, nextCursor={"id": 7})))
    assert len(run(tmp_path, config_of(server))) == 1 == len(server.requests)
    assert "the next cursor is a dict" in caplog.text


def test_every_way_of_going_in_a_circle_ends_and_is_recorded(serve, tmp_path, caplog):
    numbers = iter(range(10_000))

    def fresh_cursor(request):
        request.send(200, json.dumps(images(1, 2, nextCursor=f"c{next(numbers)}")).encode())

    ways = {
        "same cursor": (answer_pages(images(1, 2, nextCursor="a")), 2, "the cursor 'a' came twice"),
        "new cursors": (fresh_cursor, BARREN + 1, f"{BARREN} pages in a row held nothing new"),
        "same page": (answer_pages(images(1, 2, nextPage="https://civitai.com/api/v1/images?page=2")), 2, ""),
    }
    for way, (answer, requests, why) in ways.items():
        server = serve(answer)
        assert len(run(tmp_path / way, config_of(server))) == 2
        assert len(server.requests) == requests
        end = json.loads((tmp_path / way / END).read_text())
        assert end["records"] == 2 and end["pages"] == requests and why in end["ended"]
        assert end["repeated"] == 2 * (requests - 1)
    assert caplog.text.count("circle") == 3


def test_the_key_goes_out_in_a_header_and_is_written_nowhere(serve, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("CIVITAI_API_KEY", f" {KEY}\n")
    caplog.set_level("DEBUG")
    caplog.set_level("DEBUG", "httpx")  # a build in this process makes it quieter
    server = serve(answer_pages(images(1, nextCursor="x"), {"items": [IMAGE], "metadata": {}}))
    config = config_of(server, partition_size=1)
    records = run(tmp_path, config)
    assert {headers["Authorization"] for headers in server.headers_seen} == {f"Bearer {KEY}"}
    assert not any(KEY in path for path in server.requests)
    with open_source(config) as source:
        assert KEY not in source.fingerprint() and KEY not in source.name
    assert KEY not in repr(records) + config.model_dump_json() + caplog.text
    assert not any(KEY.encode() in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_a_key_is_not_carried_to_another_host(serve, tmp_path, monkeypatch):
    monkeypatch.setenv("CIVITAI_API_KEY", KEY)
    other = serve(answer_pages(images(1)))
    server = serve(lambda request: request.send(302, Location=f"{other.url}/api/v1/images"))
    run(tmp_path, config_of(server, fetch={"allow_hosts": ["127.0.0.1"]}))
    assert "Authorization" in server.headers_seen[0] and "Authorization" not in other.headers_seen[0]


def test_a_key_in_the_source_or_sent_in_the_clear_is_refused_without_showing_it(monkeypatch):
    for name in ("token", "api_key", "KEY"):
        with pytest.raises(SurdError, match="CIVITAI_API_KEY") as raised:
            open_source(BuildConfig(source=f"civitai:?sort=Newest&{name}={KEY}"))
        assert KEY not in str(raised.value)
    monkeypatch.setenv("CIVITAI_API_KEY", KEY)
    with pytest.raises(SurdError, match=r"'civitai\.url'.*in the clear") as raised:
        open_source(BuildConfig(source="civitai", civitai={"url": "http://mirror.example/api/v1"}))
    assert KEY not in str(raised.value)


@pytest.mark.parametrize("key", ["schlüssel", "two words", "line\nbreak"])
def test_a_key_that_no_header_can_carry_is_one_sentence(monkeypatch, key):
    monkeypatch.setenv("CIVITAI_API_KEY", key)
    with pytest.raises(SurdError, match="CIVITAI_API_KEY holds characters that an API key cannot have") as raised:
        open_source(BuildConfig(source="civitai"))
    assert key not in str(raised.value)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("key", [KEY, ""])
def test_an_expired_key_is_one_sentence_and_what_was_got_is_kept(serve, tmp_path, monkeypatch, status, key):
    monkeypatch.setenv("CIVITAI_API_KEY", key)
    valid = False

    def answer(request):
        if "cursor" in request.path and not valid:
            request.send(status, b'{"error": "Unauthorized"}')
        else:
            request.send(200, json.dumps(images(2) if "cursor" in request.path else images(1, nextCursor="x")).encode())

    server = serve(answer)
    with pytest.raises(SurdError, match=f"CIVITAI_API_KEY.*the 1 records so far are kept|HTTP {status}") as raised:
        run(tmp_path, config_of(server))
    message = str(raised.value)
    assert ("rejected the API key" if key else "requires an API key") in message and "the 1 records so far" in message
    assert "\n" not in message and (not key or key not in message) and len(server.requests) == 2
    valid = True
    assert [record.source_id for record in run(tmp_path, config_of(server))] == ["1", "2"]
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"<!DOCTYPE html><title>Just a moment...</title>", "the answer is not JSON"),
        (b'{"images": []}', "lists no items"),
        (b'{"items": {"1": {}}}', "lists no items"),
        (b"[1, 2]", "lists no items"),
        (b"null", "lists no items"),
    ],
)
def test_html_and_a_changed_shape_end_in_one_sentence_after_what_was_got(serve, tmp_path, no_waiting, body, sentence):
    def answer(request):
        request.send(200, body if "cursor" in request.path else json.dumps(images(1, nextCursor="x")).encode())

    with pytest.raises(SurdError, match=sentence) as raised:
        run(tmp_path, config_of(serve(answer), collect={"retries": 1}))
    assert "the 1 records so far are kept" in str(raised.value) and "\n" not in str(raised.value)


def test_a_busy_api_is_asked_again_after_the_seconds_it_names(serve, tmp_path):
    def answer(request):
        if len(server.requests) == 1:
            request.send(503, Retry_After="1")
        else:
            request.send(200, json.dumps(images(1)).encode())

    server = serve(answer)
    assert len(run(tmp_path, config_of(server))) == 1 and len(server.requests) == 2


def test_the_original_file_is_asked_for_where_config_says_so(serve, tmp_path):
    server = serve(answer_pages(images(7)))
    (record,) = run(tmp_path, config_of(server, civitai={"original": True}))
    assert record.url == "https://image.example/xG1/aa-bb/original=true/7.jpeg"


@pytest.mark.parametrize("source", ["civitai:", "civitai:posts", "civitai:images/7?x", "civit"])
def test_an_endpoint_that_is_not_known_is_refused(source):
    with pytest.raises(SurdError, match="config field 'source'"):
        open_source(BuildConfig(source=source))


def test_other_filters_are_another_source_and_their_order_is_not(serve):
    marks = [
        open_source(BuildConfig(source=f"civitai:{query}")).fingerprint()
        for query in (
            "?sort=Newest&nsfw=None",
            "?nsfw=None&sort=Newest",
            "models?sort=Newest&nsfw=None",
            "?sort=Oldest",
        )
    ]
    assert marks[0] == marks[1] and len(set(marks)) == 3


def test_the_real_images_answers_of_2023_to_2025_give_prompts_authors_and_terms(samples, serve, tmp_path):
    for name in sorted((samples / "api").glob("civitai_v1_images_*.json")):
        document = json.loads(name.read_text()) | {"metadata": {}}
        (record,) = run(tmp_path / name.stem, config_of(serve(answer_pages(document))))
        assert record.kept and record.prompt
        assert record.author and record.terms and record.page_url and record.created_at
        assert record.nsfw_level in ("none", "true")


def test_the_real_models_answers_of_2023_give_every_image_of_three_pages(samples, serve, tmp_path):
    pages = [json.loads(path.read_text()) for path in sorted((samples / "api").glob("civitai_v1_models_2023*.json"))]
    server = serve(answer_pages(*pages, {"items": [], "metadata": {}}))
    records = run(tmp_path, config_of(server, "models"))
    versions = [version for page in pages for model in page["items"] for version in model["modelVersions"]]
    shown = [image for version in versions for image in version["images"]]
    assert len(records) == len(shown) == 1872
    films = [str(image["id"]) for image in shown if image["type"] == "video"]
    assert [record.source_id for record in records if not record.kept] == films
    with_meta = [image for image in shown if (image["meta"] or {}).get("prompt")]
    assert sum(record.prompt is not None for record in records) == len(with_meta) > 1500
    assert all(record.author and "allowCommercialUse" in record.terms and record.nsfw_level for record in records)
    assert [query.get("page") for query in asked(server)] == [None, ["2"], ["3"], ["4"]]


names = st.sampled_from([*MODEL, *IMAGE, "images"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(json_values, st.sampled_from(["images", "models"]))
def test_no_answer_crashes_and_every_record_can_be_stored(value, kind):
    source = open_source(BuildConfig(source=f"civitai:{kind}"))
    wrapped = {"modelVersions": [{"images": [value, IMAGE | {"meta": value}]}], "creator": value, "nsfw": value}
    records = [*source._records([value, wrapped, MODEL | {"id": value, "modelVersions": value}])]
    assert to_table(SourceRecord, records).num_rows == len(records)
