"""Config and result of ``sur-eval``; imports without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

DEMO_JUDGE = "package:pipeline/demo/models/judge"
ProtocolName = Literal["geneval", "t2i-compbench", "dpg"]
#: Pictures of each prompt that the benchmark's own instructions ask for.
PICTURES: dict[ProtocolName, int] = {"geneval": 4, "t2i-compbench": 10, "dpg": 4}


class EvalConfig(BaseModel):
    """Every flag of ``sur-eval``; a field's description is the flag's help."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    prompts: Path = Field(
        description="Prompts: JSON lines with prompt, category and facts, a file of GenEval, T2I-CompBench or "
        "PartiPrompts, or DPG-Bench's folder of prompts."
    )
    adapter: Path = Field(description="Folder of a trained adapter (sur-train's --out).")
    out: Path = Field(default=Path("runs/eval"), description="Folder for pictures, result.json and grid.png.")
    overwrite: bool = Field(
        default=False, description="Replace the result in --out; its pictures stay where they were drawn alike."
    )
    base: str | None = Field(default=None, description="Diffusion model. Default: the one the adapter was trained for.")
    llm: str | None = Field(
        default=None,
        description="Where the LLM lies that the adapter reads: hub id, folder or GGUF file. Default: where it lay in"
        " training.",
    )
    judge: str = Field(
        default=DEMO_JUDGE,
        description="Model that judges what a picture shows: a classifier whose labels read group:value (folder or hub"
        " id), clip:MODEL/WEIGHTS of open_clip, or vqa:MODEL that answers questions about pictures (folder or hub id).",
    )
    seeds: int = Field(
        default=3,
        ge=1,
        description="Pictures of each prompt, each from noise of its own. Default with --protocol: 4 for geneval and"
        " dpg, 10 for t2i-compbench.",
    )
    steps: int = Field(default=20, ge=1, description="Denoising steps.")
    guidance_scale: float = Field(default=4.0, ge=0, description="Classifier-free guidance; up to 1 switches it off.")
    eta: float | None = Field(default=None, ge=0, le=1, description="Adapter strength. Default: as trained; 0: none.")
    complex: bool = Field(
        default=False, description="Draw the base model's pictures of the file's complex prompts too: a ceiling."
    )
    limit: int | None = Field(default=None, ge=1, description="Only this many prompts of each category.")
    quality: list[str] = Field(
        default=[],
        description="No-reference metric: brisque (0 good, 100 bad), clip-iqa:MODEL/WEIGHTS (0 bad, 1 good; MODEL as in"
        " clip:MODEL, and of a clip judge if left out), or one of pyiqa, such as musiq; repeat the flag.",
    )
    protocol: ProtocolName | None = Field(
        default=None,
        description="Lay the pictures out below --out as this benchmark's own scorer reads them; --prompts: its file.",
    )
    batch_size: int = Field(default=64, ge=1, description="Pictures drawn at once.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="Of the UNet and VAE; auto: bfloat16 where the processor computes in it."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="Where to run.")

    @model_validator(mode="before")
    @classmethod
    def _as_many_pictures_as_the_protocol_asks_for(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("protocol") in PICTURES:
            return {"seeds": PICTURES[values["protocol"]]} | values
        return values


class Interval(BaseModel):
    """A mean and the 95% interval around it."""

    mean: float
    low: float
    high: float


class Compared(BaseModel):
    """A score of every arm on the same prompts and noise; ``difference`` is adapter minus base, paired."""

    prompts: int
    arms: dict[str, Interval]
    difference: Interval


class ForScorer(BaseModel):
    """Pictures of one arm as a benchmark's scorer reads them, and what scores them in the benchmark's repository."""

    folder: str
    commands: list[str]


class EvalResult(BaseModel):
    """Result of an evaluation; written to ``result.json``."""

    prompts: str
    adapter: str
    base: str
    judge: str
    unit: str = Field(description="What the judge's score is: accuracy, CLIP score or VQA score.")
    judge_accuracy: dict[str, float] | None = Field(description="As the judge's own config states it.")
    judge_on_real: dict[str, float] | None = Field(
        description="Its mean score on the real pictures of the same prompts, by category; null: the file has none."
    )
    seeds: int
    steps: int
    guidance_scale: float
    categories: dict[str, Compared]
    average: Compared = Field(description="Mean over action, colour and counting, or over all where one is missing.")
    facts: dict[str, dict[str, float]] = Field(
        description="Group of facts -> arm -> share shown right, over all prompts that state one."
    )
    kid: Compared | None = Field(description="Distance to the prompts' real pictures, in the judge's features.")
    quality: dict[str, Compared] = Field(
        description="No-reference metrics, over the prompts whose pictures could all be measured."
    )
    protocol: dict[str, ForScorer] | None = Field(
        default=None, description="Arm -> its folder for the benchmark's own scorer, whose number is not the judge's."
    )
    seconds: float
