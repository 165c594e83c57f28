"""What a search finds is what the rows themselves say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from surd.pipeline.build.folder import Build
from surd.schemas import Captioned, Cleaned, Corrected, Pair, Selected, SourceRecord


@pytest.fixture(scope="module")
def records(built: Build) -> dict[str, dict[str, Any]]:
    """Key -> the rows of one record."""
    models = {"collect": SourceRecord, "fetch": Pair, "clean": Cleaned, "caption": Captioned, "correct": Corrected,
              "select": Selected}  # fmt: skip
    found: dict[str, dict[str, Any]] = {}
    for stage, model in models.items():
        for row in built.read_rows(stage, 0, model):
            found.setdefault(row.key, {})[stage] = row
    return found


def text(record: dict[str, Any]) -> str:
    parts = (record["correct"].simple, record["clean"].complex, record["fetch"].prompt, record["collect"].prompt)
    return "\n".join(part for part in parts if part).lower()


CASES: dict[str, Callable[[dict[str, Any]], bool]] = {
    "owl": lambda one: "owl" in text(one),
    "OWL violet": lambda one: "owl" in text(one) and "violet" in text(one),
    '"violet owl"': lambda one: "violet owl" in text(one),
    "owl -sepia": lambda one: "owl" in text(one) and "sepia" not in text(one),
    "author:=\"author 7\"": lambda one: one["collect"].author == "author 7",
    "author:7": lambda one: "7" in one["collect"].author,
    "licence:none": lambda one: one["collect"].licence is None,
    "licence:any -licence:nc": lambda one: one["collect"].licence in ("CC0-1.0", "CC-BY-4.0"),
    "reason:nsfw|mismatch": lambda one: one["select"].reason in ("nsfw", "mismatch"),
    "-status:kept": lambda one: not one["select"].kept,
    "stage:dedup": lambda one: one["select"].rejected_by == "dedup",
    "width:>768": lambda one: (one["fetch"].width or 0) > 768,
    "width:512 height:>=768": lambda one: one["fetch"].width == 512 and one["fetch"].height >= 768,
    "score.simple:0.25..0.28": lambda one: 0.25 <= (one["correct"].clip_simple or 0) <= 0.28,
    "clip_simple:..0.25": lambda one: one["correct"].clip_simple is not None and one["correct"].clip_simple <= 0.25,
    "-score.simple:>0.2": lambda one: not (one["correct"].clip_simple or 0) > 0.2,
    "host:img3": lambda one: "img3" in one["collect"].url,
    "short:<513": lambda one: one["fetch"].width is not None and min(one["fetch"].width, one["fetch"].height) < 513,
    "words:>19": lambda one: len((one["correct"].simple or "").split()) > 19,
    "captions:\"there is a fox\"": lambda one: any("There is a fox" in each for each in one["caption"].captions or ()),
    "keywords:=8k": lambda one: "8k" in (one["clean"].keywords or ()),
    "caption.captions:none": lambda one: not one["caption"].captions,
    "params:sampler": lambda one: True,
    "correct.facts_checked:3 repairs:>0": lambda one: bool(one["correct"].repairs),
    "picture:no": lambda one: one["select"].rejected_by in ("fetch", "decode"),
    "decision:any": lambda one: False,
    "author:": lambda one: True,
    "": lambda one: True,
}  # fmt: skip


@pytest.mark.parametrize("query", CASES)
def test_a_search_finds_what_the_rows_say(client: TestClient, records: dict[str, dict[str, Any]], query: str) -> None:
    page = client.get("api/page", params={"q": query, "count": 200}).json()
    wanted = [key for key, record in records.items() if CASES[query](record)]
    assert page["total"] == len(wanted)
    assert [card["key"] for card in page["cards"]] == wanted[:200], "in the order of collection"


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("auhtor:ada", "'auhtor' is not a field; did you mean author?"),
        ("width:wide", "width is 'wide': not a number or a range; write width:0.2..0.3 or width:>0.2"),
        ("picture:maybe", "picture is 'maybe': not yes or no; write picture:yes"),
        ("x " * 60, "the search has 60 terms, more than 50; use fewer words"),
        ("x" * 2001, "the search has 2,001 characters, more than 2,000; use fewer words"),
    ],
)
def test_a_search_that_cannot_be_is_answered_in_one_sentence(client: TestClient, query: str, error: str) -> None:
    answer = client.get("api/page", params={"q": query})
    assert (answer.status_code, answer.json()) == (400, {"error": error})


ODD = (
    "'; DROP TABLE record; --", 'author:="\') OR (true"', "%", "_", "\\", '"', '""', "a:b:c",
    "https://pictures.example/1", "-", "key:=", "\x00", "owl\u202e",
)  # fmt: skip


@pytest.mark.parametrize("query", ODD)
def test_odd_texts_are_searched_for_as_they_are(client: TestClient, query: str) -> None:
    answer = client.get("api/page", params={"q": query})
    assert answer.status_code in (200, 400)
    assert client.get("api/page").json()["total"] == 300


def test_an_order_is_that_of_its_number_with_nothing_lost(client: TestClient) -> None:
    def page(sort: str) -> list[dict[str, Any]]:
        return [card for start in (0, 150) for card in client.get(
            "api/page", params={"sort": sort, "start": start, "count": 150}).json()["cards"]]  # fmt: skip

    for sort in ("score.simple", "score.simple-"):
        cards = page(sort)
        scores = [card["score.simple"] for card in cards if card["score.simple"] is not None]
        assert scores == sorted(scores, reverse=sort.endswith("-"))
        assert all(card["score.simple"] is None for card in cards[len(scores) :]), "unmeasured ones come last"
        assert len({card["key"] for card in cards}) == 300
    assert page("random") == page("random") != page("")


def test_facets_count_what_is_found(client: TestClient, records: dict[str, dict[str, Any]]) -> None:
    facets = client.get("api/facets", params={"q": "owl"}).json()
    found = [record for record in records.values() if "owl" in text(record)]
    assert dict(map(tuple, facets["status"])) == {
        "kept": sum(one["select"].kept for one in found), "rejected": sum(not one["select"].kept for one in found),
    }  # fmt: skip
    for field, values in facets.items():
        for value, count in values[:3]:
            term = f"{field}:none" if value is None else f'{field}:="{value}"'
            assert client.get("api/page", params={"q": f"owl {term}"}).json()["total"] == count, term


@pytest.mark.parametrize(
    "field", ["keywords", "correct.facts_checked", "fetch.prompt_origin", "width", "picture", "safety.rule"]
)
def test_any_field_is_counted_and_each_count_is_a_search(client: TestClient, field: str) -> None:
    found = client.get("api/ranking", params={"field": field, "q": "status:kept owl"}).json()["values"]
    assert found and sum(count for _, count in found) <= 300 * 8
    for value, count in found[:3]:
        exactly = f'{field}:="{value}"' if isinstance(value, str) else f"{field}:{str(value).lower()}"
        term = f"{field}:none" if value is None else exactly
        assert client.get("api/page", params={"q": f"status:kept owl {term}"}).json()["total"] == count, term


def test_the_funnel_adds_up_and_every_step_is_a_search(client: TestClient) -> None:
    steps = client.get("api/build").json()["funnel"]
    assert [steps[0]["came"], steps[-1]["left"]] == [300, client.get("api/page?q=status:kept").json()["total"]]
    for step in steps:
        lost = sum(count for _, count in step["rejected"])
        assert step["came"] - lost == step["left"]
        assert client.get("api/page", params={"q": f"stage:={step['stage']}"}).json()["total"] == lost
