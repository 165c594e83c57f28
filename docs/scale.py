"""The tables of docs/scale.md: `python -m docs.scale` prints them, with --write into the page.

Costs of a record come from docs/scale_costs.json, which `python -m docs.scale_costs` measures; all else is one of the
assumptions below, each with its source.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from surd.pipeline.net.downloader import DEFAULT_RATE
from surd.schemas import load_config

PAGE = Path(__file__).with_name("scale.md")
COSTS = Path(__file__).with_name("scale_costs.json")
SIZES = {"100M": 100e6, "5B": 5e9}
#: Records of builds for one person; 57,603 pairs are what the paper's dataset has.
SMALL = {"10,000": 10e3, "57,603": 57_603, "1M": 1e6}
HOUR, DAY, TB, GB = 3600, 86_400, 1e12, 1e9


@dataclass(frozen=True)
class Assumption:
    """A number that was not measured here, its unit, and where it is from."""

    value: float
    unit: str
    source: str


ASSUMED = {
    "days": Assumption(30, "days", "how long a build may take"),
    "picture": Assumption(464e3, "bytes a picture", "DiffusionDB Large: 6.5 TB of 14M pictures (its dataset card)"),
    "fetched": Assumption(0.8, "of the records", "links die; the rest has a picture"),
    "selected": Assumption(0.6, "of the pictures", "what dedup, safety and select leave"),
    "fetch rate": Assumption(900, "a second and core", "`make bench-fetch`, in pipeline/runner/process_pool.py"),
    "network": Assumption(5e9 / 8, "bytes a second and machine", "half of 10 Gbit/s"),
    "cores": Assumption(16, "cores a machine", "a common size"),
    "bf16": Assumption(989e12, "operations a second", "an H100 SXM in bfloat16, dense (NVIDIA's data sheet)"),
    "fp32": Assumption(67e12, "operations a second", "the same in float32, which CLIP and the VAE compute in here"),
    "encoding": Assumption(0.4, "of these", "what encoders and prompts reach"),
    "writing": Assumption(0.03, "of bfloat16's", "what a captioner in bfloat16 reaches, 32 pictures at once"),
    "LLM": Assumption(
        12_500, "tokens a second and GPU", "vLLM, Llama 3.1 8B on one H100 (morphllm.com/vllm-benchmarks, April 2026)"
    ),
    "caption tokens": Assumption(15, "tokens a caption", "a sentence"),
    "prompt tokens": Assumption(77, "tokens a prompt", "as many as CLIP reads; the few-shot examples are read once"),
    "sentence tokens": Assumption(30, "tokens a sentence", "a simple prompt"),
    "LLM answers": Assumption(1.5, "a record", "rewrite writes one; correct asks again about half"),
    "CLIP texts": Assumption(20, "a record", "the prompt, captions and sentences, and the facts that correct asks of"),
    "core price": Assumption(0.04, "dollars a core and hour", "a price of clouds, November 2026, not looked up"),
    "GPU price": Assumption(2.5, "dollars a GPU and hour", "a price of clouds, November 2026, not looked up"),
    "storage price": Assumption(23, "dollars a TB and month", "S3's list price, not looked up"),
}  # fmt: skip
PICTURE_STAGES = ("decode", "clean", "dedup", "safety", "score", "caption", "rewrite", "correct", "select")
SHARD_STAGES = ("pack", "embed")
#: Bytes of a sample's columns in float16 at the published widths; the measured build's models are narrower.
COLUMNS = {"LLM states": 4096 * 2, "latents": 8 * 64 * 64 * 2, "text states of both prompts": 2 * 77 * 768 * 2}
CACHE = "model-cache"
EMBEDDINGS = 2 * 768 * 4  # of score, in float32: a picture and its prompt


def assumed(name: str) -> float:
    return ASSUMED[name].value


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a build of ``records`` takes: hours of cores and GPUs by stage, and bytes by kind."""

    records: float
    core_hours: Mapping[str, float]
    gpu_hours: Mapping[str, float]
    stored: Mapping[str, float]

    @property
    def downloaded(self) -> float:
        return self.records * assumed("fetched") * assumed("picture")

    @property
    def seconds(self) -> float:
        return assumed("days") * DAY


def plan(records: float, costs: Mapping[str, Any]) -> Plan:
    """The costs of so many records."""
    pictures = records * assumed("fetched")
    samples = pictures * assumed("selected")
    counts = dict.fromkeys(PICTURE_STAGES, pictures) | dict.fromkeys(SHARD_STAGES, samples) | {"collect": records}
    cores = {"collect": 0.0, "fetch": records / assumed("fetch rate") / HOUR}
    cores |= {name: count * costs["milliseconds"][name] / 1000 / HOUR for name, count in counts.items()}
    gpus = {name: pictures * seconds / HOUR for name, seconds in gpu_seconds(costs).items()}
    for name in ("embed: LLM states", "embed: latents"):
        gpus[name] *= assumed("selected")
    small = sum(costs["bytes"][name] for name in costs["bytes"] if name not in ("shards", "columns", CACHE))
    stored = {
        "pictures, as fetched": pictures * assumed("picture"),
        "pictures, in shards": samples * assumed("picture"),
        "rows of all stages": records * small + pictures * EMBEDDINGS,
        "kept answers of models, which may be removed": pictures * costs["bytes"][CACHE],
        "index": samples * costs["bytes"]["shards"],
        **{f"column of {name}": samples * size for name, size in COLUMNS.items()},
    }
    return Plan(records=records, core_hours=cores, gpu_hours=gpus, stored=stored)


def gpu_seconds(costs: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of a GPU for one picture, by stage."""
    work, caption = costs["gigaflop"], load_config({}, {}).caption
    fp32, bf16 = (assumed(kind) * assumed("encoding") / 1e9 for kind in ("fp32", "bf16"))
    rows = caption.num_beams + caption.k - 1
    written = rows * assumed("caption tokens") * work["captioner_token"] / (assumed("bf16") * assumed("writing") / 1e9)
    answers = assumed("LLM answers")
    return {
        "score": (work["clip_picture"] + work["clip_text"]) / fp32,
        "caption": work["captioner_picture"] / bf16 + written,
        "rewrite and correct: LLM": answers
        * (assumed("prompt tokens") * work["llm_token"] / bf16 + assumed("sentence tokens") / assumed("LLM")),
        "correct: CLIP": (assumed("CLIP texts") - 1) * work["clip_text"] / fp32,
        "embed: LLM states": assumed("sentence tokens") * work["llm_token"] / bf16,
        "embed: latents": work["vae_picture"] / fp32,
    }


def markdown(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tables(costs: Mapping[str, Any]) -> dict[str, str]:
    """Every table of the page, by its name there."""
    plans = {name: plan(records, costs) for name, records in SIZES.items()}
    return {
        "measured": _measured(costs),
        "assumed": markdown(
            ("what", "value", "where from"),
            [(name, f"{one.value:,g} {one.unit}", one.source) for name, one in ASSUMED.items()],
        ),
        "small": _small(costs),
        "hours": _hours(plans),
        "machines": _machines(plans),
        "breaks": _breaks(costs),
    }


def _measured(costs: Mapping[str, Any]) -> str:
    rows = [(name, f"{each:.2f}", f"{costs['bytes'].get(name, 0):,}") for name, each in costs["milliseconds"].items()]
    return markdown(("stage", "ms of one core a record", "bytes a record, pictures left out"), rows)


def _hours(plans: Mapping[str, Plan]) -> str:
    rows = []
    for kind, field in (("core", "core_hours"), ("GPU", "gpu_hours")):
        hours = [getattr(one, field) for one in plans.values()]
        rows += [(f"{kind}: {stage}", *(_round(one[stage]) for one in hours)) for stage in hours[0]]
        rows.append((f"**all {kind}s**", *(f"**{_round(sum(one.values()))}**" for one in hours)))
    return markdown(("hours", *plans), rows)


def _small(costs: Mapping[str, Any]) -> str:
    plans = {name: plan(records, costs) for name, records in SMALL.items()}
    cores = {name: sum(one.core_hours.values()) / assumed("cores") for name, one in plans.items()}
    gpus: dict[str, list[float]] = {}
    for one in plans.values():
        for stage, hours in one.gpu_hours.items():
            gpus.setdefault(stage, []).append(hours)
    rows = [("its cores", *(_round(60 * hours) for hours in cores.values()))]
    rows += [(f"its GPU: {stage}", *(_round(60 * each) for each in hours)) for stage, hours in gpus.items()]
    rows.append(("**its GPU, all**", *(f"**{_round(60 * sum(one.gpu_hours.values()))}**" for one in plans.values())))
    rows.append(("stored, GB", *(_round(sum(one.stored.values()) / GB) for one in plans.values())))
    return markdown(("minutes of one machine", *plans), rows)


def _machines(plans: Mapping[str, Plan]) -> str:
    lines: dict[str, list[str]] = {}
    for one in plans.values():
        cores, gpus = (sum(hours.values()) for hours in (one.core_hours, one.gpu_hours))
        stored = sum(one.stored.values()) / TB
        wall = one.seconds / HOUR
        months = max(1.0, assumed("days") / 30)
        money = {
            "cores": cores * assumed("core price"), "GPUs": gpus * assumed("GPU price"),
            "storage, a month": stored * assumed("storage price") * months,
        }  # fmt: skip
        entries = {
            "machines for their cores": _round(cores / wall / assumed("cores")),
            "machines for their network": _round(one.downloaded / assumed("network") / one.seconds),
            "GPUs": _round(gpus / wall),
            "downloaded, TB": _round(one.downloaded / TB),
            "stored, TB": _round(stored),
            **{f"of it {name}, TB": _round(size / TB) for name, size in one.stored.items()},
            f"hosts, at {DEFAULT_RATE:g} requests a second each": _round(one.records / DEFAULT_RATE / one.seconds),
            **{f"dollars: {name}": _round(value) for name, value in money.items()},
            "**dollars, all**": f"**{_round(sum(money.values()))}**",
        }  # fmt: skip
        for name, value in entries.items():
            lines.setdefault(name, []).append(value)
    days = f"{assumed('days'):g} days"
    return markdown((f"within {days}", *plans), [(name, *values) for name, values in lines.items()])


def _breaks(costs: Mapping[str, Any]) -> str:
    """The number of records at which each resource ends, the smallest first."""
    one, seconds = plan(1.0, costs), assumed("days") * DAY
    ends = {
        f"one host, at {DEFAULT_RATE:g} requests a second": DEFAULT_RATE * seconds,
        "one GPU": seconds / HOUR / sum(one.gpu_hours.values()),
        f"one machine of {assumed('cores'):g} cores": assumed("cores") * seconds / HOUR / sum(one.core_hours.values()),
        "the network of one machine": assumed("network") * seconds / one.downloaded,
        "a disk of 10 TB for pictures, rows and shards": 10 * TB / sum(one.stored.values()),
        "1 TB of scratch for dedup's miniatures, 3,072 bytes each": TB / 3072 / assumed("fetched"),
        "24 GB of memory at 8 bytes a record, as a union-find takes": 24 * GB / 8,
    }
    rows = [(name, _round(size)) for name, size in sorted(ends.items(), key=lambda entry: entry[1])]
    return markdown((f"within {assumed('days'):g} days ends", "at records"), rows)


def _round(value: float) -> str:
    """Two digits that count: the arithmetic is no more exact."""
    if value < 10:
        return f"{value:.2g}"
    digits = len(str(int(value))) - 2
    return f"{round(value / 10**digits) * 10**digits:,}"


def filled(page: str, costs: Mapping[str, Any]) -> str:
    """The page with its tables as they are today, each between two comments."""
    for name, table in tables(costs).items():
        pattern = re.compile(rf"(<!-- table {name} -->\n).*?(<!-- end -->)", re.S)
        page, found = pattern.subn(partial(_with_table, table), page)
        assert found == 1, f"the page has {found} places for the table {name}"
    return page


def _with_table(table: str, place: re.Match[str]) -> str:
    return f"{place[1]}{table}\n{place[2]}"


def main() -> None:
    """Print the tables, or write them into the page."""
    costs = json.loads(COSTS.read_text(encoding="utf-8"))
    if "--write" in sys.argv[1:]:
        PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), costs), encoding="utf-8")
        return
    for name, table in tables(costs).items():
        print(f"{name}\n\n{table}\n")


if __name__ == "__main__":
    main()
