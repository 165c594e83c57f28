"""Measures what a record costs on a CPU, for docs/scale.md: `python -m docs.scale_costs` writes docs/scale_costs.json.

Few records, each stage once to warm up and once measured: seconds of the processor, which depend little on the load of
the machine. Of stages with models the time of their networks is taken off, by running the same calls alone: what a
network costs on a GPU is an assumption of docs/scale.py. CLIP and the captioner are the demo's; the LLM is a tiny one
with random weights, whose sentences are refused, so that correct judges captions. The networks' work is counted, not
timed: operations of the published shapes on torch's meta device, where nothing is computed.
"""

from __future__ import annotations

import json
import platform
import random
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from surd.pipeline.build.folder import Build
from surd.pipeline.demo.world.prompts import complex_prompt
from surd.pipeline.demo.world.render import render
from surd.pipeline.demo.world.scenes import scene
from surd.pipeline.models import Models
from surd.pipeline.runner.plan import units
from surd.pipeline.runner.process_setup import set_up_process
from surd.pipeline.runner.run_unit import finish, run_unit
from surd.pipeline.stages import STAGES, Stage
from surd.schemas import BuildConfig, load_config
from tests.bench.random_models import REAL, TINY, random_weights, save_captioner, save_clip, save_diffusion, save_llm
from tests.bench.stages import MEASURED, Seconds, networks, one_round

FILE = Path(__file__).with_name("scale_costs.json")
SIDE, PART, PARTS, SEED = 768, 6, 2, 13_001
#: Of stages that run once over everything twelve records measure the start. These are of 200,000 records, processor
#: milliseconds each: `python -m tests.bench.reduces`.
OF_MANY = {"dedup": 0.41, "select": 0.05, "pack": 0.24}
PARAMETERS = {
    "partition_size": PART, "pack.max_count": PART, "select": {}, "rewrite.max_new_tokens": 4,
    "correct.tolerance": 1.0,
}  # fmt: skip


def write_pictures(folder: Path) -> int:
    """Noisy scenes as JPEG, each with its prompt beside it; returns the mean size in bytes."""
    sizes, lines = [], []
    for number in range(PART * PARTS):
        one, noise = scene(SEED, number), np.random.default_rng([SEED, number])
        pixels = np.asarray(render(one, SIDE).convert("RGB")).astype(np.int16)
        pixels += noise.integers(-12, 13, pixels.shape, dtype=np.int16)
        file = folder / f"{number:05d}.jpg"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, quality=90)
        prompt = complex_prompt(one, random.Random(number), markup=True)
        lines.append(json.dumps({"image": file.name, "prompt": prompt}) + "\n")
        sizes.append(file.stat().st_size)
    (folder / "pairs.jsonl").write_text("".join(lines), encoding="utf-8")
    return sum(sizes) // len(sizes)


def tiny_llm(folder: Path) -> str:
    """A LLaMA that takes no time, with its weights."""
    save_llm(folder, TINY)
    transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(folder)).save_pretrained(
        folder
    )
    return str(folder)


def stage_costs(out: str, config: BuildConfig) -> dict[str, float]:
    """Processor milliseconds a record of every stage but its networks, of the last unit, after one to warm up."""
    costs = {}
    networks(Models(config.models))  # loads the models
    for stage in STAGES[:-1]:
        twice = [0, 0] if stage.scope in ("source", "build") else []  # the first loads libraries
        for unit in twice or range(units(stage, Build(out))):
            if stage.name in MEASURED:
                whole, bare = one_round(stage, unit, out, config)
                seconds = whole.cpu - bare.cpu
            else:
                seconds = _seconds(stage, unit, out, config)
        finish(stage, out, config)
        records = PART if stage.scope in ("partition", "shard") else PART * PARTS
        assert not stage.row or _kept(out, stage) == PART * PARTS, f"{stage.name} rejected records, which cost less"
        costs[stage.name] = OF_MANY.get(stage.name, round(1000 * max(0.0, seconds) / records, 2))
        print(f"{stage.name:10} {costs[stage.name]:8.2f} ms", flush=True)
    return costs


def _seconds(stage: Stage, unit: int, out: str, config: BuildConfig) -> float:
    """Processor seconds of one unit, run anew."""
    Build(out).remove_marker(stage.name, unit)
    began = Seconds.now()
    run_unit(stage, unit, out, config)
    return began.elapsed().cpu


def _kept(out: str, stage: Stage) -> int:
    assert stage.row
    parts = (Build(out).read_rows(stage.name, part, stage.row) for part in range(PARTS))
    return sum(row.kept for rows in parts for row in rows)


def stored_bytes(out: Path) -> dict[str, int]:
    """Bytes a record of each folder of the build; the pictures themselves are left out of fetch and shards."""
    sizes = {}
    for folder in sorted(one for one in out.iterdir() if one.is_dir()):
        files = [file for file in folder.rglob("*") if file.is_file()]
        pictures = ("fetch", "shards")
        kept = [file for file in files if not (folder.name in pictures and file.suffix == ".tar")]
        sizes[folder.name] = sum(file.stat().st_size for file in kept) // (PART * PARTS)
    return sizes


def network_operations(folder: Path) -> dict[str, float]:
    """Billions of floating point operations of one pass: a picture, a text of 77 tokens, or one token."""
    with random_weights(torch.device("meta")):
        clip = _made("AutoModel", save_clip(folder / "clip", REAL))
        captioner = _made("AutoModelForImageTextToText", save_captioner(folder / "captioner", REAL))
        llm = _made("AutoModelForCausalLM", save_llm(folder / "llm", REAL))
        from sur_adapter.base_model import load_base

        sd15 = load_base(save_diffusion(folder / "sd15", "sd15", REAL), "meta")
    picture, text = torch.zeros(1, 3, 224, 224, device="meta"), torch.ones(1, 77, dtype=torch.long, device="meta")
    tokens = torch.ones(1, 32, dtype=torch.long, device="meta")
    latents, states = torch.zeros(1, 4, 64, 64, device="meta"), torch.zeros(1, 77, 768, device="meta")
    return {
        "clip_picture": _operations(lambda: clip.get_image_features(pixel_values=picture)),
        "clip_text": _operations(lambda: clip.get_text_features(input_ids=text)),
        "captioner_picture": _operations(lambda: captioner.vision_model(pixel_values=picture)),
        "captioner_token": _operations(lambda: captioner.language_model(input_ids=tokens)) / 32,
        "llm_token": _operations(lambda: llm(input_ids=tokens)) / 32,
        "vae_picture": _operations(lambda: sd15.vae.encoder(torch.zeros(1, 3, 512, 512, device="meta"))),
        "unet_step": _operations(lambda: sd15.unet(latents, torch.ones((), device="meta"), states)),
    }


def _made(auto: str, folder: str) -> Any:
    config = transformers.AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        return getattr(transformers, auto).from_config(config, attn_implementation="eager").eval()


def _operations(call: Any) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return round(counter.get_total_flops() / 1e9, 2)


def main() -> None:
    """Measure, and write the file."""
    set_up_process()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        operations = network_operations(Path(folder) / "published")
        pictures, out = Path(folder) / "pictures", Path(folder) / "build"
        pictures.mkdir()
        bytes_each = write_pictures(pictures)
        llm = tiny_llm(Path(folder) / "llm")
        config = load_config({}, {"source": f"folder:{pictures}", "models.llm": llm, "embed.layers": [4], **PARAMETERS})
        costs = stage_costs(str(out), config)
        document = {
            "date": date.today().isoformat(),
            "processor": _processor(),
            "records": PART,
            "picture": {"side": SIDE, "bytes": bytes_each},
            "milliseconds": costs,
            "bytes": stored_bytes(out),
            "gigaflop": operations,
        }
    FILE.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {len(names)} cores"


if __name__ == "__main__":
    main()
