"""fetch with other settings asks anew, and takes what has not changed from what it got before.

With other records it asks for what is new among them.
"""

from __future__ import annotations

import hashlib
from collections import Counter

from surd.pipeline.build.folder import Build
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.stages import BY_NAME
from surd.schemas import Reason
from tests.pipeline.fetching import collected, picture, rows

pytest_plugins = ["tests.pipeline.served"]

DATE = "Tue, 03 Nov 2026 10:00:00 GMT"


class Versioned:
    """A server that knows its images again: by ETag, by date (``/dated``), or not at all (``/plain``)."""

    def __init__(self) -> None:
        self.images = {f"/{name}": picture(seed=number) for number, name in enumerate(("a", "b", "dated", "plain"))}
        self.answers: list[tuple[str, int]] = []
        self.headers: dict[str, str] = {}

    def __call__(self, request) -> None:
        if request.path == "/moved":
            request.send(302, Location="/a")
            return
        data = self.images[request.path]
        etag = f'"{hashlib.sha256(data).hexdigest()[:8]}"'
        stated = {"/dated": {"Last_Modified": DATE}, "/plain": {}}.get(request.path, {"ETag": etag})
        asked = request.headers.get("If-None-Match") == etag or request.headers.get("If-Modified-Since") == DATE
        self.answers.append((request.path, 304 if asked else 200))
        request.send(304 if asked else 200, b"" if asked else data, "image/png", **stated, **self.headers)


def fetch_with(root, server, **settings):
    config = collected(root, server, ["/a", "/b", "/dated", "/plain", "/moved"], **settings)
    run_unit(BY_NAME["fetch"], 0, str(root), config)
    return rows(root)


def images(root) -> list[bytes]:
    return [*Build(str(root)).images(0, [row for row in rows(root) if row.kept])]


def test_what_has_not_changed_is_not_sent_again_and_its_bytes_are_kept(tmp_path, serve):
    answer = Versioned()
    server = serve(answer)
    fetch_with(tmp_path, server)
    first, before = images(tmp_path), dict(answer.images)
    answer.images["/b"], answer.answers = picture(seed=99), []
    assert all(row.kept for row in fetch_with(tmp_path, server, max_bytes=1_000_000))
    assert Counter(answer.answers) == {
        ("/a", 304): 2,  # itself, and where /moved leads
        ("/b", 200): 1, ("/dated", 304): 1, ("/plain", 200): 1,
    }  # fmt: skip
    assert images(tmp_path) == [first[0], answer.images["/b"], *first[2:]] and before["/b"] == first[1]
    assert not [path for path in (tmp_path / "fetch").iterdir() if "before" in path.name]


def test_a_third_run_still_knows_the_versions(tmp_path, serve):
    answer = Versioned()
    server = serve(answer)
    for most in (3_000_000, 2_000_000, 1_000_000):
        answer.answers.clear()
        fetch_with(tmp_path, server, max_bytes=most)
    assert ("/a", 200) not in answer.answers and ("/dated", 304) in answer.answers


def test_an_unfinished_run_with_other_settings_does_not_pass_for_a_finished_one(tmp_path, serve):
    """What was put aside speaks for its own settings only, however often the new run is begun."""
    answer = Versioned()
    server = serve(answer)
    fetch_with(tmp_path, server)
    config = collected(tmp_path, server, ["/a", "/b", "/dated", "/plain", "/moved"], max_bytes=1_000_000)
    build, journal = Build(str(tmp_path)), tmp_path / "fetch/part-00000.journal"
    (tmp_path / "fetch/part-00000.tar").replace(tmp_path / "fetch/part-00000.tar.before")
    journal.replace(tmp_path / "fetch/part-00000.journal.before")
    journal.write_bytes(b'{"journal": "half')  # killed at the worst moment
    answer.answers.clear()
    run_unit(BY_NAME["fetch"], 0, str(tmp_path), config)
    assert len(answer.answers) == 5 and all(row.kept for row in rows(tmp_path))
    assert build.marker("fetch", 0).rows == 5


def test_an_opt_out_that_came_since_counts_although_the_image_has_not_changed(tmp_path, serve):
    answer = Versioned()
    server = serve(answer)
    fetch_with(tmp_path, server)
    answer.headers = {"X_Robots_Tag": "noai"}
    assert {row.reason for row in fetch_with(tmp_path, server, max_bytes=1_000_000)} == {Reason.OPTED_OUT}
    assert ("/a", 304) in answer.answers


def test_a_smaller_limit_holds_for_what_was_got_before(tmp_path, serve):
    server = serve(Versioned())
    fetch_with(tmp_path, server)
    assert {row.reason for row in fetch_with(tmp_path, server, max_bytes=100)} == {Reason.TOO_LARGE}


def test_bytes_from_before_that_are_damaged_are_not_taken(tmp_path, serve):
    answer = Versioned()
    server = serve(answer)
    fetch_with(tmp_path, server)
    tar = tmp_path / "fetch/part-00000.tar"
    tar.write_bytes(tar.read_bytes().replace(answer.images["/a"][100:200], b"\1" * 100))
    first, *_ = fetch_with(tmp_path, server, max_bytes=1_000_000)
    assert first.transient and "gone" in first.detail
    first, *_ = fetch_with(tmp_path, server, max_bytes=1_000_000)
    assert first.kept


def test_re_encoded_images_never_pass_for_the_originals(tmp_path, serve):
    """Neither in a second run for the sake of what failed, nor when the original size is wanted after all."""
    answer = Versioned()
    failing, healthy = True, answer.images["/plain"]

    def moody(request):
        if request.path == "/plain" and failing:
            request.send(500)
        else:
            answer(request)

    server = serve(moody)
    fetch_with(tmp_path, server, image_size=32)
    small = {row.key: data for row, data in zip((r for r in rows(tmp_path) if r.kept), images(tmp_path), strict=True)}
    failing = False
    fetch_with(tmp_path, server, image_size=32)
    again = dict(zip((row.key for row in rows(tmp_path)), images(tmp_path), strict=True))
    assert small.items() <= again.items() and Counter(answer.answers)["/b", 200] == 1
    fetch_with(tmp_path, server)
    assert images(tmp_path)[3] == healthy and images(tmp_path)[0] == answer.images["/a"]


def test_a_partition_with_other_records_requests_only_those_that_are_new(tmp_path, serve):
    """One is gone, one is new, one was refused for good, and they come in another order."""
    answer = Versioned()
    answer.images["/bad"] = b"not a picture"
    server = serve(answer)
    run_unit(BY_NAME["fetch"], 0, str(tmp_path), collected(tmp_path, server, ["/a", "/b", "/bad", "/plain"]))
    before = {row.key: row for row in rows(tmp_path)}
    answer.answers.clear()
    config = collected(tmp_path, server, ["/plain", "/bad", "/dated", "/b"])
    assert not run_unit(BY_NAME["fetch"], 0, str(tmp_path), config).skipped
    assert answer.answers == [("/dated", 200)]
    plain, bad, dated, b = rows(tmp_path)
    assert images(tmp_path) == [answer.images["/plain"], answer.images["/dated"], answer.images["/b"]]
    for row in (plain, bad, b):
        assert row == before[row.key].model_copy(update={"offset": row.offset})
    assert dated.kept and not [path for path in (tmp_path / "fetch").iterdir() if "before" in path.name]
