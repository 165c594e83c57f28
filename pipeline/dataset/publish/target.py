"""``hf://datasets/OWNER/NAME``: the address of a dataset on the hub."""

from __future__ import annotations

import re
from dataclasses import dataclass

from huggingface_hub import constants

from surd.schemas import SurdError
from surd.schemas.printable import printable

#: As the hub checks names.
_NAME = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9_](?:[\w.-]*[A-Za-z0-9_])?(?<!\.git)", re.ASCII)
_LONGEST = 96


@dataclass(frozen=True)
class Target:
    """A dataset repo and a branch of it."""

    repo_id: str
    revision: str = constants.DEFAULT_REVISION

    @property
    def name(self) -> str:
        return self.repo_id.partition("/")[2]

    @property
    def url(self) -> str:
        """Of the page."""
        return f"{constants.ENDPOINT}/datasets/{self.repo_id}"

    def __str__(self) -> str:
        return f"hf://datasets/{self.repo_id}"


def parse_target(text: str, revision: str | None = None) -> Target:
    """``hf://datasets/OWNER/NAME`` or ``hf://OWNER/NAME``. Raises SurdError."""
    scheme, _, rest = text.partition("://")
    repo_id = rest.removeprefix("datasets/").rstrip("/")
    if scheme != "hf" or repo_id.count("/") != 1:
        raise SurdError(f"TARGET is {printable(text)!r}: it is not a dataset on the hub; give hf://datasets/OWNER/NAME")
    if "@" in repo_id:
        raise SurdError(f"TARGET is {printable(text)!r}: a branch is named by --revision; leave out the @")
    if not all(_NAME.fullmatch(part) for part in repo_id.split("/")) or len(repo_id) > _LONGEST:
        raise SurdError(
            f"TARGET is {printable(text)!r}: OWNER and NAME may hold letters, digits, - _ and . alone, and no .. or --;"
            " give hf://datasets/OWNER/NAME"
        )
    if revision is not None and (not revision.strip("/") or set(revision) & set(" ~^:?*[\\\x7f") or ".." in revision):
        raise SurdError(f"--revision is {printable(revision)!r}: it is not the name of a branch; give one such as main")
    return Target(repo_id, revision or constants.DEFAULT_REVISION)
