"""The model roles of a build, each loaded once per process from a config string."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from schemas import SurdError, resolve_model
from schemas.config import ModelsConfig, ServerConfig
from schemas.model_ref import ServerRef, server_ref

if TYPE_CHECKING:
    from pipeline.models.captioner import Captioner
    from pipeline.models.chat_model import ChatModel
    from pipeline.models.clip import Clip
    from pipeline.models.llm import LLM

ROLES = ("clip", "captioner", "llm", "embed_llm", "diffusion")


class Models:
    """Loads a role's model when it is first used; all builds of a process share what is loaded."""

    def __init__(self, config: ModelsConfig) -> None:
        self.config = config

    @property
    def clip(self) -> Clip:
        from pipeline.models.clip import Clip

        return _loaded(Clip, self.config.clip, self.device)

    @property
    def captioner(self) -> Captioner:
        from pipeline.models.captioner import Captioner

        return _loaded(Captioner, self.config.captioner, self.device)

    @property
    def llm(self) -> ChatModel:
        """What rewrites and fuses: in process, or behind a server."""
        if server := server_ref(self.config.llm):
            return _server(server, self.config.server.model_dump_json())
        return self._in_process(self.config.llm)

    @property
    def embed_llm(self) -> LLM:
        """What gives hidden states. Raises SurdError when that would be a server: those give none."""
        return self._in_process(self.config.ref("embed_llm"))

    @property
    def device(self) -> str:
        """The torch device: the config's, or the best one at hand for ``auto``."""
        if self.config.device != "auto":
            return self.config.device
        import torch

        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"

    def revision(self, role: str) -> str:
        """What identifies a role's weights: a content hash for local files, the string itself for a hub id or server.

        Raises SurdError when the string names a path or package that is not there, or a server where none can serve.
        """
        ref = self.config.ref(role)
        if server_ref(ref):
            _refuse_server(role, ref)
            return ref
        resolved = Path(resolve_model(ref))
        revision = _content_hash(str(resolved)) if resolved.exists() else ref
        return f"{revision} {self.config.dtype}" if role in ("llm", "embed_llm") else revision

    def _in_process(self, ref: str) -> LLM:
        from pipeline.models.llm import LLM

        _refuse_server("embed_llm", ref)
        return _loaded(LLM, ref, self.device, self.config.dtype)


def _refuse_server(role: str, ref: str) -> None:
    if server_ref(ref) and role != "llm":
        why = "embed needs hidden states, which servers do not give: " if role == "embed_llm" else ""
        raise SurdError(f"model {ref!r} is a server; {why}set models.{role} to a local model or hub id")


@lru_cache(maxsize=8)
def _loaded(kind, ref, device, *more):  # type: ignore[no-untyped-def]  # the properties above carry the types
    import transformers

    transformers.utils.logging.disable_progress_bar()
    try:
        return kind(resolve_model(ref), device, *more)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        why = " ".join(str(error).split())[:300]
        raise SurdError(f"model {ref!r} cannot be loaded as {kind.__name__}: {why}; see `surd models`") from error


@lru_cache(maxsize=8)
def _server(server: ServerRef, settings: str) -> ChatModel:
    from pipeline.models.llm_server import LLMServer

    return LLMServer(server, ServerConfig.model_validate_json(settings))


@lru_cache(maxsize=32)
def _content_hash(path: str) -> str:
    root, digest = Path(path), hashlib.sha256()
    for file in sorted(root.rglob("*")) if root.is_dir() else [root]:
        if file.is_file() and file.suffix != ".md":
            digest.update(file.relative_to(root).as_posix().encode() + b"\0")
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]
