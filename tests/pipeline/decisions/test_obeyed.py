"""What persons decided holds in the next run, in every later one, and in one of a source that has grown by a tenth."""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.columns import compute
from surd.pipeline.dataset.verify.dataset import read_manifests, verify
from surd.pipeline.decisions import append
from surd.pipeline.decisions.log import DECISIONS
from surd.pipeline.forget.forget import RemovalRequest, forget, plan_removal
from surd.pipeline.forget.leftovers import find_leftovers
from surd.pipeline.runner.verify_markers import verify_stages
from surd.pipeline.sources import new_record
from surd.schemas import BuildConfig, BuildRecord, Decision, Reason, load_config
from tests.bench.growth import counted, write_gallery
from tests.pipeline.conftest import redone, run_all

COUNT = 10
WORDS = "Her <b>face</b> & ünï"
SENTENCE = 'A <script>alert("fox")</script> sleeps in the snow.'


@dataclass
class World:
    """A folder of pictures, of which the first has a larger copy, and its build."""

    folder: Path
    config: BuildConfig

    @property
    def root(self) -> Path:
        return self.folder / "build"

    @property
    def build(self) -> Build:
        return Build(str(self.root))

    def gallery(self, count: int) -> None:
        old = self.folder / "gallery"
        if old.exists():
            old.rename(self.folder / f"gallery-before-{count}")
        write_gallery(old, range(count), [0], 5)

    def run(self) -> tuple[set[str], dict[str, int]]:
        """The stages that had anything to do, and how many rows the models were asked about."""
        with counted() as asked:
            stages = redone(run_all(self.root, self.config))
        record = BuildRecord(config=self.config.model_dump(mode="json"), versions={}, models={})
        self.build.write_json("build.json", record)
        return stages, {what: rows for what, rows in asked.items() if rows}

    def keys(self) -> dict[str, str]:
        """File -> key."""
        return {row["source_id"].rpartition("/")[2]: row["key"] for row in self.rows("collect")}

    def rows(self, stage: str) -> list[dict[str, Any]]:
        parts = (f"{stage}/part-{part:05d}.parquet" for part in range(self.build.part_count()))
        return [row for part in parts for row in self.build.read_table(part).to_pylist()]

    def verdicts(self) -> dict[str, dict[str, Any]]:
        return {row["key"]: row for row in self.rows("select")}

    def delivered(self) -> dict[str, dict[str, Any]]:
        """Key -> what a shard says of it."""
        found = {}
        for name in self.build.listdir("shards"):
            if name.endswith(".tar"):
                with tarfile.open(self.root / "shards" / name) as tar:
                    for member in tar:
                        if member.name.endswith(".json"):
                            found[member.name[:16]] = json.load(tar.extractfile(member))
        return found

    def arrays(self) -> dict[str, bytes]:
        """Column, key and suffix -> bytes of every array."""
        return {
            f"{column}/{member.name}": tar.extractfile(member).read()
            for column in self.build.listdir("columns")
            for name in self.build.listdir(f"columns/{column}")
            if name.endswith(".tar")
            for tar in [tarfile.open(self.root / "columns" / column / name)]
            for member in tar
        }

    def faults(self) -> list[str]:
        checked = [*verify(self.build, read_manifests(self.build)), *verify_stages(self.build)]
        return [str(finding) for one in checked for finding in one.findings]


def keep_in(seen: list[Any]):
    def keep(one: Any) -> Any:
        seen.append(one)
        return one

    return keep


def new_key(world: World, file: str) -> str:
    """The key that a picture of the folder will have."""
    record = world.rows("collect")[0]
    source_id = record["source_id"].rpartition("/")
    return new_record(record["source"], f"{source_id[0]}{source_id[1]}{file}").key


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    """Built once, with a threshold that one sample does not meet; no test before the first has decided anything."""
    folder = tmp_path_factory.mktemp("decided")
    settings = {
        "source": f"folder:{folder / 'gallery'}", "partition_size": 20, "rewrite.enabled": False, "pack.max_count": 20,
        "facts.similarity": None, "embed.layers": [], "embed.columns": ["latents", "clip-simple"],
    }  # fmt: skip
    world = World(folder, load_config({}, settings))
    world.gallery(COUNT)
    world.run()
    return world


def test_every_verdict_is_obeyed_and_no_model_is_asked_about_other_rows(world, monkeypatch):
    names, before = world.keys(), world.verdicts()
    kept = sorted((row["clip_simple"], key) for key, row in before.items() if row["status"] == "kept")
    twin, large = names["00000.png"], names["00000-large.png"]
    assert before[twin]["reason"] == Reason.DUPLICATE_IMAGE and len(kept) > 6
    (_, approved), (second, lost) = [pair for pair in kept if pair[1] != large][:2]
    rejected, edited = [key for _, key in kept if key not in (large, approved, lost)][:2]
    threshold = (second + next(score for score, key in kept if score > second)) / 2
    world.config = world.config.model_copy(
        update={"select": world.config.select.model_copy(update={"min_clip_simple": threshold})}
    )
    world.run()
    assert {world.verdicts()[key]["reason"] for key in (approved, lost)} == {Reason.BELOW_THRESHOLD}
    arrays, untouched = world.arrays(), before.keys() - {twin, large, approved, lost, rejected, edited}
    future = Decision(key="f" * 16, verdict="reject", reason="not here yet")
    append(
        world.build, Decision(key=rejected, verdict="reject", reason=WORDS), Decision(key=approved, verdict="approve"),
        Decision(key=edited, verdict="edit", simple=SENTENCE), Decision(key=twin, verdict="keep"), future,
    )  # fmt: skip
    texts: list[str] = []
    latents: list[str] = []
    of_texts, of_pictures = compute.clip_arrays, compute.latent_arrays
    monkeypatch.setattr(
        compute, "clip_arrays", lambda *args: of_texts(*(args[0], [*map(keep_in(texts), args[1])], *args[2:]))
    )
    monkeypatch.setattr(compute, "latent_arrays", lambda *args: (keep_in(latents)(one) for one in of_pictures(*args)))
    stages, asked = world.run()
    assert not stages & {"collect", "fetch", "decode", "clean"} and {"dedup", "select", "pack", "embed"} <= stages
    assert asked["CLIP pictures"] == asked["NSFW pictures"] == asked["captioned pictures"] == 1  # the twin's
    now, delivered = world.verdicts(), world.delivered()
    assert (now[rejected]["reason"], now[rejected]["rejected_by"]) == (Reason.REJECTED_BY_HAND, "select")
    assert now[rejected]["detail"] == f"decided by hand: {WORDS}" and now[rejected]["by_hand"] == "reject"
    assert now[approved]["status"] == "kept" and "kept though clip_simple" in now[approved]["detail"]
    assert now[lost]["reason"] == Reason.BELOW_THRESHOLD
    assert (now[edited]["simple_by_hand"], now[edited]["clip_simple"]) == (SENTENCE, None)
    assert (delivered[edited]["simple"], delivered[edited]["method"]) == (SENTENCE, "hand")
    corrected = {row["key"]: row["simple"] for row in world.rows("correct")}
    assert corrected[edited] not in (None, SENTENCE)  # the sentence before stays beside it
    assert (now[large]["reason"], now[large]["rejected_by"]) == (Reason.DUPLICATE_IMAGE, "dedup")
    assert f"{twin} stays, decided by hand" in now[large]["detail"] and now[twin]["reason"] != Reason.DUPLICATE_IMAGE
    assert {key: now[key]["status"] for key in untouched} == {key: before[key]["status"] for key in untouched}
    assert set(texts) - {SENTENCE, ""} <= {corrected[key] for key in (approved, twin)} and SENTENCE in texts
    assert {key for key, _ in latents} <= {approved, twin}
    after = world.arrays()
    shared = {name for name in arrays.keys() & after.keys() if edited not in name}
    assert len(shared) > 6 and all(arrays[name] == after[name] for name in shared)
    assert after[f"clip-simple/{edited}.npy"] != arrays[f"clip-simple/{edited}.npy"]
    assert world.faults() == []
    page = (world.root / "report.html").read_text()
    assert "decided by hand" in page and "<b>face</b>" not in page and 'alert("fox")' not in page


def test_a_run_without_new_decisions_has_nothing_to_do(world):
    assert world.run() == (set(), {})


def test_decisions_outlive_a_crawl_that_grew_the_source_by_a_tenth(world):
    before, lines = world.verdicts(), world.build.read_bytes(DECISIONS)
    by_hand = {key for key, row in before.items() if row["by_hand"]}
    assert len(by_hand) >= 3
    key_of_new = new_key(world, f"{COUNT:05d}.png")
    append(world.build, Decision(key=key_of_new, verdict="reject", reason="known from elsewhere"))
    world.gallery(COUNT + 1)
    world.run()
    now = world.verdicts()
    assert len(now) == len(before) + 1
    assert now[key_of_new]["reason"] == Reason.REJECTED_BY_HAND
    for key in by_hand:
        assert {name: now[key][name] for name in ("status", "reason", "by_hand", "simple_by_hand")} == {
            name: before[key][name] for name in ("status", "reason", "by_hand", "simple_by_hand")
        }
    assert world.build.read_bytes(DECISIONS).startswith(lines)


def test_what_was_removed_leaves_no_word_of_a_person_and_nothing_to_redo(world):
    rejected = next(key for key, row in world.verdicts().items() if row["detail"] == f"decided by hand: {WORDS}")
    edited = next(key for key, row in world.verdicts().items() if row["simple_by_hand"])
    forget(world.build, plan_removal(world.build, RemovalRequest(records=[rejected, edited])))
    assert [str(one) for one in find_leftovers(world.build)] == []
    texts = [path.read_bytes() for path in world.root.rglob("*") if path.is_file() and path.suffix != ".parquet"]
    assert not any(b"face</b>" in text or b"sleeps in the snow" in text for text in texts)
    assert not any("snow" in str(row) or "face" in str(row) for row in world.rows("select"))
    stages, asked = world.run()
    assert (stages - {"collect"}, asked) == (set(), {}) and world.faults() == []


def test_withdrawn_decisions_leave_the_build_as_if_they_had_not_been(world):
    kept = [key for key, row in world.verdicts().items() if row["by_hand"]]
    append(world.build, *(Decision(key=key, verdict="withdraw") for key in kept))
    world.run()
    now = world.verdicts()
    assert all("by_hand" not in row or row["by_hand"] is None for row in now.values())
    assert now[world.keys()["00000.png"]]["reason"] == Reason.DUPLICATE_IMAGE
