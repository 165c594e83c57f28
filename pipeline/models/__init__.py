"""The model roles of a build, each loaded once per process from a config string."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from surd.schemas import SurdError, resolve_model
from surd.schemas.clip_ref import clip_ref
from surd.schemas.config import BuildConfig, ModelsConfig, ServerConfig
from surd.schemas.errors import one_line
from surd.schemas.model_ref import ServerRef, check_model_folder, existing_path, server_ref, shown
from surd.schemas.model_ref import content_hash as _content_hash

if TYPE_CHECKING:
    from surd.pipeline.models.captioner import Captioner
    from surd.pipeline.models.chat import ChatModel
    from surd.pipeline.models.clip import Clip
    from surd.pipeline.models.diffusion import DiffusionEncoders
    from surd.pipeline.models.llm import LLM
    from surd.pipeline.models.shelf import Shelf
    from surd.pipeline.models.vqa import VqaModel

T = TypeVar("T")
ROLES = ("clip", "captioner", "llm", "embed_llm", "diffusion", "vqa")
_KINDS = {
    "clip": "Clip",
    "captioner": "Captioner",
    "llm": "LLM",
    "embed_llm": "LLM",
    "diffusion": "DiffusionEncoders",
    "vqa": "VqaModel",
}


def demo_only_roles(config: BuildConfig) -> list[str]:
    """Which of ``clip``, ``captioner`` and ``vqa`` are in use and were trained on the demo world alone, where the
    pictures come from another source: what they say is meaningless there."""
    from surd.pipeline.models.check import roles_needed

    if config.source == "demo":
        return []
    used = [role for role in ("clip", "captioner", "vqa") if role in roles_needed(config)]
    return [role for role in used if config.models.ref(role).startswith("package:pipeline/demo/")]


class Models:
    """Loads a role's model when it is first used; all builds of a process share what is loaded."""

    def __init__(self, config: ModelsConfig) -> None:
        self.config = config

    @property
    def clip(self) -> Clip:
        from surd.pipeline.models.clip import load_clip

        return self._loaded(load_clip, "clip")

    @property
    def captioner(self) -> Captioner:
        from surd.pipeline.models.captioner import Captioner

        return self._loaded(Captioner, "captioner")

    @property
    def llm(self) -> ChatModel:
        """What rewrites and fuses: in process, or behind a server."""
        if server := server_ref(self.config.llm):
            return _server(server, self.config.server.model_dump_json())
        return self._in_process("llm")

    @property
    def embed_llm(self) -> LLM:
        """What gives hidden states. Raises SurdError when that would be a server: those give none."""
        return self._in_process("embed_llm")

    @property
    def device(self) -> str:
        """The torch device: the config's, or the best one at hand for ``auto``."""
        if self.config.device != "auto":
            return self.config.device
        import torch

        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"

    @property
    def diffusion(self) -> DiffusionEncoders:
        from surd.pipeline.models.diffusion import DiffusionEncoders

        return self._loaded(DiffusionEncoders, "diffusion")

    @property
    def vqa(self) -> VqaModel:
        """What answers yes/no questions about pictures in process."""
        from surd.pipeline.models.vqa import load_vqa

        return self._loaded(load_vqa, "vqa")

    @property
    def dtype(self) -> str:
        """The LLM's dtype: the config's, or for ``auto`` bfloat16 where this hardware computes in it, else float32."""
        if self.config.dtype != "auto":
            return self.config.dtype
        return "bfloat16" if computes_bfloat16(self.device) else "float32"

    def revision(self, role: str) -> str:
        """What identifies a role's weights: a content hash for local files, the string itself for a hub id or server.

        Raises SurdError when the string names a path or package that is not there, or a server where none can serve.
        """
        in_process = role in ("llm", "embed_llm") and not server_ref(self.config.ref(role))
        return f"{self.weights(role)} {self.config.dtype}" if in_process else self.weights(role)

    def weights(self, role: str) -> str:
        """``revision`` without the dtype. The diffusion model's UNet is left out: no column depends on it."""
        ref = self.config.ref(role)
        if server_ref(ref):
            _refuse_server(role, ref)
            return ref
        resolved = model_path(role, ref)
        if resolved is None:
            return ref
        unread = "unet" if role == "diffusion" else None
        weights = _content_hash(str(resolved), unread)
        # The file of a checkpoint does not say what model it is of.
        return f"{ref.partition('/')[0]} {weights}" if role == "clip" and resolved.is_file() else weights

    def unload(self, roles: Iterable[str], kept: Iterable[str]) -> None:
        """Give up the large models of ``roles`` that are not those of ``kept`` too, if they are loaded."""
        if _shelf.cache_info().currsize:  # otherwise nothing is loaded, and a key would ask torch for its device
            needed = {self._key(role) for role in kept}
            _shelf().drop([key for role in roles if (key := self._key(role)) not in needed])

    def _in_process(self, role: str) -> LLM:
        from surd.pipeline.models.llm import LLM

        _refuse_server("embed_llm", self.config.ref(role))
        return self._loaded(LLM, role)

    def _key(self, role: str) -> tuple[str, ...]:
        """What tells loaded models apart: kind, string, device and, of an LLM, dtype."""
        more = (self.dtype,) if role in ("llm", "embed_llm") else ()
        return (_KINDS[role], self.config.ref(role), self.device, *more)

    def _loaded(self, make: Callable[..., T], role: str) -> T:
        kind, ref, *how = key = self._key(role)
        model: T = _shelf().get(key, lambda: _load(make, kind, ref, *how))
        return model


def model_path(role: str, ref: str) -> Path | None:
    """The folder or file of a role's weights; None where they are on the hub. Raises SurdError if it holds no model."""
    if role == "clip":
        named = clip_ref(ref)
        name = named.weights if named.kind == "checkpoint" else named.name if named.kind == "folder" else None
        path = Path(name) if name else None
    else:
        path = existing_path(resolve_model(ref))
    if path and role != "clip" and path.is_file() and not (path.suffix == ".gguf" and role in ("llm", "embed_llm")):
        raise SurdError(f"models.{role} is {shown(ref)}: this is a file; name the folder of a model")
    if path:
        check_model_folder(ref, path)
    return path


def computes_bfloat16(device: str) -> bool:
    """Whether the hardware behind a torch device computes in bfloat16; where it does not, float32 is the faster."""
    import torch

    kind = torch.device(device).type
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    features = torch.cpu.get_capabilities() if kind == "cpu" else {}
    return bool(features.get("avx512_bf16") or features.get("amx_bf16") or features.get("bf16"))


def _refuse_server(role: str, ref: str) -> None:
    if server_ref(ref) and role != "llm":
        why = "embed needs hidden states, which servers do not give: " if role == "embed_llm" else ""
        raise SurdError(f"model {shown(ref)} is a server; {why}set models.{role} to a local model or hub id")


@cache
def _shelf() -> Shelf:
    """The process's models; made at first use, because it needs torch."""
    from surd.pipeline.models.shelf import Shelf

    return Shelf()


def _load(make: Callable[..., Any], kind: str, ref: str, *how: str) -> Any:
    import transformers

    transformers.utils.logging.disable_progress_bar()
    path = ref if kind == "Clip" else resolve_model(ref)
    try:
        return make(path, *how)
    except SurdError:
        raise
    except Exception as error:  # a model that is damaged or of another kind makes its libraries raise all sorts
        why = one_line(error, 300)
        raise SurdError(f"model {shown(ref)} cannot be loaded as {kind}: {why}; see `surd models`") from error


@lru_cache(maxsize=8)
def _server(server: ServerRef, settings: str) -> ChatModel:
    from surd.pipeline.models.llm_server import LLMServer

    return LLMServer(server, ServerConfig.model_validate_json(settings))
