"""What a run builds: the parameters given to it, over those that the folder's ``build.json`` remembers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from surd.flows.request import default_out, find_profile, resolve_config
from surd.pipeline.build.folder import Build
from surd.pipeline.build.open import open_build
from surd.pipeline.net.urls import redact_secrets
from surd.pipeline.selection.choose import SELECTION
from surd.pipeline.selection.pictures import check_limits
from surd.pipeline.sources import SOURCES_WITH_PATHS
from surd.pipeline.stages import STAGES
from surd.schemas import BuildConfig, BuildRecord, SurdError, load_config
from surd.schemas.config.load import flat, overlay
from surd.schemas.entry_points import FILTERS, extensions
from surd.schemas.paths import absolute

DEFAULT_PROFILE = "demo"
#: What a build writes over, in a folder that is not known to be one. Of collect alone nothing is lost.
_WRITTEN = (
    {stage.name for stage in STAGES[1:]}
    | {"shards", "columns", "calibration.json", SELECTION, "report.html", "summary.json", "README.md"}
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """A build to make or to continue: its folder, and the config that its profile and parameters come to.

    ``refresh``: what the source gives is read again.
    """

    out: str
    made_by: Literal["build", "import"]
    profile: str | None
    parameters: dict[str, Any]
    config: BuildConfig
    remembered: dict[str, Any]
    refresh: bool = False

    @property
    def source(self) -> str:
        """The source as it is recorded: without secrets, with an absolute path."""
        return absolute_source(redact_secrets(self.config.source))


def request_build(
    *, out: str | None, profile: str | None, parameters: Mapping[str, Any], overwrite: bool = False
) -> BuildRequest:
    """The build that a folder, a profile and parameters (keys may be dotted) ask for; None: not given.

    A folder that holds a build continues it: with its source, its profile and its parameters, of which a given one
    changes only itself. With ``overwrite`` the parameters given before are forgotten, and source and profile may be
    others. Raises SurdError where finished work would be lost without that, and for a wrong profile or parameter.
    """
    if out is None and parameters.get("source", "demo") != "demo":
        raise SurdError(
            "out is missing: a build of a source of your own needs a folder of its own; give --out, for example --out"
            " data/mine"
        )
    profile_id = _profile_id(profile) if profile else None
    build = Build(_absolute(out or default_out(profile or DEFAULT_PROFILE)))
    record = read_record(build)
    if record is None:
        if not overwrite:
            check_vacant(build)
        return _request(build, "build", profile_id or DEFAULT_PROFILE, {}, parameters)
    if not overwrite:
        _check_made_by(build, record, "build")
        _check_profile(build, record, profile, profile_id)
    remembered = {} if overwrite else _remembered(record)
    source = resume_source(build, record, parameters.get("source"), overwrite=overwrite)
    base = profile_id or record.profile or (DEFAULT_PROFILE if overwrite else None)
    return _request(build, "build", base, overlay(remembered, {"source": source}), parameters, source, record)


def request_import(*, out: str, source: str, parameters: Mapping[str, Any], overwrite: bool = False) -> BuildRequest:
    """The same for an import, which has no profile; ``source`` is the config's source string."""
    build = Build(out)
    record = read_record(build)
    remembered: dict[str, Any] = {}
    if record is None and not overwrite:
        check_vacant(build)
    elif record is not None and not overwrite:
        _check_made_by(build, record, "import")
        source = resume_source(build, record, source)
        remembered = _remembered(record)
    return _request(build, "import", None, overlay(overlay({}, {"embed.layers": []}), remembered), parameters, source)


def read_record(build: Build) -> BuildRecord | None:
    """``build.json``, or None where there is none. Raises SurdError if it cannot be read."""
    return open_build(build.root)[1] if build.exists("build.json") else None


def check_vacant(build: Build) -> None:
    """Raise SurdError if a folder without build.json holds what a build would write over."""
    if present := sorted(_WRITTEN.intersection(build.listdir(""))):
        raise SurdError(
            f"out is {build.root!r}: it holds {present[0]} and no build.json, so it is not known to be a build; use"
            " another folder, or replace what is there with --overwrite"
        )


def resume_source(build: Build, record: BuildRecord, source: str | None, *, overwrite: bool = False) -> str:
    """The source string of a build that goes on: as given now, or as recorded where that still names the same.

    Raises SurdError if another source is given, or if the recorded one cannot be had again as it stands.
    """
    recorded = str(record.config.get("source"))
    origin = record.source or absolute_source(recorded)
    if source is not None:
        if not overwrite and absolute_source(redact_secrets(source)) != origin:
            raise SurdError(
                f"out is {build.root!r}: it holds a build of {recorded!r}, and source is {redact_secrets(source)!r};"
                " use another folder, or replace that build with --overwrite"
            )
        # Another spelling of the same folder would redo collect and fetch.
        same_secrets = redact_secrets(source) == source and "source" not in record.redacted
        return recorded if same_secrets and absolute_source(recorded) == absolute_source(source) else source
    if "source" in record.redacted:
        raise SurdError(
            f"source is {recorded!r} in {build.path('build.json')}, without its password or key; give --source again"
        )
    if absolute_source(recorded) != origin:
        raise SurdError(
            f"source is {recorded!r} in {build.path('build.json')}, relative to another folder than this; give"
            f" --source {origin!r}"
        )
    return recorded


def absolute_source(source: str) -> str:
    """A source string with its path, if it has one, made absolute: two that are equal name the same."""
    kind, colon, rest = source.partition(":")
    if kind == "finished":  # what an import reads
        return f"{kind}{colon}{absolute_source(rest)}"
    if kind not in SOURCES_WITH_PATHS or "://" in rest:
        return source
    return f"{kind}{colon}{absolute(rest)}"


def _request(
    build: Build,
    made_by: Literal["build", "import"],
    profile: str | None,
    remembered: dict[str, Any],
    parameters: Mapping[str, Any],
    source: str | None = None,
    record: BuildRecord | None = None,
) -> BuildRequest:
    given = dict(parameters) | ({"source": source} if source else {})
    config = load_config(remembered, given) if profile is None else resolve_config(profile, remembered, given)
    extensions(FILTERS, config.select.filters, "select.filters")
    check_limits(config)
    merged = overlay(remembered, given)
    known = {} if record is None or record.parameters is None else remembered
    return BuildRequest(
        out=build.root,
        made_by=made_by,
        profile=profile,
        parameters=merged,
        config=config,
        remembered={name: value for name, value in flat(known).items() if name not in flat(parameters)},
    )


def _remembered(record: BuildRecord) -> dict[str, Any]:
    known = record.config if record.parameters is None else record.parameters
    return {name: value for name, value in known.items() if name != "source"}


def _check_made_by(build: Build, record: BuildRecord, made_by: str) -> None:
    before = record.made_by or ("import" if _looks_imported(build) else "build")
    if before == made_by:
        return
    command = f"surd {before}"
    raise SurdError(
        f"out is {build.root!r}: it holds a dataset made by {command} from {record.config.get('source')!r}, which surd"
        f" {made_by} would make anew; use another folder, or replace it with --overwrite"
    )


def _looks_imported(build: Build) -> bool:
    """Of a record that does not say: an import has shards and a selection, and never a calibration."""
    return build.exists("shards/manifest.json") and not build.exists("calibration.json")


def _check_profile(build: Build, record: BuildRecord, profile: str | None, profile_id: str | None) -> None:
    if profile is None or profile_id == record.profile:
        return
    if record.profile is None:  # recorded before profiles were: the same models make the same profile
        models = resolve_config(profile).model_dump(mode="json")["models"]
        if models == record.config.get("models"):
            return
    raise SurdError(
        f"out is {build.root!r}: it holds a build of profile {record.profile or 'unknown'!r}, and profile is"
        f" {profile!r}; use another folder, or replace that build with --overwrite"
    )


def _profile_id(profile: str) -> str:
    path = find_profile(profile)
    is_name = "/" not in profile and not profile.endswith((".yaml", ".yml"))
    return profile if is_name else str(absolute(path))


def _absolute(out: str) -> str:
    return out if "://" in out else str(absolute(out))
