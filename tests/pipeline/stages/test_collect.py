"""collect gets every page once, goes on where it was stopped, and keeps what it got."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surd.pipeline.build.folder import Build
from surd.pipeline.models import Models
from surd.pipeline.stages.collect import PAGES, SeenKeys, collect
from surd.schemas import BuildConfig, SurdError
from surd.schemas.config import ModelsConfig

pytest_plugins = ["tests.pipeline.served"]


class Paged:
    """A gallery of ``pages`` (lists of ids); ``fault`` may answer instead. ``asked`` are the cursors seen."""

    def __init__(self, pages, fault=None, cursors=None):
        self.pages, self.fault = pages, fault
        self.cursors = cursors or [f'"{number}|x"' for number in range(len(pages))]
        self.asked = []

    def __call__(self, request):
        cursor = parse_qs(urlsplit(request.path).query).get("cursor", [None])[0]
        number = 0 if cursor is None else self.cursors.index(cursor)
        self.asked.append(number)
        if self.fault and self.fault(request, number):
            return
        items = [{"id": id_, "url": f"/images/{id_}.png"} for id_ in self.pages[number]]
        metadata = {"nextCursor": self.cursors[number + 1]} if number + 1 < len(self.cursors) else {}
        request.send(200, json.dumps({"items": items, "metadata": metadata}).encode())


def run(root, server, **fields):
    config = BuildConfig(source=f"gallery:{server.url}/api/v1/images", **fields)
    return [*collect(Build(str(root)), config, Models(ModelsConfig()))]


def ids(parts):
    return [[int(record.source_id) for record in part] for part in parts]


def test_all_pages_become_partitions_in_order_and_an_empty_page_is_not_the_end(tmp_path, serve):
    gallery = Paged([[1, 2], [], [3], [4, 5]])
    assert ids(run(tmp_path, serve(gallery), partition_size=2)) == [[1, 2], [3, 4], [5]]
    assert gallery.asked == [0, 1, 2, 3]


def test_nothing_is_left_of_the_pages_when_collect_is_done(tmp_path, serve):
    run(tmp_path, serve(Paged([[1], [2]])))
    assert not (tmp_path / PAGES).exists()


def test_no_page_beyond_the_limit_is_asked_for(tmp_path, serve):
    gallery = Paged([[1, 2], [3, 4], [5, 6]])
    assert ids(run(tmp_path, serve(gallery), limit=3)) == [[1, 2, 3]]
    assert gallery.asked == [0, 1]


def test_a_record_given_twice_is_one_row_where_it_came_first(tmp_path, serve, caplog):
    assert ids(run(tmp_path, serve(Paged([[1, 2], [2, 3, 1]])))) == [[1, 2, 3]]
    assert "2 records more than once" in caplog.text


def test_pages_that_go_in_a_circle_end(tmp_path, serve, caplog):
    gallery = Paged([[1], [2], [3]], cursors=["a", "b", "c", "b"])
    assert ids(run(tmp_path, serve(gallery))) == [[1, 2, 3]]
    assert gallery.asked == [0, 1, 2] and "circle" in caplog.text


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 9), max_size=60), st.integers(1, 7))
def test_a_key_is_new_once(keys, latest):
    seen, known = SeenKeys(latest), set()
    for key in keys:
        assert seen.add(key) == (key not in known)
        known.add(key)
        assert len(seen) == len(known)


def test_an_empty_gallery_is_the_users_to_mend_and_a_limit_of_none_is_not(tmp_path, serve):
    server = serve(Paged([[]]))
    with pytest.raises(SurdError, match="gave no records"):
        run(tmp_path, server)
    assert run(tmp_path, server, limit=0) == []


def test_a_gallery_that_answers_500_then_hangs_up_keeps_what_it_gave_and_running_again_continues(
    tmp_path, serve, no_waiting
):
    broken = True

    def fault(request, number):
        if broken and number == 2:
            request.send(500) if gallery.asked.count(2) < 3 else request.hang_up()
            return True
        return False

    gallery = Paged([[1, 2], [3, 4], [5]], fault)
    server = serve(gallery)
    with pytest.raises(SurdError, match="the 4 records so far are kept, and running again continues") as raised:
        run(tmp_path, server, collect={"retries": 3})
    assert server.url in str(raised.value)
    assert gallery.asked == [0, 1, 2, 2, 2, 2]
    broken = False
    gallery.asked.clear()
    assert ids(run(tmp_path, server)) == [[1, 2, 3, 4, 5]]
    assert gallery.asked == [2]


def test_a_killed_collect_continues_without_asking_for_a_page_again(tmp_path, serve):
    """A real process, killed by a real signal while it waits for the third page."""
    child: list[subprocess.Popen] = []

    def fault(request, number):
        if number == 2 and gallery.asked.count(2) == 1:
            os.kill(child[0].pid, signal.SIGKILL)
            request.hang_up()
            return True
        return False

    gallery = Paged([[1, 2], [3], [4]], fault)
    server = serve(gallery)
    code = (
        "import sys\nfrom pathlib import Path\nfrom surd.pipeline.build.folder import Build\n"
        "from surd.pipeline.stages.collect import collect\n"
        "from surd.schemas import BuildConfig\nsys.stdin.read()\n"
        "list(collect(Build(sys.argv[1]), BuildConfig(source=sys.argv[2]), None))"
    )
    command = [sys.executable, "-c", code, str(tmp_path), f"gallery:{server.url}/api/v1/images"]
    root = Path(__file__).parents[3]
    child.append(subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE))
    child[0].communicate(b"")
    assert child[0].returncode == -signal.SIGKILL
    assert ids(run(tmp_path, server)) == [[1, 2, 3, 4]]
    assert gallery.asked == [0, 1, 2, 2]


def test_pages_of_another_source_are_not_continued(tmp_path, serve, no_waiting):
    def fault(request, number):
        if number == 1:
            request.send(500)
        return number == 1

    with pytest.raises(SurdError):
        run(tmp_path, serve(Paged([[1], [2]], fault)))
    assert ids(run(tmp_path, serve(Paged([[7], [8]])))) == [[7, 8]]


def test_a_page_file_that_is_no_page_is_asked_for_again(tmp_path, serve, no_waiting):
    broken = True

    def fault(request, number):
        if broken and number == 1:
            request.send(500)
        return broken and number == 1

    server = serve(Paged([[1], [2]], fault))
    with pytest.raises(SurdError):
        run(tmp_path, server)
    broken = False
    (tmp_path / PAGES / "000000.json").write_text('{"records": [{"key": "?"}]')
    assert ids(run(tmp_path, server)) == [[1, 2]]
