"""decisions.jsonl: any number of writers, killed ones too, on a disk and on an object store."""

from __future__ import annotations

import json
import logging
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from surd.pipeline.build.folder import Build
from surd.pipeline.decisions import append, read
from surd.pipeline.decisions.in_force import combined, decided, in_force, latest_keeps
from surd.pipeline.decisions.log import DECISIONS, fold, read_log, remove
from surd.schemas import Decision, SurdError
from surd.schemas.decision import MAX_REASON
from tests.object_store import BUCKET

pytest_plugins = ["tests.object_fixtures"]
ONE, OTHER = "1" * 16, "2" * 16
HOSTILE = '</script><img src=x onerror=alert(1)>\x1b[31m\x00\r\n\u2028{"key": 1}\u202e ünï \U0001f98a'
_APPENDS = """
import sys
from surd.pipeline.build.folder import Build
from surd.pipeline.decisions import append
from surd.schemas import Decision
for number in range(40):
    key = f"{int(sys.argv[2]) * 1000 + number:016x}"
    append(Build(sys.argv[1]), Decision(key=key, verdict="reject", reason="x" * 400))
"""


def decision(key: str, verdict: str, **fields) -> Decision:
    return Decision(key=key, verdict=verdict, **fields)


@pytest.fixture
def build(tmp_path) -> Build:
    return Build(str(tmp_path / "build"))


def test_the_last_decision_of_a_record_wins_and_a_withdrawn_one_is_none(build):
    append(build, decision(ONE, "approve"), decision(OTHER, "keep"))
    append(build, decision(ONE, "reject", reason="blurred"))
    append(build, decision(OTHER, "withdraw"))
    assert {key: (one.verdict, one.reason) for key, one in read(build).items()} == {ONE: ("reject", "blurred")}
    assert len(read_log(build).decisions) == 4


def test_a_line_is_what_the_format_promises(build):
    append(build, decision(ONE, "edit", simple="A fox."))
    line = json.loads(build.read_bytes(DECISIONS))
    assert line.keys() == {"key", "verdict", "reason", "simple", "at"} and line["at"].endswith("Z")


def test_processes_append_at_once_while_the_file_is_replaced(build, tmp_path):
    processes = [subprocess.Popen([sys.executable, "-c", _APPENDS, build.root, str(number)]) for number in range(2)]
    append(build, decision(ONE, "approve"))
    while any(process.poll() is None for process in processes):
        append(build, decision(OTHER, "keep"))
        assert remove(build, {OTHER}) == 1  # writes the file anew
    assert [process.returncode for process in processes] == [0, 0]
    assert read(build).keys() == {ONE, *(f"{place * 1000 + number:016x}" for place in (0, 1) for number in range(40))}
    assert [path.name for path in (tmp_path / "build").iterdir()] == [DECISIONS]


def test_a_half_written_line_is_left_out_and_said_and_the_next_is_whole(build, caplog):
    append(build, decision(ONE, "approve"))
    path = build.local_path(DECISIONS)
    path.write_bytes(path.read_bytes() + b'{"key": "2222222222222222", "verdict": "rej')
    append(build, decision(OTHER, "keep"))
    with caplog.at_level(logging.WARNING):
        found = read_log(build)
    assert [one.key for one in found.decisions] == [ONE, OTHER] and found.invalid == 1
    assert "1 line(s) are not valid decisions" in caplog.text and "line 2" in caplog.text


def test_nothing_is_left_of_what_a_full_disk_cuts_off(build):
    append(build, decision(ONE, "approve"))
    before = build.read_bytes(DECISIONS)
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
    try:
        with pytest.raises(SurdError, match=r"decisions\.jsonl cannot be written"):
            append(build, decision(OTHER, "keep"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert build.read_bytes(DECISIONS) == before


def test_hostile_words_stay_words(build):
    append(build, decision(ONE, "reject", reason=HOSTILE), decision(OTHER, "edit", simple=HOSTILE))
    found = read(build)
    assert found[ONE].reason == found[OTHER].simple
    assert not {*"\x00\x1b\r\n"} & {*found[ONE].reason} and "<img src=x" in found[ONE].reason
    assert len(build.read_bytes(DECISIONS).splitlines()) == 2


@pytest.mark.parametrize(
    ("verdict", "fields"),
    [("edit", {}), ("edit", {"simple": " \n"}), ("keep", {"simple": "A fox."}), ("reject", {"reason": "x" * 501}),
     ("delete", {}), ("approve", {"at": "2026-11-29T12:00:00"}), ("approve", {"by": "me"})],
)  # fmt: skip
def test_what_is_no_decision_is_not_made(verdict, fields):
    assert MAX_REASON == 500
    with pytest.raises(ValidationError):
        decision(ONE, verdict, **fields)
    with pytest.raises(ValidationError):
        decision("../../etc/passwd", "approve")


def test_forgetting_takes_the_lines_and_every_mention(build, tmp_path):
    append(build, decision(ONE, "reject", reason="my face"), decision(OTHER, "reject", reason=f"the same as {ONE}"))
    (tmp_path / "build" / DECISIONS).open("ab").write(b'{"key": "111')
    assert remove(build, {ONE}) == 2
    text = build.read_bytes(DECISIONS).decode()
    assert ONE not in text and "my face" not in text and "111" not in text
    assert read(build)[OTHER].reason == "the same as (removed)"


def test_approve_edit_and_keep_add_up_and_reject_and_withdraw_end_them():
    steps = [decision(ONE, "keep"), decision(ONE, "edit", simple="A fox."), decision(ONE, "approve")]
    holds = combined(steps)
    assert holds[ONE].verdicts == ["approve", "keep", "edit"] and holds[ONE].keeps
    assert combined([*steps, decision(ONE, "reject", reason="x")])[ONE].verdicts == ["reject"]
    assert combined([*steps, decision(ONE, "withdraw")]) == {}
    assert combined([decision(ONE, "reject", reason="x"), decision(ONE, "keep")])[ONE].verdicts == ["keep"]


def test_a_stage_depends_on_the_verdicts_that_it_obeys_and_not_on_when_they_were_made():
    holds = combined([decision(ONE, "keep"), decision(OTHER, "keep"), decision(ONE, "approve")])
    assert latest_keeps(holds) == [OTHER, ONE] and decided(holds, ["keep"]) == {"keep": [OTHER, ONE]}
    reject = combined([decision(ONE, "reject", reason="x")])
    assert decided(reject, ["keep"]) == {}
    assert decided(reject, ["keep", "reject"]) == {"reject": {ONE: "x"}}


def test_on_an_object_store_nothing_is_lost_when_many_append_and_a_run_folds(objects):
    build = Build(f"s3://{BUCKET}/build")
    assert read(build) == {}
    append(build, decision(ONE, "approve"))
    append(build, decision(ONE, "reject", reason="x"))
    assert read(build)[ONE].verdict == "reject" and DECISIONS not in build.listdir("")
    segments = {name: objects.read(name) for name in objects.names("build/decisions/")}
    fold(build)
    append(build, decision(OTHER, "keep"))
    assert read(build).keys() == {ONE, OTHER} and len(objects.names("build/decisions/")) == 1
    for name, data in segments.items():  # as a kill leaves them that comes before they are removed
        objects.client.put_object(Bucket=BUCKET, Key=name, Body=data)
    assert [one.verdict for one in read_log(build).decisions] == ["approve", "reject", "keep"]
    assert remove(build, {ONE}) == 2 and in_force(build).keys() == {OTHER}
    assert not any(ONE.encode() in objects.read(name) for name in objects.names())


def test_a_folder_in_its_place_is_said(build):
    Path(build.root, DECISIONS).mkdir(parents=True)
    for call in (lambda: append(build, decision(ONE, "keep")), lambda: read(build)):
        with pytest.raises(SurdError, match=r"decisions\.jsonl"):
            call()
