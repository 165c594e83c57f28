"""One run at a time on a build's folder, and no trace of a run that wrote nothing."""

import subprocess
import sys

import pytest

from surd.pipeline.build.folder import Build
from surd.pipeline.build.lock import LOCK, exclusive
from surd.schemas import SurdError

HOLDER = """
import sys
from surd.pipeline.build.folder import Build
from surd.pipeline.build.lock import exclusive
with exclusive(Build(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "b")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_run_is_refused_and_a_kill_frees_the_folder(tmp_path, holder):
    build = Build(str(tmp_path / "b"))
    said = rf"another run is working in that folder \(.* on .*, process {holder.pid}, since .* UTC\); wait"
    with pytest.raises(SurdError, match=said), exclusive(build):
        pass
    holder.kill()
    holder.wait()
    with exclusive(build):
        build.write_bytes("x", b"1")
    assert build.read_bytes("x") == b"1"


def test_a_folder_in_which_nothing_was_written_is_removed_again(tmp_path):
    with pytest.raises(ZeroDivisionError), exclusive(Build(str(tmp_path / "a" / "b"))):
        (tmp_path / "a" / "b" / "collect").mkdir()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_stays(tmp_path):
    with exclusive(Build(str(tmp_path))):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_a_folder_that_cannot_be_made_is_one_sentence():
    with pytest.raises(SurdError, match="cannot be written"), exclusive(Build("/proc/surd/b")):
        pass
