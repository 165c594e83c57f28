"""The model roles of a build, each loaded once per process from a config string."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from schemas import SurdError, resolve_model
from schemas.config import ModelsConfig

if TYPE_CHECKING:
    from pipeline.models.captioner import Captioner
    from pipeline.models.clip import Clip
    from pipeline.models.llm import LLM

ROLES = ("clip", "captioner", "llm", "diffusion")


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
    def llm(self) -> LLM:
        from pipeline.models.llm import LLM

        return _loaded(LLM, self.config.llm, self.device, self.config.dtype)

    @property
    def device(self) -> str:
        """The torch device: the config's, or the best one at hand for ``auto``."""
        if self.config.device != "auto":
            return self.config.device
        import torch

        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"

    def revision(self, role: str) -> str:
        """What identifies a role's weights: a content hash for local files, the string itself for a hub id.

        Raises SurdError when the string names a path or package that is not there.
        """
        ref = getattr(self.config, role)
        resolved = Path(resolve_model(ref))
        revision = _content_hash(str(resolved)) if resolved.exists() else ref
        return f"{revision} {self.config.dtype}" if role == "llm" else revision


@lru_cache(maxsize=8)
def _loaded(kind, ref, device, *more):  # type: ignore[no-untyped-def]  # the properties above carry the types
    import transformers

    transformers.utils.logging.disable_progress_bar()
    try:
        return kind(resolve_model(ref), device, *more)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        why = " ".join(str(error).split())[:300]
        raise SurdError(f"model {ref!r} cannot be loaded as {kind.__name__}: {why}; see `surd models`") from error


@lru_cache(maxsize=32)
def _content_hash(path: str) -> str:
    root, digest = Path(path), hashlib.sha256()
    for file in sorted(root.rglob("*")) if root.is_dir() else [root]:
        if file.is_file() and file.suffix != ".md":
            digest.update(file.relative_to(root).as_posix().encode() + b"\0")
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]
