"""The model roles of a build, each loaded once per process from a config string."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from surd.pipeline.models.shelf import SHELF
from surd.pretrained.diffusion import denoiser_folder
from surd.schemas import SurdError, resolve_model
from surd.schemas.clip_ref import clip_ref
from surd.schemas.config import FLOAT32_ROLES, BuildConfig, ModelsConfig, ServerConfig
from surd.schemas.errors import one_line
from surd.schemas.model_ref import ServerRef, check_model_folder, existing_path, server_ref, shown
from surd.schemas.model_ref import content_hash as _content_hash

if TYPE_CHECKING:
    from surd.pipeline.models.caption_model import CaptionModel
    from surd.pipeline.models.chat import ChatModel
    from surd.pipeline.models.clip import Clip
    from surd.pipeline.models.diffusion import DiffusionEncoders
    from surd.pipeline.models.llm import LLM
    from surd.pipeline.models.vision_server import VisionServer
    from surd.pretrained.vqa import VqaModel

T = TypeVar("T")
ROLES = ("clip", "captioner", "llm", "embed_llm", "diffusion", "vqa", "vlm")
_LLMS = ("llm", "embed_llm")
_KINDS = {
    "clip": "Clip",
    "captioner": "Captioner",
    "llm": "LLM",
    "embed_llm": "LLM",
    "diffusion": "DiffusionEncoders",
    "vqa": "VqaModel",
    "vlm": "VisionServer",
}


def demo_only_roles(config: BuildConfig) -> list[str]:
    """Which of ``clip``, ``captioner`` and ``vqa`` are in use and were trained on the demo world alone, where the
    pictures come from another source: what they say is meaningless there."""
    from surd.pipeline.models.check import roles_needed

    if config.source == "demo":
        return []
    used = [role for role in ("clip", "captioner", "vqa") if role in roles_needed(config)]
    return [role for role in used if config.models.ref(role).startswith("package:pipeline/demo/")]


def role_names(roles: Sequence[str]) -> str:
    """Roles as a message lists them: models.clip, models.captioner and models.vqa."""
    names = [f"models.{role}" for role in roles]
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


class Models:
    """Loads a role's model when it is first used; all builds of a process share what is loaded."""

    def __init__(self, config: ModelsConfig) -> None:
        self.config = config

    @property
    def clip(self) -> Clip:
        from surd.pipeline.models.clip import load_clip

        return self._loaded(load_clip, "clip")

    @property
    def captioner(self) -> CaptionModel:
        """What describes pictures: in process, or behind a server."""
        if server := server_ref(self.config.captioner):
            return _vision_server(server, self.config.server.model_dump_json(), "captioner")
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
    def vlm(self) -> VisionServer:
        """The witness behind a server. Raises SurdError when models.vlm is not set, or is no server."""
        return _vision_server(vlm_server(self.config.ref("vlm")), self.config.server.model_dump_json(), "vlm")

    @property
    def device(self) -> str:
        """The torch device of what has none of its own: the config's, or the best one at hand for ``auto``."""
        return _device(self.config.device)

    def device_of(self, role: str) -> str:
        """The torch device of a role: its own, or the one of all."""
        return _device(self._own(self.config.devices, role) or self.config.device)

    def dtype_of(self, role: str) -> str:
        """The dtype of a role's weights. ``auto`` is left to the loader, but of an LLM it is bfloat16 where this
        hardware computes in it, else float32."""
        dtype = self._dtype_setting(role)
        if role in FLOAT32_ROLES:
            return "float32"
        if dtype != "auto" or role not in _LLMS:
            return dtype
        from surd.pretrained.precision import computes_bfloat16

        return "bfloat16" if computes_bfloat16(self.device_of(role)) else "float32"

    @property
    def diffusion(self) -> DiffusionEncoders:
        from surd.pipeline.models.diffusion import DiffusionEncoders

        return self._loaded(DiffusionEncoders, "diffusion")

    @property
    def vqa(self) -> VqaModel:
        """What answers yes/no questions about pictures in process."""
        from surd.pretrained.vqa import load_vqa

        return self._loaded(load_vqa, "vqa")

    def revision(self, role: str) -> str:
        """What identifies a role's weights: a content hash for local files, the string itself for a hub id or server,
        and the dtype that the config asks for; of what is no LLM only one that is not left to the loader. "" for a role
        without a model.

        Raises SurdError when the string names a path or package that is not there, or a server where none can serve.
        """
        weights, dtype = self.weights(role), self._dtype_setting(role)
        if not weights:
            return ""
        has_dtype = role in _LLMS or (dtype != "auto" and role not in FLOAT32_ROLES)
        return f"{weights} {dtype}" if has_dtype and not server_ref(self.config.ref(role)) else weights

    def weights(self, role: str) -> str:
        """``revision`` without the dtype. The diffusion model's denoiser is left out: no column depends on it."""
        ref = self.config.ref(role)
        if getattr(self.config, role) is None and not ref:
            return ""
        if role == "vlm":
            vlm_server(ref)
        if server_ref(ref):
            _refuse_server(role, ref)
            return f"{ref} {self.config.server.image_size}px" if role in ("captioner", "vlm") else ref
        resolved = model_path(role, ref)
        if resolved is None:
            return ref
        unread = denoiser_folder(resolved) if role == "diffusion" else None
        weights = _content_hash(str(resolved), unread)
        # The file of a checkpoint does not say what model it is of.
        return f"{ref.partition('/')[0]} {weights}" if role == "clip" and resolved.is_file() else weights

    def unload(self, roles: Iterable[str], kept: Iterable[str]) -> None:
        """Give up the large models of ``roles`` that are not those of ``kept`` too, if they are loaded."""
        if SHELF:  # otherwise nothing is loaded, and a key would ask torch for its device
            needed = {self._key(role) for role in kept}
            SHELF.drop([key for role in roles if (key := self._key(role)) not in needed])

    def _in_process(self, role: str) -> LLM:
        from surd.pipeline.models.llm import LLM

        _refuse_server("embed_llm", self.config.ref(role))
        return self._loaded(LLM, role)

    def _key(self, role: str) -> tuple[str, ...]:
        """What tells loaded models apart: kind, string, device and, where there is a choice, dtype."""
        more = () if role in FLOAT32_ROLES else (self.dtype_of(role),)
        return (_KINDS[role], self.config.ref(role), self.device_of(role), *more)

    def _dtype_setting(self, role: str) -> str:
        return self._own(self.config.dtypes, role) or self.config.dtype

    def _own(self, values: Mapping[str, str], role: str) -> str | None:
        """The value of a role; the one of llm where that fills embed_llm."""
        fills = "llm" if role == "embed_llm" and self.config.embed_llm is None else role
        return values.get(role) or values.get(fills)

    def _loaded(self, make: Callable[..., T], role: str) -> T:
        kind, ref, *how = key = self._key(role)
        return SHELF.get(key, lambda: _load(make, kind, ref, *how))


def model_path(role: str, ref: str) -> Path | None:
    """The folder or file of a role's weights; None where they are on the hub. Raises SurdError if it holds no model."""
    if role == "clip":
        named = clip_ref(ref)
        name = named.weights if named.kind == "checkpoint" else named.name if named.kind == "folder" else None
        path = Path(name) if name else None
    else:
        path = existing_path(resolve_model(ref))
    single = role == "diffusion" or (role in _LLMS and path is not None and path.suffix == ".gguf")  # one file a model
    if path and role != "clip" and path.is_file() and not single:
        raise SurdError(f"models.{role} is {shown(ref)}: this is a file; name the folder of a model")
    if path:
        check_model_folder(ref, path)
    return path


def gpu_count() -> int:
    """CUDA devices of this machine."""
    import torch

    return torch.cuda.device_count()


def _device(setting: str) -> str:
    if setting != "auto":
        return setting
    import torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def _refuse_server(role: str, ref: str) -> None:
    if server_ref(ref) and role not in ("llm", "captioner", "vlm"):
        why = "embed needs hidden states, which servers do not give: " if role == "embed_llm" else ""
        raise SurdError(f"model {shown(ref)} is a server; {why}set models.{role} to a local model or hub id")


def vlm_server(ref: str) -> ServerRef:
    """The server of the vlm role. Raises SurdError when the string names none."""
    if server := server_ref(ref):
        return server
    written = "write it as openai:http://HOST:PORT/v1#MODEL"
    if not ref:
        raise SurdError(f"models.vlm is not set: a witness needs it; {written}")
    raise SurdError(
        f"models.vlm is {shown(ref)}: this role takes servers only; {written}, or name a model for models.vqa"
    )


def _load(make: Callable[..., T], kind: str, ref: str, *how: str) -> T:
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


@lru_cache(maxsize=8)
def _vision_server(server: ServerRef, settings: str, role: str) -> VisionServer:
    from surd.pipeline.models.vision_server import VisionServer

    return VisionServer(server, ServerConfig.model_validate_json(settings), role)
