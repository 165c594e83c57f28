"""What ``surd publish`` pushes, and what keeps a build from being published."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from surd.pipeline.acquisition.tombstones import Tombstones
from surd.pipeline.build.folder import Build
from surd.pipeline.build.open import open_build
from surd.pipeline.build.part_columns import read_columns
from surd.pipeline.dataset.columns.spec import columns_present
from surd.pipeline.dataset.publish.card import LIMITS, Making, describe, published_card, without_paths
from surd.pipeline.dataset.publish.contents import INDEX, Published, files_to_publish
from surd.pipeline.dataset.publish.croissant import CROISSANT, croissant
from surd.pipeline.dataset.publish.licence_ids import licence_urls
from surd.pipeline.dataset.publish.provenance import Provenance, read_provenance
from surd.pipeline.dataset.publish.target import Target
from surd.pipeline.decisions.in_force import in_force
from surd.pipeline.forget.find import parts_of
from surd.pipeline.forget.forget import PENDING
from surd.pipeline.selection.choose import read_rule
from surd.pipeline.selection.pictures import limits_of_rule
from surd.schemas import BuildRecord, SurdError
from surd.schemas.config.load import flat

CARD = "README.md"


@dataclass(frozen=True)
class Publication:
    """The files of a publication, what its samples state, and whether its card is the one that a person wrote."""

    files: list[Published]
    provenance: Provenance
    own_card: bool

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)


def check_publishable(build: Build) -> None:
    """Raise SurdError where the shards hold what was rejected since they were written, or a removal is to be done."""
    if build.exists(PENDING):
        raise SurdError(f"build is {build.root!r}: a removal is not finished; run surd forget {build.root} first")
    if not build.exists(INDEX):
        return  # files_to_publish says so
    keys = set(build.read_table(INDEX, columns=["key"])["key"].to_pylist())
    rejected = {key for key, hand in in_force(build).items() if hand.reject} & keys
    for part in parts_of(build, "select"):
        table = read_columns(build, "select", part, ["key", "status"])
        statuses = zip(table["key"].to_pylist(), table["status"].to_pylist(), strict=True)
        rejected |= {key for key, status in statuses if status != "kept"} & keys
    if rejected:
        raise SurdError(
            f"build is {build.root!r}: {len(rejected):,} sample(s) of its shards were rejected since these were"
            " written; run the same surd build again, which takes them out"
        )


def plan_publication(build: Build, target: Target, columns: Sequence[str], *, report: bool) -> Publication:
    """All files that are to be in the repo, card and Croissant among them. Raises SurdError."""
    files = files_to_publish(build, columns, report=report)
    provenance = read_provenance(build, Tombstones.read(build).keeps)
    if provenance.removed:
        raise SurdError(
            f"build is {build.root!r}: {provenance.removed:,} forgotten record(s) are still in its shards; remove them"
            f" with surd forget {shlex.quote(build.root)}, and see surd verify --forgotten"
        )
    present = columns_present(build)
    published = {name: present[name] for name in present if any(f"columns/{name}/" in file.path for file in files)}
    metadata = croissant(
        target.name, target.url, files, revision=target.revision, description=describe(provenance.count),
        licences=licence_urls(licence for licence, _ in provenance.licences), limits=LIMITS,
    )  # fmt: skip
    own_card = _own_card(build)
    card = own_card or published_card(target.name, target.repo_id, provenance, _making(build), published)
    beside = [Published.of_bytes(CARD, card), Published.of_bytes(CROISSANT, metadata)]
    return Publication([*files, *beside], provenance, own_card is not None)


def _own_card(build: Build) -> bytes | None:
    """The card that a person wrote in place of the one that stage pack left; None where there is none."""
    marker = build.ledger("pack").recorded(0)
    if not marker or CARD not in marker.outputs or not build.exists(CARD):
        return None
    card = Published.of_bytes(CARD, build.read_bytes(CARD))
    return card.data if card.sha256 != marker.outputs[CARD] else None


def _making(build: Build) -> Making:
    if not build.exists("build.json"):
        return Making()
    record = open_build(build.root)[1]
    none = ("none", "None", "")
    models = {role: model for role, model in record.models.items() if model.split(" ")[0] not in none}
    decided = sum(hand.keeps for hand in in_force(build).values())
    versions = {name: version for name, version in record.versions.items() if version != "not installed"}
    return Making(
        command=_command(record), models=models, thresholds=_thresholds(build), versions=versions, decided=decided
    )


def _command(record: BuildRecord) -> str:
    """The command that made a build, without secrets and without this machine's folders."""
    parameters = dict(record.parameters or {})
    source = without_paths(record.source or str(parameters.get("source", "")))
    parameters.pop("source", None)
    if record.made_by == "import":
        words = ["surd", "import", source.removeprefix("finished:")]
    else:
        words = ["surd", "build", *(["--profile", without_paths(record.profile)] if record.profile else [])]
        words += ["--source", source] if source else []
    for name, value in flat(parameters).items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        words += ["--param", f"{name}={without_paths(text)}"]
    return shlex.join(words)


def _thresholds(build: Build) -> list[str]:
    rule = read_rule(build)
    return [
        f"{one.column} >= {one.least:.4g}" + (f" ({one.origin})" if one.origin else "")
        for one in (rule.thresholds if rule else ())
    ] + [f"the picture's {limit}" for limit in (limits_of_rule(rule) if rule else ())]
