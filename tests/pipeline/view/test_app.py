"""The viewer's answers: who may ask, which pictures are sent, and what its views say."""

from __future__ import annotations

import io
import json
import shutil
import struct
from pathlib import Path

import fsspec
import pytest
from httpx import Response
from PIL import Image
from starlette.testclient import TestClient

from surd.pipeline.build.folder import Build
from surd.pipeline.build.scratch import temporary
from surd.pipeline.decisions import append, read
from surd.pipeline.decisions.in_force import in_force, latest_keeps
from surd.pipeline.selection.choose import choose
from surd.pipeline.view.clusters import KINDS
from surd.pipeline.view.serve import viewer
from surd.schemas import Decision, Deduped, Reason, Safe, Selected, SurdError
from surd.schemas.config import SelectConfig
from surd.schemas.decision import DecisionVerdict
from tests.bench.view_build import write_view_build
from tests.pipeline.view.conftest import HOST, client_of


@pytest.fixture
def own(built: Build, tmp_path: Path) -> Build:
    """A copy of the build that a test may change."""
    shutil.copytree(built.root, tmp_path / "own")
    return Build(str(tmp_path / "own"))


def keys(client: TestClient, query: str) -> list[str]:
    return [card["key"] for card in client.get("api/page", params={"q": query, "count": 200}).json()["cards"]]


def test_only_this_machines_browser_that_knows_the_path_is_answered(client: TestClient) -> None:
    assert client.get("").status_code == 200
    assert client.get(f"http://{HOST}/api/page").status_code == 404
    assert client.get(f"http://{HOST}/wrong/api/page").status_code == 404
    assert client.get("api/page", headers={"Host": "evil.example"}).status_code == 404, "a name pointed at 127.0.0.1"
    post = {"content": "{}", "headers": {"Content-Type": "application/json", "Origin": "http://evil.example"}}
    assert client.post("api/decide", **post).status_code == 404
    plain = client.post("api/decide", content="{}", headers={"Content-Type": "text/plain"})
    assert plain.status_code == 400, "a form elsewhere could send it"


def test_every_answer_forbids_what_is_not_of_this_server(client: TestClient) -> None:
    for path in (
        "",
        "main.js",
        "view.css",
        "report.css",
        "api/page",
        "thumbnail/0",
        f"picture/{keys(client, 'status:kept')[0]}",
    ):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';"), path
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
        assert "access-control-allow-origin" not in headers
    assert client.get("../report/templates/report.js.jinja").status_code == 404
    assert client.get("%2e%2e/app.py").status_code == 404


def test_pictures_come_as_stored_or_small_and_are_cached(client: TestClient) -> None:
    key = keys(client, "status:kept")[0]
    picture, small = client.get(f"picture/{key}"), client.get(f"thumbnail/{key}")
    assert (picture.headers["content-type"], small.headers["content-type"]) == ("image/jpeg", "image/webp")
    assert Image.open(io.BytesIO(picture.content)).size == (192, 192)
    assert max(Image.open(io.BytesIO(small.content)).size) <= 256
    again = client.get(f"thumbnail/{key}", headers={"If-None-Match": small.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(f"picture/{keys(client, 'picture:no')[0]}").status_code == 404


def test_a_veiled_picture_is_not_sent_until_asked_for(own: Build) -> None:
    rows, duplicates = own.read_rows("safety", 0, Safe), own.read_rows("dedup", 0, Deduped)
    unsafe = next(at for at, row in enumerate(rows) if row.kept)
    rows[unsafe] = rows[unsafe].model_copy(update={"nsfw_image": 0.95})
    copy = next(at for at, row in enumerate(duplicates) if row.kept and at != unsafe)
    duplicates[copy] = duplicates[copy].model_copy(update={"cluster": rows[unsafe].key})
    own.write_rows("safety", 0, Safe, rows)
    own.write_rows("dedup", 0, Deduped, duplicates)
    client = client_of(own)
    for key in (rows[unsafe].key, rows[copy].key, *keys(client, "reason:nsfw picture:yes")):
        assert client.get("api/cards", params={"keys": key}).json()[0]["veiled"], "also a copy of such a picture"
        for what in ("thumbnail", "picture"):
            assert client.get(f"{what}/{key}").status_code == 404
            shown = client.get(f"{what}/{key}?unveil=yes")
            assert (shown.status_code, shown.headers["cache-control"]) == (200, "no-store")


def test_decisions_are_written_seen_by_searches_and_taken_back(own: Build) -> None:
    client = client_of(own)
    first, second = keys(client, "status:kept")[:2]

    def decide(**given: object) -> dict:
        return client.post("api/decide", json=given).json()

    assert decide(key=first, verdict="approve")["decisions"] == 1
    assert decide(key=first, verdict="reject", reason="watermark")["decision"]["reason"] == "watermark"
    assert decide(key=second, verdict="edit", simple="A better sentence.")["decisions"] == 2
    assert keys(client, "decision:reject decided:water") == [first] and keys(client, "edited:better") == [second]
    assert client.get("api/facets").json()["decision"] == [["edit", 1], ["reject", 1]]
    assert client.get("api/record", params={"key": second}).json()["decision"]["simple"] == "A better sentence."
    assert decide(undo=True)["key"] == second and decide(undo=True)["decision"]["verdict"] == "approve"
    assert {key: one.verdict.value for key, one in read(own).items()} == {first: "approve"}, (
        "as the next run reads them"
    )
    assert keys(client_of(own), "decision:approve") == [first]
    assert decide(undo=True)["decision"] is None and decide(undo=True)["key"] is None
    assert len(own.read_bytes("decisions.jsonl").splitlines()) == 7, "nothing is taken out of the file"


def test_an_undo_gives_back_what_held_and_changes_nothing_that_others_decided(own: Build) -> None:
    client = client_of(own)
    first, second, third = keys(client, "status:kept")[:3]

    def decide(key: str | None = None, verdict: str | None = None, **more: object) -> Response:
        given = {"key": key, "verdict": verdict} if key else {}
        return client.post("api/decide", json={**given, **more})

    decide(first, "keep")
    append(own, Decision(key=second, verdict=DecisionVerdict.KEEP))  # elsewhere
    decide(first, "edit", simple="A better sentence.")
    decide(first, "reject", reason="watermark")
    decide(undo=True)
    assert latest_keeps(in_force(own)) == [second, first], "in the order in which they were decided"
    assert in_force(own)[first].verdicts == ["keep", "edit"]
    decide(third, "approve")
    append(own, Decision(key=third, verdict=DecisionVerdict.REJECT, reason="blurred"))  # elsewhere
    refused = decide(undo=True)
    assert refused.status_code == 400 and "elsewhere" in refused.json()["error"]
    assert in_force(own)[third].verdicts == ["reject"]
    assert in_force(own)[first].verdicts == ["keep", "edit"]


def test_an_approved_record_with_a_further_decision_is_counted_as_kept(own: Build) -> None:
    client = client_of(own)
    key = keys(client, "status:kept")[0]
    high = {"simple": 1.0, "complex": 1.0}
    assert client.get("api/kept", params=high).json()["kept"] == 0
    for verdict in ("approve", "keep"):
        client.post("api/decide", json={"key": key, "verdict": verdict})
        assert client.get("api/kept", params=high).json()["kept"] == 1


@pytest.mark.parametrize("given", [{"key": "x", "verdict": "approve"}, {"key": "0" * 16, "verdict": "burn"},
                                   {"key": "0" * 16, "verdict": "edit"}, {}, [], "approve"])  # fmt: skip
def test_what_is_not_a_decision_is_answered_in_one_sentence_and_written_nowhere(own: Build, given: object) -> None:
    answer = client_of(own).post("api/decide", json=given)
    assert answer.status_code == 400 and set(answer.json()) == {"error"}
    assert not own.exists("decisions.jsonl")


@pytest.mark.parametrize("least", [(-1.0, -1.0), (0.27, -1.0), (0.25, 0.26)])
def test_the_slider_says_what_select_keeps(client: TestClient, built: Build, least: tuple[float, float]) -> None:
    settings = SelectConfig(min_clip_simple=least[0], min_clip_complex=least[1], false_match_rate_complex=None)
    # The synthetic build rejects some in select at random; selection judges these anew, as the slider does.
    with temporary("select") as tables:
        kept = sum(row.kept for rows in choose(built, settings, "", tables).rows() for row in rows)
    asked = {"simple": least[0], "complex": least[1]}
    assert client.get("api/kept", params=asked).json() == {"kept": kept}
    assert client.get("api/kept", params={**asked, "exactly": "yes"}).json() == {"kept": kept}


def test_borderline_gives_the_nearest_on_either_side(client: TestClient) -> None:
    found = client.get("api/borderline", params={"by": "simple", "simple": 0.27, "count": 5}).json()
    above, below = ([card["score.simple"] for card in found[side]] for side in ("above", "below"))
    assert above == sorted(above) and above[0] >= 0.27 > below[0] and below == sorted(below, reverse=True)
    assert len(above) == len(below) == 5 and sum(found["histogram"]) == found["judged"]


def test_clusters_come_whole_with_the_one_that_stands_for_them_first(client: TestClient, built: Build) -> None:
    sizes: dict[str, int] = {}
    for row in built.read_rows("dedup", 0, Deduped):
        if row.cluster:
            sizes[row.cluster] = sizes.get(row.cluster, 0) + 1
    many = {key: size for key, size in sizes.items() if size > 1}
    found = client.get("api/clusters", params={"count": 50}).json()
    assert (found["total"], found["members"]) == (len(many), sum(many.values()))
    for one in found["clusters"]:
        assert one["count"] == many[one["cluster"]] == len(one["cards"])
        assert one["cluster"] == one["cards"][0]["key"]
        assert len(keys(client, f'{KINDS["image"]}:="{one["cluster"]}"')) == one["count"]


def test_corrections_show_the_fact_the_evidence_and_both_sentences(client: TestClient) -> None:
    found = client.get("api/corrections", params={"count": 3}).json()
    entry = found["entries"][0]
    group, old, new, evidence = entry["repairs"][0]
    assert (group, old, evidence) == ("colour", "pink", "0.210 -> 0.640")
    assert ["pink", True] in entry["before"] and [new, True] in entry["after"]
    assert found["kinds"][0][0] == "colour" and found["total"] == len(keys(client, "repairs:>0"))


def test_points_are_those_of_the_search(client: TestClient) -> None:
    for asked in ({}, {"of": "map"}):
        data = client.get("api/points", params={"q": "owl", **asked}).content
        (count,) = struct.unpack_from("<I", data)
        places = struct.unpack_from(f"<{count}I", data, 4 + 8 * count)
        assert len(data) == 4 + 13 * count and count
        cards = client.get("api/cards", params={"places": ",".join(map(str, places))}).json()
        owls = keys(client, "owl score.simple:any score.complex:any" if not asked else "owl")
        assert {card["key"] for card in cards} <= set(owls) and (asked or len(cards) == len(owls))


def test_suggestions_find_what_they_say(client: TestClient) -> None:
    for one in client.get("api/suggestions").json():
        assert client.get("api/page", params={"q": one["query"]}).json()["total"] == one["count"] > 0


def test_two_builds_are_compared_verdict_by_verdict(own: Build, built: Build) -> None:
    rows = own.read_rows("select", 0, Selected)
    for at in [at for at, row in enumerate(rows) if row.kept][:3]:
        rows[at] = rows[at].reject("select", Reason.BELOW_THRESHOLD)
    own.write_rows("select", 0, Selected, rows)
    client = client_of(built, beside=own)
    pairs = {tuple(pair[:4]): pair[4] for pair in client.get("api/comparison").json()["pairs"]}
    assert pairs["kept", None, "rejected", "below_threshold"] == 3
    assert len(keys(client, "status:kept beside.reason:below_threshold")) == 3
    assert keys(client, "beside.changed:yes") == []


def test_a_build_in_the_making_shows_what_is_there_and_is_read_again_when_it_grows(tmp_path: Path) -> None:
    build = write_view_build(tmp_path / "b", 40)
    later = tmp_path / "later"
    later.mkdir()
    for stage in ("safety", "score", "caption", "rewrite", "correct", "select"):
        (tmp_path / "b" / stage).rename(later / stage)
    client = client_of(build)
    page = client.get("api/page").json()
    assert page["total"] == 40 and {card["status"] for card in page["cards"]} == {"pending", "rejected"}
    assert client.get("api/state").json() == {"grown": False}
    pending = keys(client, "status:pending")
    assert client.get("api/record", params={"key": pending[0]}).json()["status"] == "pending"
    for folder in later.iterdir():
        folder.rename(tmp_path / "b" / folder.name)
    assert client.get("api/state").json() == {"grown": True}
    assert client.post("api/reload").json()["funnel"][-1]["left"] == len(keys(client, "status:kept")) > 0
    assert keys(client, "status:pending") == []


def test_the_record_has_every_column_and_no_odd_link(own: Build) -> None:
    client = client_of(own)
    found = client.get("api/record", params={"key": keys(client, "status:kept repairs:>0")[0]}).json()
    assert {"collect", "fetch", "clean", "correct"} <= set(found["stages"])
    assert found["stages"]["correct"]["facts_checked"] == 3 and found["links"]["page"].startswith("https://")
    assert "embedding" not in json.dumps(found)
    missing = client.get("api/record", params={"key": "nothing"})
    assert missing.json() == {"error": "key is 'nothing': no record of this build has it; search for it"}


def test_what_is_no_build_or_is_damaged_is_said_in_one_sentence(own: Build, tmp_path: Path) -> None:
    with pytest.raises(SurdError, match=r"holds no build\.json; give the folder"), viewer(str(tmp_path / "nothing")):
        pass
    own.write_bytes("clean/part-00000.parquet", b"PAR1 not quite")
    with pytest.raises(SurdError, match=r"cannot be read .*; check it with surd verify"), viewer(own.root):
        pass


def test_a_port_in_use_is_said_in_one_sentence(built: Build) -> None:
    with viewer(built.root) as (address, _, _):
        port = int(address.split(":")[2].split("/")[0])
        with pytest.raises(SurdError, match=f"port is {port} and cannot be used"), viewer(built.root, port=port):
            pass


def test_a_build_on_an_object_store_is_viewed_like_one_on_this_machine(built: Build) -> None:
    store = fsspec.filesystem("memory")
    store.put(f"{built.root}/", "/view/b/", recursive=True)
    try:
        client, here = client_of(Build("memory://view/b")), client_of(built)
        for path in ("api/page?q=owl&sort=gain", "api/facets?q=captions:fox", f"api/record?key={keys(here, '')[0]}"):
            assert client.get(path).json() == here.get(path).json()
        key = keys(client, "status:kept")[0]
        assert client.get(f"picture/{key}").content == here.get(f"picture/{key}").content
    finally:
        store.rm("/view", recursive=True)
