"""What the user names on disk and may not read is one sentence, or a row with a reason; nothing is passed over."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from surd.pipeline.sources import open_source
from surd.schemas import BuildConfig, Reason, SourceRecord, SurdError

NOBODY = 65534
KINDS = ("folder", "huggingface", "authors", "img2dataset", "diffusiondb")


@pytest.fixture
def here() -> Iterator[Path]:
    """A folder that any user may enter: pytest's own is its user's alone."""
    path = Path(tempfile.mkdtemp(prefix="surd"))
    path.chmod(0o755)
    yield path
    for folder in [path, *(Path(below) for below, _, _ in os.walk(path))]:
        folder.chmod(0o755)
    shutil.rmtree(path)


@contextmanager
def not_root() -> Iterator[None]:
    """Rights count inside: root, whom they do not bind, is nobody for as long."""
    user = os.geteuid()
    if not user:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


def asked(source: str) -> list[SourceRecord]:
    """The records of a source, and its fingerprint, which must cope with the same."""
    opened = open_source(BuildConfig(source=source))
    opened.fingerprint()
    return opened.page(None).records


def asked_in_vain(source: str, sentence: str) -> None:
    with not_root(), pytest.raises(SurdError, match=sentence) as raised:
        asked(source)
    assert "\n" not in str(raised.value)


def closed(path: Path, mode: int = 0) -> Path:
    path.chmod(mode)
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", [0o000, 0o644, 0o711])
def test_a_folder_that_may_not_be_read_is_one_sentence(here, kind, mode):
    folder = here / "photos"
    folder.mkdir()
    (folder / "00000").mkdir()
    closed(folder, mode)
    asked_in_vain(f"{kind}:{folder}", "cannot be read \\(Permission denied\\); give a folder that you may read")


@pytest.mark.parametrize("kind", KINDS)
def test_a_path_that_leads_nowhere_is_one_sentence(here, kind):
    (here / "parent" / "photos").mkdir(parents=True)
    (here / "loop").symlink_to(here / "loop")
    closed(here / "parent")
    for path in (here / "parent" / "photos", here / "loop", "a\0b"):
        asked_in_vain(f"{kind}:{path}", "config field 'source' is .*cannot be read")
    asked_in_vain(f"{kind}:~no-such-user/photos", "config field 'source' is .*no folder is there")


def test_a_list_that_may_not_be_read_is_one_sentence(here):
    for name in ("lists/a", "below/open", "below/shut"):
        (here / name).mkdir(parents=True)
    for name in ("lists/a/l.csv", "below/open/l.csv", "below/shut/l.csv", "l.csv"):
        (here / name).write_text("url\nhttps://x.example/1.png\n")
    closed(here / "lists" / "a")
    closed(here / "below" / "shut")
    closed(here / "l.csv")
    for path, why in {
        here / "lists" / "a": "holds a folder that cannot be read",
        here / "lists" / "a" / "l.csv": "is not there, or must not be read",
        here / "below": "holds a folder that cannot be read \\(shut: Permission denied\\)",
        here / "l.csv": "cannot be read",
        "~no-such-user/l.csv": "is not there",
    }.items():
        asked_in_vain(f"urls:{path}", why)


def test_a_folder_above_parts_of_diffusiondb_that_may_not_be_read_is_a_row_with_a_reason(here):
    (here / "large" / "part-000002").mkdir(parents=True)
    closed(here / "large")
    with not_root():
        (record,) = asked(f"diffusiondb:{here}")
    assert (record.source_id, record.reason) == ("large/", Reason.UNREADABLE_FILE)
    assert record.detail == "the folder large cannot be read: Permission denied"


@pytest.mark.parametrize("kind", ["folder", "huggingface"])
def test_a_folder_within_that_may_not_be_read_is_a_row_with_a_reason(here, kind):
    (here / "photos" / "shut").mkdir(parents=True)
    (here / "photos" / "a.png").touch()
    closed(here / "photos" / "shut")
    with not_root():
        records = asked(f"{kind}:{here}/photos")
    assert [(record.source_id, record.reason) for record in records] == [
        ("a.png", None),
        ("shut/", Reason.UNREADABLE_FILE),
    ]
    assert records[1].detail == "the folder shut cannot be read: Permission denied"


def test_a_list_of_pairs_that_may_not_be_read_is_one_sentence(here):
    (here / "a.png").touch()
    (here / "pairs.jsonl").write_text('{"image": "a.png", "prompt": "a cat"}')
    closed(here / "pairs.jsonl")
    asked_in_vain(f"folder:{here}", "pairs.jsonl cannot be read \\(Permission denied\\); make it readable")


def test_a_part_of_diffusiondb_that_may_not_be_read_is_a_row_with_a_reason(here):
    (here / "part-000001").mkdir()
    closed(here / "part-000001")
    with not_root():
        (record,) = asked(f"diffusiondb:{here}")
    assert (record.reason, record.detail) == (
        Reason.UNREADABLE_FILE,
        "part-000001.json cannot be read: Permission denied",
    )


def test_a_file_that_goes_while_a_folder_is_looked_at_crashes_nothing(here):
    (here / "a.png").touch()
    source = open_source(BuildConfig(source=f"folder:{here}"))
    before = source.fingerprint()
    (here / "a.png").unlink()
    assert source.fingerprint() != before, "the list is from before, the file is gone"


def test_a_path_or_an_address_without_its_kind_is_told_what_it_lacks(here):
    (here / "list.csv").touch()
    remedies = {
        str(here): f"did you mean folder:{here}\\?",
        f"{here}/list.csv": f"did you mean urls:{here}/list.csv\\?",
        "https://x.example/v1/images?token=abc": "give gallery:https://x.example/v1/images, for a list of images urls:",
        f"{here}/gone": "give demo, civitai:",
    }
    for source, remedy in remedies.items():
        with pytest.raises(SurdError, match=remedy) as raised:
            open_source(BuildConfig(source=source))
        assert "abc" not in str(raised.value)
