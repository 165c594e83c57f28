"""What a person can mend about an object store is one sentence, and what was built stays."""

from __future__ import annotations

import sys

import pytest
from s3fs import S3FileSystem

from surd.flows.cli.main import main
from surd.pipeline.build.folder import Build
from surd.pipeline.build.lease import FOLDER, LeaseTimes
from surd.pipeline.build.lock import exclusive
from tests.object_store import BUCKET, ObjectStore

pytest_plugins = ["tests.object_fixtures"]
ROOT = f"s3://{BUCKET}/build"


@pytest.fixture
def surd(objects, monkeypatch, capsys, tmp_path):
    """Runs ``surd`` with arguments; gives its exit code and what it prints to stderr."""
    monkeypatch.setenv("HOME", str(tmp_path))
    objects.client.put_object(Bucket=BUCKET, Key="build/photographs.zip", Body=b"built")

    def run(*arguments: str) -> tuple[int, str]:
        S3FileSystem.clear_instance_cache()  # clients keep the address and keys of their making
        monkeypatch.setattr(sys, "argv", ["surd", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        objects.refuse = ObjectStore.refuse
        assert [name for name in objects.names() if FOLDER not in name] == ["build/photographs.zip"]
        return ended.value.code, capsys.readouterr().err

    yield run
    S3FileSystem.clear_instance_cache()


def says(ended: tuple[int, str], *words: str) -> None:
    code, error = ended
    assert code == 2 and error.startswith("error: ") and error.count("\n") == 1 and "Traceback" not in error
    assert all(word in error for word in words), error


def test_without_credentials(surd, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    wanted = (f"out is '{ROOT}'", "Unable to locate credentials", "AWS_ACCESS_KEY_ID", "what was built stays")
    says(surd("build", "--out", ROOT), *wanted)
    says(surd("verify", ROOT), *wanted)


def test_with_credentials_that_have_expired(surd, objects):
    objects.refuse = lambda method, path: "ExpiredToken"
    says(surd("build", "--out", ROOT), f"out is '{ROOT}'", "refuses", "credentials")


def test_in_a_bucket_that_may_not_be_written(surd, objects):
    objects.refuse = lambda method, path: "AccessDenied" if method == "PUT" else None
    says(surd("build", "--out", ROOT), f"out is '{ROOT}'", "AccessDenied", "what they allow")


def test_while_another_run_is_at_work_there(surd):
    with exclusive(Build(ROOT), LeaseTimes(beat=0.2)) as check:
        says(surd("build", "--out", ROOT), f"out is '{ROOT}'", "another run is working", "process", "wait until it has")
        check()


def test_with_a_clock_that_is_an_hour_off(surd, objects):
    objects.refuse = lambda method, path: "RequestTimeTooSkewed"
    says(surd("build", "--out", ROOT), f"out is '{ROOT}'", "this machine is 60 minutes off; set the clock")


def test_in_a_bucket_that_is_not_there(surd, objects):
    says(surd("build", "--out", "s3://nowhere/build"), "out is 's3://nowhere/build'", "bucket does not exist")
    assert [bucket["Name"] for bucket in objects.client.list_buckets()["Buckets"]] == [BUCKET]


def test_at_an_address_where_nothing_answers(surd, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    says(surd("build", "--out", ROOT), f"out is '{ROOT}'", "does not answer", "AWS_ENDPOINT_URL")


def test_of_a_protocol_that_nothing_here_reads(surd):
    says(surd("build", "--out", "gs://bucket/build"), "out is 'gs://bucket/build'", "gcsfs", "pip install")
