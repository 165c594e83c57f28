"""The benchmark of the viewer, on a few hundred records."""

from __future__ import annotations

import pytest

from tests.bench import view


@pytest.mark.slow
def test_a_tiny_run_measures_the_server_and_tells_what_is_missed(tmp_path, monkeypatch):
    monkeypatch.setattr(view, "program", lambda: None)
    figures = view.measure(tmp_path, 200, 0)
    assert figures["records"] == 200 and figures["ready_s"] > 0 and figures["memory_mb"] > 20
    good = dict.fromkeys(view.GOALS, 0) | {"frames_slow": 60.0, "frames_fast": 59.0, "hostile": {"ran": 0}}
    assert view.misses(good) == []
    assert view.misses(
        good | {"ready_s": 2.1, "frames_fast": 31, "hostile": {"ran": 1}, "axe": ["records at 390: list"]}
    ) == [
        "ready_s 2.1 > 2.0",
        "frames_fast 31 < 58",
        "hostile texts: ran 1",
        "axe: records at 390: list",
    ]
    assert "frames_slow None < 58" in view.misses({})
