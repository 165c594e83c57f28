"""Why a build keeps nothing: the commonest reasons, an example of each, and what to try."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from surd.pipeline.build.folder import Build, part_file
from surd.pipeline.models import demo_only_roles, role_names
from surd.schemas import BuildConfig, Reason, Status
from surd.schemas.errors import NothingKept

_SHOWN = 3
_NEEDS_PROMPTS = (
    "give pictures whose files hold generation metadata, or a list with a column of prompts"
    " (--param urls.prompt_column=NAME), or let the captioner write them: --param prompts.caption_missing=true"
)
_SERVERS = "look at the servers' answers in the details, and run the same command again later"
_FILES = "look at the files: the source may name other files than its pictures"
_BUILD = "BUILD"
_THRESHOLDS = f"ask what other thresholds would keep: surd select {_BUILD} --param select.false_match_rate_complex=0.1"
_TRY: dict[Reason, str] = {
    Reason.NO_IMAGE: "name the column of image URLs: --param urls.url_column=NAME",
    Reason.FETCH_FAILED: _SERVERS,
    Reason.HTTP_ERROR: _SERVERS,
    Reason.FORBIDDEN_ADDRESS: "if the addresses are your own machines', allow them:"
    " --param 'fetch.allow_hosts=[\"HOST\"]'",
    Reason.NOT_AN_IMAGE: _FILES,
    Reason.UNREADABLE_FILE: _FILES,
    Reason.UNREADABLE_ROW: "look at the rows named in the details",
    Reason.TOO_LARGE: "raise fetch.max_bytes or fetch.max_pixels",
    Reason.NO_PROMPT: _NEEDS_PROMPTS,
    Reason.NO_SIMPLE_PROMPT: "name the column of simple prompts: --param urls.simple_column=NAME",
    Reason.NSFW: "keep what is not work-safe: --param clean.allow_nsfw=true",
    Reason.FOREIGN_LANGUAGE: 'list the languages to keep: --param \'clean.languages=["en", "de"]\'; []: any',
    Reason.NO_CANDIDATE: "choose another captioner or LLM: surd models shows them",
    Reason.MISMATCH: "choose a CLIP that knows such pictures: --param models.clip=MODEL",
    Reason.BELOW_THRESHOLD: _THRESHOLDS,
}


@dataclass
class _Group:
    count: int
    key: str
    detail: str | None


def check_kept(build: Build, config: BuildConfig) -> None:
    """Raise NothingKept if the build's selection is empty. Call it before shards are written: those there stay."""
    groups: dict[Reason, _Group] = {}
    for part in range(build.part_count()):
        table = build.read_table(part_file("select", part), columns=["status"])
        if Status.KEPT in table["status"].to_pylist():
            return
    for part in range(build.part_count()):
        table = build.read_table(part_file("select", part), columns=["key", "reason", "detail"])
        for key, reason, detail in zip(*(column.to_pylist() for column in table.columns), strict=True):
            group = groups.setdefault(Reason(reason), _Group(0, key, detail))
            group.count += 1
    raise NothingKept(_sentence(build, config, groups))


def _sentence(build: Build, config: BuildConfig, groups: dict[Reason, _Group]) -> str:
    counts = Counter({reason: group.count for reason, group in groups.items()})
    shards = "; the shards that were there stay" if build.exists("shards/manifest.json") else ""
    lines = [f"out is {build.root!r}: none of its {counts.total()} records is kept{shards}"]
    for reason, count in counts.most_common(_SHOWN):
        group = groups[reason]
        example = f"{group.key}: {group.detail}" if group.detail else group.key
        lines.append(f"  {count} {reason.value}: {reason.meaning} (for example {example})")
    remedies = dict.fromkeys(_TRY[reason] for reason, _ in counts.most_common(_SHOWN) if reason in _TRY)
    if roles := demo_only_roles(config):
        names = role_names(roles)
        remedies[f"use real models, for example with --profile small; made for the demo alone: {names}"] = None
    remedies[f"look at one record: surd inspect {_BUILD} KEY"] = None
    lines += [f"  try: {remedy.replace(_BUILD, build.root)}" for remedy in remedies]
    return "\n".join(lines)
