"""What other installed packages add to surd, by entry point: sources and filters of one's own."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from surd.schemas.errors import SurdError, one_line

SOURCES, FILTERS = "surd.sources", "surd.filters"


@dataclass(frozen=True)
class Extension:
    """An entry point of a group, not yet imported."""

    name: str
    point: EntryPoint

    @property
    def version(self) -> str:
        """What it is of: ``DISTRIBUTION VERSION MODULE:NAME``; another version is another extension."""
        package = self.point.dist
        return f"{package.name} {package.version} {self.point.value}" if package else self.point.value

    def load(self) -> Callable[..., Any]:
        """Import it. Raises SurdError if it cannot be imported, or cannot be called."""
        try:
            loaded = self.point.load()
        except Exception as error:  # whatever the module of another package raises
            raise self.fault(f"cannot be imported ({type(error).__name__}: {one_line(error, 120)})") from error
        if not callable(loaded):
            raise self.fault("is not a function or class")
        return loaded

    def fault(self, why: str) -> SurdError:
        """The error that says what is wrong with it."""
        return SurdError(f"{self.name!r} of {self.version}, an entry point of {self.point.group}, {why}; repair it")


def extension(group: str, name: str) -> Extension | None:
    """The installed entry point of this name. Raises SurdError if several packages have one."""
    found = [Extension(name, point) for point in entry_points(group=group, name=name)]
    if len(found) > 1:
        several = " and ".join(sorted(one.version for one in found))
        raise SurdError(f"{name!r} is an entry point of {group} in {several}; uninstall all but one")
    return found[0] if found else None


def extensions(group: str, names: list[str], field: str) -> list[Extension]:
    """Those that a config field names. Raises SurdError for a name that no installed package has."""
    found = []
    for name in names:
        one = extension(group, name)
        if one is None:
            known = sorted(point.name for point in entry_points(group=group))
            near = difflib.get_close_matches(name, known, n=1)
            remedy = f"did you mean {near[0]!r}?" if near else f"install its package, or give one of {known}"
            raise SurdError(f"config field {field!r} names {name!r}, and no installed package has {group} of that"
                            f" name; {remedy}")  # fmt: skip
        found.append(one)
    return found
