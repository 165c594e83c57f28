"""What galleries and folders say becomes source records, whatever its shape."""

from __future__ import annotations

import json
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from surd.pipeline.sources import Page, open_source
from surd.pipeline.sources.gallery import Gallery
from surd.schemas import BuildConfig, Reason, SourceRecord, SurdError, to_table

pytest_plugins = ["tests.pipeline.served"]

API = "https://gallery.example/api/v1/images"


def gallery_of(url: str = API, **fields) -> Gallery:
    source = open_source(BuildConfig(source=f"gallery:{url}", **fields))
    assert isinstance(source, Gallery)
    return source


def record_of(item: object) -> SourceRecord:
    return gallery_of()._record(item)


def first_page(server, **fields) -> Page:
    with gallery_of(f"{server.url}/api/v1/images", **fields) as source:
        return source.page(None)


def answer_with(document: object):
    return lambda request: request.send(200, json.dumps(document).encode())


@pytest.mark.parametrize(
    "source",
    [
        "",
        "gallery",
        "gallery:",
        "ftp://x",
        "folder:",
        "galery:http://x",
        "gallery:x.org",
        "folder",
        "demo:3",
        "urls:",
        "img2dataset",
    ],
)
def test_a_source_that_is_no_source_is_refused_in_one_sentence(source):
    with pytest.raises(SurdError, match="config field 'source'"):
        open_source(BuildConfig(source=source))


@pytest.mark.parametrize("url", ["http://[::1", "http://host:port/", "file:///etc/passwd", "http:///path"])
def test_a_gallery_needs_an_http_address(url):
    with pytest.raises(SurdError, match="http"):
        gallery_of(url)


def test_real_civitai_answers_of_three_years_give_prompts_authors_and_levels(samples, serve):
    answers = {name.stem: json.loads(name.read_text()) for name in (samples / "api").glob("civitai_v1_images_*.json")}
    assert len(answers) == 4
    cursors, levels = {}, {}
    for name, document in answers.items():
        page = first_page(serve(answer_with(document)))
        (record,) = page.records
        assert record.kept, record.detail
        assert record.prompt and record.author and record.created_at and record.url.startswith("https://")
        assert json.loads(record.params)["seed"] == document["items"][0]["meta"]["seed"]
        assert "prompt" not in json.loads(record.params)
        cursors[name], levels[name] = page.next_cursor, record.nsfw_level
    assert set(cursors.values()) == {None, "101", "1|1712265847499", "1|1740756600000"}
    assert sorted(levels.values()) == ["none", "none", "none", "true"]


def test_the_same_filters_and_an_encoded_cursor_go_with_every_request(serve):
    server = serve(answer_with({"items": [], "metadata": {"nextCursor": 'feed:17|"a'}}))
    with gallery_of(f"{server.url}/api/v1/images?sort=Newest&tags=1&tags=2&limit=7") as source:
        page = source.page(None)
        assert source.page(page.next_cursor).records == []
    first, second = (parse_qs(urlsplit(path).query) for path in server.requests)
    assert second == {**first, "cursor": ['feed:17|"a']}
    assert first == {"sort": ["Newest"], "tags": ["1", "2"], "limit": ["7"], "withMeta": ["true"]}
    assert "surd" in server.headers_seen[0]["User-Agent"]


def test_a_key_in_a_gallerys_address_is_sent_and_written_nowhere(serve, no_waiting, caplog):
    caplog.set_level("DEBUG")
    caplog.set_level("DEBUG", "httpx")  # a build in this process makes it quieter
    server = serve(answer_with({"items": [{"id": 1, "url": "/1.png"}, {}]}))
    address = f"{server.url.replace('//', '//ann:pw@')}/api/v1/images?sort=New&token=s3cret&api_key=s3cret"
    with gallery_of(address) as source:
        records = source.page(None).records
        assert source.name == f"gallery:{server.url}/api/v1/images?sort=New"
        assert "s3cret" not in source.fingerprint() + repr(records) and ":pw" not in source.fingerprint() + repr(
            records
        )
    assert "token=s3cret" in server.requests[0] and "api_key=s3cret" in server.requests[0]
    failing = serve(lambda request: request.send(500))
    with pytest.raises(SurdError) as raised:
        first_page_of(f"{failing.url.replace('//', '//ann:pw@')}/api?key=s3cret")
    assert "s3cret" not in str(raised.value) and ":pw" not in str(raised.value)
    with pytest.raises(SurdError), open_source(BuildConfig(source=f"urls:{failing.url}/l.csv?sig=s3cret")) as listed:
        listed.page(None)
    of_ours = [entry.getMessage() for entry in caplog.records if not entry.name.startswith(("httpcore", "hpack"))]
    assert (
        any("/api" in line for line in of_ours) and "s3cret" not in "".join(of_ours) and ":pw" not in "".join(of_ours)
    )


def first_page_of(url: str) -> Page:
    with gallery_of(url, collect={"retries": 0}) as source:
        return source.page(None)


def test_a_gallery_is_not_asked_for_more_than_the_limit(serve):
    server = serve(answer_with({"items": []}))
    first_page(server, limit=3)
    assert parse_qs(urlsplit(server.requests[0]).query)["limit"] == ["3"]


def test_an_image_on_the_gallerys_own_host_is_recorded_without_it():
    source = gallery_of()
    for url in ("https://gallery.example/images/12.png?w=1#x", "/images/12.png?w=1", "../../images/12.png?w=1"):
        record = source._record({"id": 12, "url": url})
        assert record.url == "/images/12.png?w=1"
        assert source.location(record.url) == "https://gallery.example/images/12.png?w=1"
    for url in ("https://elsewhere.example/1.png", "http://gallery.example/1.png", "https://gallery.example//x/1.png"):
        record = source._record({"id": 12, "url": url})
        assert source.location(record.url) == url == record.url


@pytest.mark.parametrize(
    ("item", "detail"),
    [
        ({"id": 1}, "no url"),
        ({"id": 1, "url": None}, "no url"),
        ({"id": 1, "url": 7}, "no url"),
        ({"id": 1, "url": "file:///etc/passwd"}, "not an http"),
        ({"id": 1, "url": "data:image/png;base64,AA"}, "not an http"),
        ({"id": 1, "url": "http://[broken"}, "not an http"),
        ({}, "neither id nor url"),
        ("text", "str, not an object"),
        (None, "NoneType, not an object"),
    ],
)
def test_an_item_without_an_image_is_a_row_with_a_reason(item, detail):
    record = record_of(item)
    assert record.reason is Reason.NO_IMAGE and record.rejected_by == "collect" and detail in record.detail


@pytest.mark.parametrize(
    ("meta", "prompt", "negative"),
    [
        (None, None, None),
        ([], None, None),
        ("no JSON, no parameters", None, None),
        ({"prompt": 5}, "5", None),
        ({"prompt": ["a"]}, None, None),
        ({"prompt": "a cat \ud800", "negativePrompt": "dog"}, "a cat ?", "dog"),
        ({"meta": {"prompt": "inner"}, "id": 3}, "inner", None),
        ('{"prompt": "in JSON"}', "in JSON", None),
        ("a fox\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a", "a fox", "blurry"),
        ({"comfy": '{"prompt": {}, "workflow": undefined}'}, None, None),
        ({"comfy": json.dumps({"prompt": {
            "1": {"class_type": "KSampler", "inputs": {"seed": 1, "positive": ["2", 0], "negative": ["3", 0]}},
            "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a boat"}},
            "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "water"}},
        }})}, "a boat", "water"),
    ],
)  # fmt: skip
def test_meta_is_read_in_every_shape_it_comes_in(meta, prompt, negative):
    record = record_of({"id": 1, "url": "/1.png", "meta": meta})
    assert record.kept and (record.prompt, record.negative_prompt) == (prompt, negative)


@pytest.mark.parametrize(
    ("item", "level"),
    [
        ({"nsfwLevel": "Soft", "nsfw": True}, "soft"),
        ({"nsfwLevel": 4}, "4"),
        ({"nsfw": True}, "true"),
        ({"nsfw": False}, "false"),
        ({"nsfwLevel": {}}, None),
        ({}, None),
    ],
)
def test_the_level_is_the_sites_own_as_text(item, level):
    assert record_of({"id": 1, "url": "/1.png", **item}).nsfw_level == level


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["prompt", "meta", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
items = st.dictionaries(
    st.sampled_from(["id", "url", "meta", "username", "user", "nsfwLevel", "createdAt", "license"]), json_values
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(items | json_values)
def test_no_item_crashes_and_every_record_can_be_stored(item):
    record = record_of(item)
    assert to_table(SourceRecord, [record]).num_rows == 1
    assert record.kept == bool(record.url)


def test_an_answer_without_items_is_the_users_to_mend(serve):
    with pytest.raises(SurdError, match="lists no items"):
        first_page(serve(answer_with({"models": []})))


@pytest.mark.parametrize("what", ["500", "html", "hang up", "404"])
def test_a_gallery_that_fails_for_good_is_one_sentence_after_its_retries(what, serve, no_waiting):
    def answer(request):
        match what:
            case "500" | "404":
                request.send(int(what))
            case "html":
                request.send(200, b"<html>Just a moment...</html>", "text/html")
            case "hang up":
                request.hang_up()

    server = serve(answer)
    with pytest.raises(SurdError) as raised:
        first_page(server, collect={"retries": 2})
    assert server.url in str(raised.value) and "\n" not in str(raised.value)
    assert len(server.requests) == (1 if what == "404" else 3)


def test_a_busy_gallery_is_asked_again_after_the_time_it_names(serve):
    def answer(request):
        if len(server.requests) == 1:
            request.send(503, Retry_After="1")
        else:
            request.send(200, b'{"items": [{"id": 1, "url": "/a.png"}]}')

    server = serve(answer)
    started = time.monotonic()
    assert len(first_page(server).records) == 1
    assert 1 <= time.monotonic() - started < 4 and len(server.requests) == 2


def test_the_demo_is_a_gallery_that_lives_only_while_it_is_used_whatever_proxy_is_set(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    config = BuildConfig(source="demo", demo={"count": 5}, collect={"page_size": 3, "retries": 0})
    places, records = [], []
    for _ in range(2):
        with open_source(config) as source:
            first = source.page(None)
            records.append([*first.records, *source.page(first.next_cursor).records])
            places.append(source.location(records[-1][0].url))
            assert httpx.get(places[-1], trust_env=False).status_code == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(places[-1], trust_env=False)
    assert places[0] != places[1] and records[0] == records[1]
    assert len(records[0]) == 5 and all(record.url.startswith("/") for record in records[0])


def test_another_demo_world_is_another_source():
    worlds = [
        BuildConfig(source="demo"),
        BuildConfig(source="demo", seed=1),
        BuildConfig(source="demo", demo={"count": 1}),
    ]
    assert len({open_source(config).fingerprint() for config in worlds}) == 3


def folder_records(path: Path) -> list[SourceRecord]:
    with open_source(BuildConfig(source=f"folder:{path}")) as source:
        return source.page(None).records


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_every_file_of_a_folder_is_a_record_in_path_order_but_hidden_ones_and_sidecars(tmp_path):
    write(tmp_path, b_png="", sub__a_webp="", notes_txt="", a_JPG="", a_txt="caption", b_json="{}")
    (tmp_path / ".hidden.png").touch()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.png").touch()
    assert [record.source_id for record in folder_records(tmp_path)] == ["a.JPG", "b.png", "notes.txt", "sub/a.webp"]


def test_a_folder_is_named_by_its_last_part_so_a_build_may_move(tmp_path):
    records = []
    for home in ("here", "there"):
        write(tmp_path / home / "photos", a_png="")
        records += folder_records(tmp_path / home / "photos")
    assert records[0] == records[1]
    assert records[0].source == "folder:photos" and records[0].url == "a.png"


def test_pairs_jsonl_gives_prompts_and_bad_lines_become_rows(tmp_path):
    write(tmp_path, a_png="", b_png="", c_png="")
    outside = tmp_path.parent / "outside.png"
    outside.touch()
    (tmp_path / "link.png").symlink_to(outside)
    lines = [
        '{"image": "b.png", "prompt": "a cat", "negative_prompt": "dog", "licence": "MIT", "attribution": "Ann", '
        '"params": {"steps": 3}, "terms": "ask first"}',
        "",
        '{"image": "./a.png", "prompt": null}',
        '{"image": "../outside.png", "prompt": "x"}',
        json.dumps({"image": str(outside), "prompt": "x"}),
        '{"image": "link.png", "prompt": "x"}',
        '{"image": "gone.png", "prompt": "x"}',
        '{"prompt": "no image"}',
        "[1]",
        '{"broken',
    ]
    (tmp_path / "pairs.jsonl").write_bytes("\n".join(lines).encode() + b'\n{"image": "\xff.png"}\n')
    records = {record.source_id: record for record in folder_records(tmp_path)}
    assert len(records) == 11
    cat = records["b.png"]
    assert (cat.prompt, cat.negative_prompt, cat.licence, cat.author) == ("a cat", "dog", "MIT", "Ann")
    assert json.loads(cat.params) == {"steps": 3} and cat.terms == "ask first"
    assert {name for name, record in records.items() if record.kept} == {"a.png", "b.png", "c.png"}
    rejected = {name: record.detail for name, record in records.items() if not record.kept}
    assert all(record.reason is Reason.NO_IMAGE for record in records.values() if not record.kept)
    assert all("leaves the folder" in rejected[name] for name in ("../outside.png", str(outside), "link.png"))
    assert "no such file" in rejected["gone.png"]
    assert "line 8" in rejected["pairs.jsonl:8"] and "line 10" in rejected["pairs.jsonl:10"]
    assert "not JSON" in rejected["pairs.jsonl:11"]


def test_a_folder_never_gives_a_path_outside_itself(tmp_path):
    source = open_source(BuildConfig(source=f"folder:{tmp_path}"))
    for url in ("../x", "/etc/passwd", "a/../../x"):
        with pytest.raises(ValueError, match="leaves the folder"):
            source.location(url)


def test_a_folder_of_more_than_a_page_is_paged_whole(tmp_path):
    for number in range(1001):
        (tmp_path / f"{number:04d}.png").touch()
    source = open_source(BuildConfig(source=f"folder:{tmp_path}"))
    first = source.page(None)
    second = source.page(first.next_cursor)
    assert len(first.records) == 1000 and [r.source_id for r in second.records] == ["1000.png"]
    assert second.next_cursor is None


def test_a_missing_and_an_empty_folder_are_the_users_to_mend(tmp_path):
    with pytest.raises(SurdError, match="no folder is there"):
        open_source(BuildConfig(source=f"folder:{tmp_path / 'gone'}"))
    with pytest.raises(SurdError, match="is empty"):
        folder_records(tmp_path)


def test_a_changed_file_changes_the_folders_fingerprint_and_an_untouched_folder_keeps_it(tmp_path):
    write(tmp_path, a_png="1")
    before = open_source(BuildConfig(source=f"folder:{tmp_path}")).fingerprint()
    assert open_source(BuildConfig(source=f"folder:{tmp_path}")).fingerprint() == before
    write(tmp_path, a_png="12")
    assert open_source(BuildConfig(source=f"folder:{tmp_path}")).fingerprint() != before
