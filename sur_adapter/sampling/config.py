"""Config of ``sur-generate``; imports without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class GenerateConfig(BaseModel):
    """Every flag of ``sur-generate``; a field's description is the flag's help."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    adapter: Path = Field(description="Folder of a trained adapter (sur-train's --out).")
    prompt: list[str] = Field(default=[], description="A prompt; repeat the flag for more.")
    prompts: Path | None = Field(default=None, description="Text file with one prompt a line.")
    out: Path = Field(default=Path("sur.png"), description="PNG to write; several images without --grid are numbered.")
    overwrite: bool = Field(default=False, description="Replace pictures that are there already.")
    grid: bool = Field(default=False, description="One labelled sheet instead of one file per image.")
    compare: bool = Field(default=False, description="Sheet with and without the adapter, on the same noise.")
    base: str | None = Field(default=None, description="Diffusion model. Default: the one the adapter was trained for.")
    llm: str | None = Field(
        default=None,
        description="Where the LLM lies that the adapter reads: hub id, folder or GGUF file. Default: where it lay in"
        " training.",
    )
    steps: int = Field(default=25, ge=1, description="Denoising steps.")
    guidance_scale: float = Field(default=7.5, ge=0, description="Classifier-free guidance; up to 1 switches it off.")
    negative_prompt: str = Field(default="", description="What to steer away from; never passes the adapter.")
    eta: float | None = Field(default=None, ge=0, le=1, description="Adapter strength. Default: as trained; 0: none.")
    seed: int = Field(
        default=0, ge=0, lt=1 << 63, description="Noise seed of the first prompt; the next prompts count up from it."
    )
    seeds: int = Field(default=1, ge=1, description="Pictures of each prompt; their seeds go on counting up.")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="Where to run.")
