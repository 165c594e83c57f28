"""The map by UMAP: neighbours stay neighbours, computed beside other answers; where it is not installed, a sentence."""

from __future__ import annotations

import struct
import time

import numpy as np
import pytest
from starlette.testclient import TestClient

from surd.pipeline.build.folder import Build
from surd.pipeline.view import umap_plane
from surd.schemas import SurdError
from tests.bench.view_build import key_of
from tests.pipeline.view.conftest import client_of

THINGS = 10  # that the pictures show in turn, each with embeddings around one of its own


def test_without_the_package_a_sentence_names_the_extra(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(umap_plane, "is_installed", lambda: False)
    assert client.get("api/build").json()["umap"] is False
    for path in ("api/map", "api/points"):
        answer = client.get(path, params={"by": "umap", "of": "map"})
        assert answer.status_code == 400 and "pip install 'surd[umap]'" in answer.json()["error"]


def test_pca_needs_nothing_and_another_map_is_refused(client: TestClient) -> None:
    assert client.get("api/map").json() == {"ready": True}
    assert "'tsne'" in client.get("api/map", params={"by": "tsne"}).json()["error"]


def near_are_alike(places: np.ndarray, things: list[int]) -> float:
    """The share of each point's five neighbours that show the same thing."""
    far = ((places[:, None] - places[None]) ** 2).sum(-1)
    nearest = np.argsort(far, axis=1)[:, 1:6]
    named = np.array(things)
    return float((named[nearest] == named[:, None]).mean())


def test_neighbours_stay_neighbours_also_those_that_are_placed_later(
    built: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(umap_plane, "_FIT", 100)
    keys, places = umap_plane.umap_places(built, [0], 300)
    thing_of = {key_of(number): number % THINGS for number in range(300)}
    assert len(set(keys)) == len(keys) > 150 and places.shape == (len(keys), 2)
    assert near_are_alike(places, [thing_of[key] for key in keys]) > 0.9
    again, same = umap_plane.umap_places(built, [0], 300)
    assert again == keys and (same == places).all()
    with pytest.raises(SurdError, match="UMAP needs 16; look at the map by PCA"):
        umap_plane.umap_places(built, [], 300)


def test_the_page_gets_the_map_once_it_is_computed_and_other_answers_meanwhile(built: Build) -> None:
    client = client_of(built)
    asked = {"of": "map", "by": "umap", "q": "owl"}
    assert client.get("api/build").json()["umap"] is True
    assert client.get("api/map", params=asked).json() == {"ready": False}
    assert "still being computed" in client.get("api/points", params=asked).json()["error"]
    end = time.monotonic() + 500  # it gives way to all else that runs, and numba compiles
    answered = 0
    while not client.get("api/map", params=asked).json()["ready"]:
        assert time.monotonic() < end
        assert client.get("api/page", params={"q": "owl"}).json()["total"]
        answered += client.get("api/map", params=asked).json() == {"ready": False}  # so it did not wait for the map
        time.sleep(0.2)
    data = client.get("api/points", params=asked).content
    (count,) = struct.unpack_from("<I", data)
    assert count and len(data) == 4 + 13 * count and answered >= 3
    client.view.map.close()  # type: ignore[attr-defined]
