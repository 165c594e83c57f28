"""``surd publish`` against a hub on this machine: what leaves, what never does, what is sent again, what is refused."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import mlcroissant
import pytest
import yaml
from huggingface_hub import HfApi, constants

from surd.flows.cli.main import main
from surd.pipeline.acquisition.tombstones import FORGOTTEN, Tombstones
from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.publish import hub as hub_module
from surd.pipeline.decisions.log import append
from surd.pipeline.forget import forget as removal
from surd.pipeline.forget.forget import RemovalRequest, plan_removal
from surd.schemas import Decision
from tests.hub_server import EXPIRED, READER, WRITER, Hub, serve_hub
from tests.pipeline.finished_sets import other_json, restate, rewrite

TARGET, REPO = "hf://datasets/me/flowers", "me/flowers"
SHARDS = [f"shards/surd-{number:05d}.tar" for number in range(3)]


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Hub:
    """An empty hub, to which huggingface_hub is led, and a token that may write."""
    with serve_hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the server speaks git-lfs
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setenv("HF_TOKEN", WRITER)
        yield server


@pytest.fixture
def publish(monkeypatch, capsys):
    """Runs ``surd publish``; gives (exit code, stdout, stderr)."""

    def run(build, *arguments, target=TARGET):
        monkeypatch.setattr(sys, "argv", ["surd", "publish", str(build), target, *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, *capsys.readouterr()

    return run


def keys(build: Path) -> list[str]:
    return Build(str(build)).read_table("shards/index.parquet", columns=["key"])["key"].to_pylist()


def refused(result, *words: str) -> None:
    """Exit code 2 and one sentence with these words, without a traceback and without a token."""
    code, _, err = result
    assert code == 2 and err.count("\n") == 1 and "Traceback" not in err
    assert all(word in err for word in words), err
    assert not any(token in err for token in (WRITER, READER, EXPIRED))


def test_only_the_dataset_leaves_and_a_repo_is_private_unless_asked(hub, publish, breakable):
    code, out, err = publish(breakable, "--yes")
    assert (code, err) == (0, "") and f"{hub.url}/datasets/{REPO}: 7 file(s) sent" in out
    there = hub.files(REPO)
    assert set(there) == {*SHARDS, "shards/index.parquet", "shards/manifest.json", "README.md", "croissant.json"}
    for path in {*SHARDS, "shards/index.parquet", "shards/manifest.json"}:
        assert there[path] == (breakable / path).read_bytes()
    assert hub.repos[REPO].private and len(hub.repos[REPO].commits) == 1
    assert WRITER not in out and hub.tokens == {WRITER}

    publish(breakable, "--yes", "--public", "--columns", "llm-13b-l39", "--report", target="hf://me/other")
    there = hub.files("me/other")
    assert not hub.repos["me/other"].private and "report.html" in there
    assert {path.split("/")[1] for path in there if path.startswith("columns/")} == {"llm-13b-l39"}
    refused(publish(breakable, "--yes", target="hf://datasets/me/other"), "is a public repo", "--public")


def test_a_dry_run_lists_files_and_bytes_and_asks_the_hub_nothing(hub, publish, breakable):
    code, out, _ = publish(breakable, "--dry-run", "--json", "--columns", "all")
    document = json.loads(out)
    sizes = {file["path"]: file["bytes"] for file in document["files"]}
    assert code == 0 and sizes[SHARDS[0]] == (breakable / SHARDS[0]).stat().st_size
    assert document["bytes"] == sum(sizes.values()) and len(sizes) == 7 + 2 * 4
    assert "none stated" in publish(breakable, "--dry-run")[1] and hub.requests == []


def test_a_second_push_sends_nothing_and_one_after_a_takedown_what_changed(hub, publish, breakable):
    columns = ("--columns", "all")
    assert publish(breakable, "--yes", *columns)[0] == 0
    before, uploads = hub.files(REPO), hub.uploads.total()
    _, out, _ = publish(breakable, "--yes", *columns, "--json")
    again = json.loads(out)
    assert (again["sent"], again["removed"], again["bytes"]) == ([], [], 0)
    assert hub.uploads.total() == uploads and len(hub.repos[REPO].commits) == 1

    build = Build(str(breakable))
    first = build.read_table("shards/index.parquet").to_pylist()[0]
    removal.forget(build, plan_removal(build, RemovalRequest(records=[first["key"]])))
    (breakable / "columns" / "llm-13b-l39").rename(breakable / "gone")
    _, out, _ = publish(breakable, "--yes", *columns, "--json")
    later, after = json.loads(out), hub.files(REPO)
    assert {path for path in later["sent"] if path.endswith(".tar")} == {
        SHARDS[0], "columns/llm-13b-l10-tokens/surd-00000.tar",
    }  # fmt: skip
    assert {path.split("/")[1] for path in later["removed"]} == {"llm-13b-l39"}
    assert after[SHARDS[1]] == before[SHARDS[1]] and set(after) < set(before)
    assert not any(first["key"].encode() in data for data in after.values())
    assert any(first["key"].encode() in hub.content(data) for data in hub.repos[REPO].commits[0].values())
    HfApi(token=WRITER).super_squash_history(REPO, repo_type="dataset")
    assert len(hub.repos[REPO].commits) == 1
    assert set(hub.uploads.values()) == {1}


def test_a_killed_push_goes_on_and_stores_nothing_twice(hub, publish, breakable, tmp_path):
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "hf")}
    arguments = ["publish", str(breakable), TARGET, "--yes", "--columns", "all"]
    command = [sys.executable, "-c", "from surd.flows.cli.start import main; main()", *arguments]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    hub.on_upload = lambda count: os.kill(process.pid, signal.SIGKILL) if count == 5 else None
    output, _ = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, output
    assert hub.repos[REPO].commits == [] and hub.files(REPO) == {}
    stored = hub.uploads.copy()
    assert stored.total() >= 5

    hub.on_upload = lambda count: None
    assert publish(breakable, "--yes", "--columns", "all")[0] == 0
    assert len(hub.uploads) == 10 > len(stored)  # nine tars and the index
    assert set(hub.uploads.values()) == {1}
    for path in [*SHARDS, "shards/index.parquet", "columns/llm-13b-l39/surd-00002.tar"]:
        assert hub.files(REPO)[path] == (breakable / path).read_bytes()


def test_large_files_go_from_the_disk_to_a_branch(hub, publish, breakable, monkeypatch):
    monkeypatch.setattr(hub_module, "_SMALL", 0)
    hub.chunk_size = 4096  # each in several parts
    assert publish(breakable, "--yes", "--revision", "v2/next")[0] == 0
    assert hub.files(REPO, "v2/next")[SHARDS[2]] == (breakable / SHARDS[2]).read_bytes()
    assert hub.files(REPO) == {}


def test_without_a_token_that_may_write_one_sentence_says_so(hub, publish, breakable, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", EXPIRED)
    refused(publish(breakable, "--yes"), "HF_TOKEN is refused", "expired")
    monkeypatch.delenv("HF_TOKEN")
    refused(publish(breakable, "--yes"), "HF_TOKEN is missing", "hf auth login")
    monkeypatch.setenv("HF_TOKEN", WRITER)
    refused(publish(breakable, "--yes", target="hf://datasets/them/set"), "may not write to hf://datasets/them/set")
    assert publish(breakable, "--yes")[0] == 0
    (breakable / "README.md").write_text("another")
    monkeypatch.setenv("HF_TOKEN", READER)
    refused(publish(breakable, "--yes"), "may not write", "write token")


def test_a_hub_that_cannot_be_reached_is_one_sentence(publish, breakable, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setenv("HF_TOKEN", WRITER)
        refused(publish(breakable, "--yes"), "cannot be reached", "run the same command again")


def test_files_that_a_repo_ignores_are_not_taken_for_published(hub, publish, breakable):
    hub.ignored = "00001.tar"
    refused(publish(breakable, "--yes"), "has not got shards/surd-00001.tar", ".gitignore")


def test_a_build_that_is_not_sound_or_not_licensed_or_holds_rejected_samples_stays(hub, publish, breakable):
    refused(publish(breakable), "of 12 of its 12 pictures no licence is known", "--yes")
    append(Build(str(breakable)), Decision.model_validate({"key": keys(breakable)[3], "verdict": "reject"}))
    refused(publish(breakable, "--yes"), "1 sample(s) of its shards were rejected", "surd build again")
    (breakable / "decisions.jsonl").unlink()
    stone = json.dumps({"key": keys(breakable)[0], "when": "2026-11-29"})
    (breakable / FORGOTTEN).write_text('{"salt": "00"}\n' + stone + "\n")
    refused(publish(breakable, "--yes"), "1 forgotten record(s) are still in its shards", "surd forget")
    by_author = {"author": Tombstones("00").of_author("Ann"), "when": "2026-11-29"}
    (breakable / FORGOTTEN).write_text('{"salt": "00"}\n' + json.dumps(by_author) + "\n")
    rewrite(breakable / SHARDS[2], other_json(author="ann"))
    restate(breakable / "shards")
    refused(publish(breakable, "--yes"), "1 forgotten record(s) are still in its shards", "surd forget")
    (breakable / FORGOTTEN).unlink()
    data = bytearray((breakable / SHARDS[1]).read_bytes())
    data[700] ^= 1
    (breakable / SHARDS[1]).write_bytes(data)
    refused(publish(breakable, "--yes"), "is not sound", SHARDS[1], "--repair")
    assert not any(" /lfs" in request or "commit" in request for request in hub.requests)
    refused(publish(breakable, "--yes", "--no-verify"), SHARDS[1], "nothing was published")
    assert hub.files(REPO) == {}


@pytest.mark.parametrize(
    "target",
    ["hf://datasets/me", "hf://datasets/me/../you", "hf://me/a..b", "s3://me/x", "hf://datasets/me/x@y", "hf://me/\x1b[2J",
     "hf://spaces/me/x", "hf://datasets/me/-x"],
)  # fmt: skip
def test_names_that_are_not_of_a_repo_are_refused(publish, breakable, target):
    result = publish(breakable, "--dry-run", target=target)
    refused(result, "TARGET is")
    assert "\x1b" not in result[2]


def test_hostile_names_lead_nowhere(hub, publish, breakable):
    refused(publish(breakable, "--dry-run", "--columns", "../fetch"), "--columns is '../fetch'")
    refused(publish(breakable, "--yes", "--revision", "a..b"), "--revision is 'a..b'")
    manifest = breakable / "columns" / "llm-13b-l39" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("surd-00001.tar", "../../fetch/part-00000.tar"))
    refused(publish(breakable, "--yes", "--no-verify", "--columns", "all"), "'../../fetch/part-00000.tar'")
    (breakable / "shards" / "surd-00001.tar").unlink()
    refused(publish(breakable, "--yes", "--no-verify"), "surd-00001.tar is missing")
    assert hub.repos == {}


def test_the_card_says_whose_pictures_these_are_and_obeys_no_text_of_theirs(hub, publish, breakable):
    hostile = "| x |\n\n<script>alert(1)</script> `[a](javascript:b)`\x1b[2J" + "y" * 500
    stated = [{"licence": "CC BY 4.0"}, {"licence": hostile, "terms": "no AI"}, {"licence": " "}]
    for shard, fields in zip(SHARDS, stated, strict=True):
        rewrite(breakable / shard, other_json(page_url=f"https://www.{'x' * len(fields)}.example/p", **fields))
    restate(breakable / "shards")
    code, out, _ = publish(breakable, "--yes", "--no-verify")
    card = hub.files(REPO)["README.md"].decode()
    head = yaml.safe_load(card.split("---\n")[1])
    assert code == 0 and "\x1b" not in out + card
    assert head["license"] == ["cc-by-4.0", "other", "unknown"]
    assert head["size_categories"] == ["n<1K"] and head["task_categories"] == ["text-to-image"]
    assert head["configs"][0]["data_files"] == "shards/*.tar"
    row = next(line for line in card.splitlines() if "script" in line)
    assert row.startswith("| `\\| x \\| <script>") and row.count("`") == 4 and len(row) < 300
    assert re.search(r"\| `CC BY 4.0` \| .* \| 1 \|", card) and re.search(r"\| \*none stated\* \| .* \| 10 \|", card)
    assert "`no AI`" in row
    assert "| `x.example` | 2 |" in card and "Limits" in card and "surd import authors:SURD" in card
    assert str(breakable.parent.parent) not in card


def test_a_card_that_a_person_wrote_is_published_as_it_is(hub, publish, breakable):
    (breakable / "README.md").write_text("---\nlicense: mit\n---\n\n# Mine\n")
    assert "README.md is your own" in publish(breakable, "--yes")[1]
    assert hub.files(REPO)["README.md"] == (breakable / "README.md").read_bytes()


def test_croissant_metadata_is_valid_and_gives_every_sample(hub, publish, breakable, tmp_path, caplog):
    assert publish(breakable, "--yes", "--columns", "all")[0] == 0
    document = tmp_path / "croissant.json"
    document.write_bytes(hub.files(REPO)["croissant.json"])
    local = {path: breakable / path for path in [*SHARDS, "shards/index.parquet"]}
    dataset = mlcroissant.Dataset(jsonld=document, mapping=local)
    issues = dataset.metadata.ctx.issues
    assert not issues.errors and all("datePublished" in warning for warning in issues.warnings)
    described = {file.id: file.sha256 for file in dataset.metadata.file_objects}
    assert set(described) == set(local) and all(file in str(described) for file in described)
    samples = list(dataset.records("samples"))
    assert {sample["samples/key"].decode() for sample in samples} == set(keys(breakable))
    assert {sample["samples/image"].size for sample in samples} == {(32, 24)}
    assert all(sample["samples/simple"].decode().startswith("simple «") for sample in samples)
    assert all(
        f"{hub.url}/datasets/{REPO}/resolve/main/shards" in file.content_url for file in dataset.metadata.file_objects
    )


def test_a_dataset_without_its_stages_can_be_published(hub, publish, breakable, tmp_path):
    shutil.copytree(breakable / "shards", tmp_path / "bare" / "shards")
    assert publish(tmp_path / "bare", "--yes")[0] == 0
    assert "surd import" not in hub.files(REPO)["README.md"].decode()
