"""The viewer's page in a real browser: nothing scraped runs or leaves, and keys decide."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from surd.pipeline.build.folder import Build
from surd.pipeline.decisions import read
from surd.pipeline.view.serve import viewer
from tests.pipeline.report.chromium import Tab, program, tab
from tests.pipeline.view.hostile import write_hostile_build

VIEWS = ("records", "overview", "borderline", "duplicates", "corrections", "safety", "charts", "map", "beside")


@contextmanager
def served(build: Build, beside: Build | None = None) -> Iterator[str]:
    with viewer(build.root, beside.root if beside else None) as (address, run, stop):
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield address
        finally:
            stop()
            thread.join()


def wait(chromium: Tab, script: str, seconds: float = 20) -> None:
    """Until a script gives what is true."""
    end = time.monotonic() + seconds
    while not chromium.run(script):
        assert time.monotonic() < end, script
        time.sleep(0.01)


def size(chromium: Tab, width: int, height: int = 800) -> None:
    chromium.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)


#: Parts of the page that are wider inside than they are.
_TOO_WIDE = """['html', 'body', '#view', '#panel', '#facets', '#terms'].filter((name) => {
  const node = document.querySelector(name);
  return node.clientWidth && node.scrollWidth > node.clientWidth + 1;
})"""


def check_hostile(folder: Path, count: int, step: int = 1) -> dict[str, Any]:
    """Look at ``count`` hostile records in every view: whether one ran, requests that left, where the layout broke.

    One in ``step`` is opened.
    """
    build = write_hostile_build(folder / "<b onclick=pwned=1>'\"&", count)
    broken: list[str] = []
    with served(build, build) as address, tab(folder / "profile") as chromium:
        size(chromium, 1280)
        chromium.open(address)
        for width in (1280, 390):
            size(chromium, width)
            for view in VIEWS:
                chromium.run(f"location.hash = 'view={view}&q=-nothing'")
                wait(chromium, f"document.body.dataset.shown === '{view}'")
                broken += [f"{view} at {width}: {part}" for part in chromium.run(_TOO_WIDE)]
        size(chromium, 1280)
        chromium.run("location.hash = 'view=records'")
        wait(chromium, f"document.querySelector('#found').textContent === '{count} records'")
        chromium.run("document.querySelector('#wall').focus()")
        chromium.press("Enter")
        selected = "document.querySelector('#wall [aria-selected=true]')"
        for at in range(0, count, step):
            wait(chromium, f"{selected}?.getAttribute('aria-posinset') === '{at + 1}'")
            key = chromium.run(f"{selected}.card.key")
            wait(chromium, f"document.querySelector('#panel .panel-key')?.textContent === '{key}'")
            broken += [f"record {at}: {part}" for part in chromium.run(_TOO_WIDE)]
            for _ in range(step):
                chromium.press("ArrowRight")
        ran = chromium.run("typeof pwned !== 'undefined'") + len(chromium.dialogs)
        return {"ran": ran, "left": sum(not url.startswith(address) for url in chromium.requests), "broken": broken}


@pytest.mark.skipif(not program(), reason="no Chromium on this machine")
def test_hostile_texts_in_every_field_run_nothing_ask_for_nothing_and_break_no_view(tmp_path: Path) -> None:
    assert check_hostile(tmp_path, 44, step=3) == {"ran": 0, "left": 0, "broken": []}


@pytest.mark.skipif(not program(), reason="no Chromium on this machine")
def test_records_are_decided_by_keys_alone(built: Build, tmp_path: Path) -> None:
    shutil.copytree(built.root, tmp_path / "own")
    own, sentence = Build(str(tmp_path / "own")), "An owl, <b>seen</b> by a person."
    with served(own) as address, tab(tmp_path / "profile") as chromium:
        size(chromium, 1280)
        chromium.open(address)
        press: Callable[[str], None] = chromium.press
        wait(chromium, "document.querySelector('#wall .tile') !== null")
        press("/")
        wait(chromium, "document.activeElement.id === 'q'")
        chromium.call("Input.insertText", text="status:kept owl")
        wait(chromium, "document.querySelector('#found').textContent.endsWith('of 300')")
        chromium.press("Escape")
        tiles = "[...document.querySelectorAll('#wall .tile:not([hidden])')].sort((one, other) => one.at - other.at)"
        shown = chromium.run(f"{tiles}.map((tile) => tile.card.key).join()")
        first, second, third, fourth = shown.split(",")[:4]
        decided = "document.querySelector('#decided').textContent"
        press("a")
        wait(chromium, f"{decided} === '1 decided'")
        press("r")
        wait(chromium, "document.querySelector('#dialog').open")
        press("3")
        wait(chromium, f"{decided} === '2 decided' && !document.querySelector('#dialog').open")
        press("e")
        wait(chromium, "document.querySelector('#dialog').open")
        chromium.run("document.querySelector('#dialog textarea').value = ''")
        chromium.call("Input.insertText", text=sentence)
        chromium.call("Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", windowsVirtualKeyCode=13)
        wait(chromium, f"{decided} === '3 decided'")
        press("ArrowRight")
        press("a")
        wait(chromium, f"{decided} === '4 decided'")
        press("u")
        wait(chromium, f"{decided} === '3 decided'")
        words = "document.querySelector('#wall .tile.edit:not([hidden]) .tile-words')?.textContent"
        assert chromium.run(words) == sentence
    found = {key: (one.verdict.value, one.reason or one.simple) for key, one in read(own).items()}
    assert found == {first: ("approve", None), second: ("reject", "watermark or text"), third: ("edit", sentence)}
    assert fourth not in found
