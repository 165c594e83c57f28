"""The journal's lines are a format: builds made before are continued from them."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile

import pytest

from surd.pipeline.acquisition.journal import Journal
from surd.pipeline.net.downloader import Download, Validators
from surd.pipeline.rejection import Rejected
from surd.schemas import Pair, Reason, SourceRecord
from surd.schemas.config import FetchConfig

RECORDS = [SourceRecord(key=f"{n:016x}", source="s", source_id=str(n), url=f"http://a/{n}") for n in range(3)]
FIRST, SECOND, THIRD = (record.key for record in RECORDS)
SHA = hashlib.sha256(b"bytes").hexdigest()
ETAG = Validators(url="http://a/0", etag='"1"')


#: Hashes of the records' URLs.
ONE, TWO, THREE = (hashlib.sha256(json.dumps(record.url).encode()).hexdigest()[:16] for record in RECORDS)


def journal(tmp_path, records=RECORDS, **settings) -> Journal:
    return Journal(tmp_path / "part.journal", tmp_path / "part.tar", records, FetchConfig(**settings))


def fill(opened: Journal) -> None:
    opened.record(FIRST, Download(data=b"bytes", validators=ETAG))
    opened.record(SECOND, Download(data=b"bytes", opt_out="noai"))
    opened.record_rejection(THIRD, Rejected(Reason.HTTP_ERROR, "HTTP 503", transient=True))
    opened.record_rejection(THIRD, Rejected(Reason.HTTP_ERROR, "HTTP 404 Not Found"))


def finish(opened: Journal, tmp_path) -> None:
    """The tar of the partition, and then the journal's last lines."""
    with tarfile.open(tmp_path / "part.tar", "w") as tar:
        for key in (FIRST, SECOND):
            member = tarfile.TarInfo(f"{key}.png")
            member.size = 5
            tar.addfile(member, io.BytesIO(b"bytes"))
    rejected = Pair(key=THIRD).reject("fetch", Reason.HTTP_ERROR, "HTTP 404 Not Found")
    opened.finish([Pair(key=FIRST, sha256=SHA), Pair(key=SECOND, sha256=SHA, opt_out="noai"), rejected])


def after_header(tmp_path) -> bytes:
    header, _, rest = (tmp_path / "part.journal").read_bytes().partition(b"\n")
    assert [*json.loads(header)] == ["journal", "settings"]
    return rest


def test_a_journal_holds_a_line_and_the_bytes_of_each_download_and_the_permanent_rejections(tmp_path):
    with journal(tmp_path) as opened:
        fill(opened)
    body = f'"size": 5, "sha256": "{SHA}"'
    assert after_header(tmp_path).decode() == (
        f'{{"key": "{FIRST}", "request": "{ONE}", {body}, "opt_out": null, '
        '"url": "http://a/0", "etag": "\\"1\\""}\nbytes'
        f'{{"key": "{SECOND}", "request": "{TWO}", {body}, "opt_out": "noai"}}\nbytes'
        f'{{"key": "{THIRD}", "request": "{THREE}", "reason": "http_error", "detail": "HTTP 404 Not Found"}}\n'
    )


def test_a_finished_journal_holds_what_the_tar_does_not(tmp_path):
    with journal(tmp_path) as opened:
        fill(opened)
        finish(opened, tmp_path)
    assert after_header(tmp_path).decode() == (
        f'{{"key": "{FIRST}", "request": "{ONE}", "url": "http://a/0", "etag": "\\"1\\"", "sha256": "{SHA}"}}\n'
        f'{{"key": "{SECOND}", "request": "{TWO}", "sha256": "{SHA}", "opt_out": "noai"}}\n'
        f'{{"key": "{THIRD}", "request": "{THREE}", "reason": "http_error", "detail": "HTTP 404 Not Found"}}\n'
    )


@pytest.mark.parametrize("is_finished", [False, True])
def test_the_next_run_finds_downloads_and_rejections_and_a_run_with_other_settings_finds_bodies(tmp_path, is_finished):
    with journal(tmp_path) as opened:
        fill(opened)
        if is_finished:
            finish(opened, tmp_path)
    with journal(tmp_path) as opened:
        assert opened.lookup(FIRST) == Download(data=b"bytes", validators=ETAG)
        assert opened.lookup(SECOND) == Download(data=b"bytes", opt_out="noai")
        assert opened.has(THIRD)
        with pytest.raises(Rejected, match="404"):
            opened.lookup(THIRD)
    with journal(tmp_path, max_bytes=9) as opened:
        assert not any(opened.has(key) for key in (FIRST, SECOND, THIRD))
        body = opened.previous(FIRST)
        assert body.validators == ETAG and body.read() == b"bytes"
        assert opened.previous(SECOND) is None and opened.previous(THIRD) is None


@pytest.mark.parametrize("is_finished", [False, True])
def test_a_run_with_other_records_finds_what_there_is_of_their_urls(tmp_path, is_finished):
    """One record is gone, one has another URL, one is new: as where a source has changed."""
    with journal(tmp_path) as opened:
        fill(opened)
        if is_finished:
            finish(opened, tmp_path)
    moved = RECORDS[0].model_copy(update={"url": "http://a/elsewhere"})
    new = SourceRecord(key="f" * 16, source="s", source_id="f", url="http://a/f")
    for _ in range(2):  # the second time after a kill
        with journal(tmp_path, [moved, RECORDS[1], new]) as opened:
            assert [opened.has(key) for key in (FIRST, SECOND, THIRD, new.key)] == [False, True, False, False]
            assert opened.lookup(SECOND) == Download(data=b"bytes", opt_out="noai")
            assert opened.previous(FIRST) is None
    with journal(tmp_path, [*RECORDS, new]) as opened:
        assert not opened.has(FIRST) and opened.has(SECOND)


@pytest.mark.parametrize("is_finished", [False, True])
def test_a_journal_of_a_version_without_hashes_of_urls_counts_for_its_own_records(tmp_path, is_finished):
    with journal(tmp_path) as opened:
        fill(opened)
        if is_finished:
            finish(opened, tmp_path)
    path = tmp_path / "part.journal"
    old = re.sub(rb'"request": "[0-9a-f]+", ', b"", path.read_bytes())
    path.write_bytes(re.sub(rb', "settings": "[0-9a-f]+"', b"", old))
    with journal(tmp_path) as opened:
        assert opened.lookup(FIRST) == Download(data=b"bytes", validators=ETAG)
        assert opened.has(SECOND) and opened.has(THIRD)
    with journal(tmp_path, RECORDS[:2]) as opened:
        assert not opened.has(FIRST) and not opened.has(SECOND)
        assert opened.previous(FIRST).read() == b"bytes"


def test_an_entry_that_was_not_written_to_its_end_is_cut_off(tmp_path):
    with journal(tmp_path) as opened:
        fill(opened)
    path = tmp_path / "part.journal"
    whole = path.read_bytes()
    for cut in range(whole.index(b"\n") + 1, len(whole)):
        path.write_bytes(whole[:cut])
        with journal(tmp_path) as opened:
            found = [key for key in (FIRST, SECOND, THIRD) if opened.has(key)]
        assert path.stat().st_size <= cut and whole.startswith(path.read_bytes())
        assert found == [FIRST, SECOND, THIRD][: len(found)]
