"""``surd forget``: which records go, the tombstones that keep them out, and their removal from every file of a build.

What is to be done is written first, as one file; then the tombstones; then everything that they name is removed. Each
step does nothing where it has been done. So a removal that was killed is finished by the next ``surd forget`` or ``surd
build``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from pydantic import BaseModel

from surd.pipeline.acquisition.tombstones import FORGOTTEN, Tombstones, plain_host
from surd.pipeline.build.damage import reading
from surd.pipeline.build.folder import Build
from surd.pipeline.build.open import open_build, recorded_config
from surd.pipeline.build.scratch import FOLDER as SCRATCH
from surd.pipeline.decisions.in_force import in_force
from surd.pipeline.decisions.log import remove as remove_decisions
from surd.pipeline.decisions.review import forget_reviews
from surd.pipeline.forget.find import INDEX, Found, find_records
from surd.pipeline.forget.outputs import remove_outputs
from surd.pipeline.forget.rows import remove_rows
from surd.pipeline.forget.samples import remove_samples, shards_of
from surd.pipeline.models import Models
from surd.pipeline.runner.plan import Planner
from surd.pipeline.runner.run_unit import run_unit
from surd.pipeline.stages import BY_NAME, STAGES
from surd.schemas import BuildConfig, SurdError, Tombstone

PENDING = ".forgetting.json"  # a removal that is under way
REPORT = "report.html"
_KEY = re.compile(r"[0-9a-f]{16}")
_LEFTOVER = re.compile(r".*\.[0-9a-f]{8}\.tmp")
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class RemovalRequest:
    """What is to be removed. ``records``: keys, URLs or page URLs; ``copies``: also other records of a picture."""

    records: Sequence[str] = ()
    authors: Sequence[str] = ()
    hosts: Sequence[str] = ()
    reason: str | None = None
    copies: bool = True


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What a removal takes, or would take. ``shards``: shard -> keys; ``removed``: counts by what it was.

    ``everywhere``: search also the files that should not hold any of it.
    """

    found: dict[str, Found]
    shards: dict[str, list[str]]
    tombstones: Tombstones
    everywhere: bool = False
    removed: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    @property
    def fresh(self) -> list[Found]:
        """Records that were not removed before."""
        return [one for one in self.found.values() if one.content]

    @property
    def size(self) -> int:
        """Bytes of their pictures, as fetch kept them."""
        return sum(one.size for one in self.fresh)

    @property
    def copies(self) -> list[Found]:
        return [one for one in self.fresh if one.copy_of]


def check_build(build: Build) -> None:
    """Raise SurdError where there is nothing to remove from."""
    if not any(build.exists(name) for name in ("build.json", INDEX, "collect")):
        raise SurdError(f"build is {build.root!r} and holds no build.json and no {INDEX}; give the folder of a build")


def plan_removal(build: Build, request: RemovalRequest) -> Removal:
    """What a request names, and its copies; writes nothing. Raises SurdError where it names a record that is not there.

    Without any name it is what the build's tombstones say.
    """
    known = Tombstones.read(build)
    rules = _rules(request, known)
    if not rules and not known:
        raise SurdError("nothing to remove is given; give keys, --author NAME, --host HOST or --list FILE")
    asked = known.adding(stone for _, stones in rules for stone in stones)
    found = find_records(build, asked, copies=request.copies)
    named = known.names.union(*(one.by for one in found.values()))
    _check_known(build, [text for text, stones in rules if not named & {_name_of(stone) for stone in stones}])
    wide = {_name_of(stone): stone for _, stones in rules for stone in stones if _is_wide(stone)}
    added = [stone for name, stone in wide.items() if name in named and name not in known.names]
    if rules:  # else all that was ever removed is looked for again
        names = {_name_of(stone) for _, stones in rules for stone in stones}
        found = {key: one for key, one in found.items() if one.content or one.by & names}
    tombstones = known.adding([*added, *_stones(found, known, request)])
    shards = shards_of(build, found.keys())
    return Removal(found=found, shards=shards, tombstones=tombstones, everywhere=not rules)


def forget(build: Build, plan: Removal) -> Removal:
    """Remove what a plan names from every file of the build, for good. The caller holds the build's lock."""
    pending = _Pending(
        keys=sorted(plan.found),
        everywhere=plan.everywhere,
        report=build.exists(REPORT),
        tombstones=plan.tombstones.text(),
    )
    build.write_json(PENDING, pending)
    removed, notes = _remove(build, pending)
    return replace(plan, removed=removed, notes=notes)


def finish_forgetting(build: Build) -> None:
    """Finish a removal that was killed, so that nothing is built on half of one. The caller holds the build's lock."""
    if build.exists(PENDING):
        with reading(build, PENDING):
            pending = _Pending.model_validate_json(build.read_bytes(PENDING))
        _remove(build, pending)


class _Pending(BaseModel):
    """A removal under way. ``report``: whether there was one, which is made again; ``tombstones``: the file's text."""

    keys: list[str]
    everywhere: bool
    report: bool
    tombstones: str


def _remove(build: Build, pending: _Pending) -> tuple[Counter[str], list[str]]:
    build.write_bytes(FORGOTTEN, pending.tombstones.encode())
    tombstones, keys = Tombstones.read(build), set(pending.keys)
    notes: list[str] = []
    config = _config(build, notes)
    build.remove(REPORT)
    _remove_leftovers(build)
    remove_outputs(build, keys)
    removed = remove_rows(build, keys, tombstones, config.fetch if config else None)
    models = Models(config.models) if config else None
    removed += remove_samples(build, keys, models, everywhere=pending.everywhere)
    removed["decisions"] = _remove_decisions(build, keys, config)
    removed["reviews"] = forget_reviews(build, keys)
    if pending.report:
        _make_report(build, config, notes)
    build.remove(PENDING)
    return removed, notes


def _remove_decisions(build: Build, keys: set[str], config: BuildConfig | None) -> int:
    """Remove what persons decided about the records. The stages that obeyed it have nothing to redo: the records'
    rows say nothing of it any more."""
    before = _fingerprints(build, config) if keys & in_force(build).keys() else {}
    removed = remove_decisions(build, keys)
    after = _fingerprints(build, config) if before else {}
    for stage, fingerprint in after.items():
        marker = build.marker(stage, 0)
        if marker and fingerprint != before.get(stage) and marker.fingerprint == before.get(stage):
            build.write_marker(marker.model_copy(update={"fingerprint": fingerprint}))
    return removed


def _fingerprints(build: Build, config: BuildConfig | None) -> dict[str, str]:
    """Of the stages that obey decisions; without those that cannot be planned: they are not done."""
    found: dict[str, str] = {}
    for stage in STAGES:
        if config and stage.decisions:
            with suppress(SurdError):
                found[stage.name] = Planner(build, config).fingerprint(stage, 0)
    return found


def _rules(request: RemovalRequest, known: Tombstones) -> list[tuple[str, list[Tombstone]]]:
    """What the user wrote, and the tombstones that it may stand for: a text may be an image's URL or a page's."""
    common = {"when": _now(), "why": request.reason}
    rules = []
    for text in request.records:
        if _KEY.fullmatch(text):
            rules.append((text, [Tombstone(key=text, **common)]))
        else:
            url, page = known.of_url(text), known.of_page(text)
            rules.append((text, [Tombstone(url=url, **common), Tombstone(page=page, **common)]))
    for author in request.authors:
        if not author.strip():
            raise SurdError("--author is empty; give the name as the source states it")
        rules.append((f"author {author}", [Tombstone(author=known.of_author(author), **common)]))
    for host in request.hosts:
        rules.append((f"host {host}", [Tombstone(host=known.of_host(_checked_host(host)), **common)]))
    return rules


def _checked_host(host: str) -> str:
    name = plain_host(host)
    if not name or re.search(r"[\s/@?#]|:\d*$", name):
        raise SurdError(f"--host is {host!r}: it is not a host name; give one such as images.example.org")
    return name


def _check_known(build: Build, unknown: Sequence[str]) -> None:
    if unknown:
        some = ", ".join(repr(text[:80]) for text in unknown[:_SHOWN])
        more = f" and {len(unknown) - _SHOWN:,} more" if len(unknown) > _SHOWN else ""
        raise SurdError(
            f"{build.root!r} has no record of {some}{more}; nothing was removed: give keys of 16 hex digits, URLs,"
            " authors or hosts as surd inspect shows them, and leave out the others"
        )


def _name_of(stone: Tombstone) -> str:
    return stone.key or stone.url or stone.page or stone.author or stone.host or ""


def _is_wide(stone: Tombstone) -> bool:
    """Whether it stands for records to come, beyond those that are there."""
    return bool(stone.page or stone.author or stone.host)


def _stones(found: dict[str, Found], known: Tombstones, request: RemovalRequest) -> list[Tombstone]:
    """A tombstone of each record that has none. Where copies stay, its picture may come again."""
    stones = []
    for one in found.values():
        pictures = one.pictures if request.copies else set()
        if one.key not in known.keys or pictures - known.pictures:
            url = known.of_url(one.url) if one.url else None
            common = {"copy_of": one.copy_of, "when": _now(), "why": request.reason}
            stones.append(Tombstone(key=one.key, url=url, pictures=sorted(pictures), **common))
    return stones


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _config(build: Build, notes: list[str]) -> BuildConfig | None:
    """What the build was made with, as far as it can be read: what is removed does not depend on it."""
    if not build.exists("build.json"):
        return None
    try:
        config = recorded_config(*open_build(build.root))
    except SurdError as error:
        notes.append(f"build.json cannot be read, so the next surd build may redo what it finds changed ({error})")
        return None
    servers = [role for role in config.models.roles() if "://" in config.models.ref(role)]
    if servers:
        where = config.models.server.cache or "llm-answers.sqlite in the user's cache folder"
        notes.append(
            f"answers of servers ({', '.join(servers)}) are cached outside the build, in {where}, by a hash of the"
            " request: remove that file if their texts must go too"
        )
    return config


def _remove_leftovers(build: Build) -> None:
    """What killed writers left, which may hold any record. Nobody else writes: the caller holds the lock."""
    build.put_back("shards")
    build.remove(SCRATCH)
    for file in build.walk():
        if _LEFTOVER.fullmatch(file):
            build.remove(file)


def _make_report(build: Build, config: BuildConfig | None, notes: list[str]) -> None:
    """The report without the records; where it cannot be made it stays away."""
    with suppress(SurdError, OSError):
        if config:
            build.remove_marker("report", 0)
            run_unit(BY_NAME["report"], 0, build.root, config)
            return
    notes.append(
        f"{REPORT} was removed and could not be made again: surd report BUILD makes it once the build is whole"
    )
