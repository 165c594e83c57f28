"""Folders of pictures as the scorers of public benchmarks read them: GenEval, T2I-CompBench, DPG-Bench.

Each format as the benchmark's own code has it:

- GenEval (github djghosh13/geneval, ``evaluation/evaluate_images.py``): ``00000/metadata.jsonl``, the line of
  ``evaluation_metadata.jsonl`` with that number, and ``00000/samples/0000.png`` ...
- T2I-CompBench (Karine-Huang/T2I-CompBench, ``BLIPvqa_eval/BLIP_vqa.py``, ``CLIPScore_eval/CLIP_similarity.py``,
  ``UniDet_eval/experts/obj_detection/generate_dataset.py``): ``samples/{prompt}_{number:06}.png``, all pictures of one
  prompt after the other. The scorers take the prompt from the file's name, up to the first ``_``, and sort by the
  number; a prompt with ``/`` cannot be such a name, in their code either. They write beside ``samples``.
- DPG-Bench (TencentQQGYLab/ELLA, ``dpg_bench/compute_dpg_bench.py``): ``{item_id}.png``, up to four pictures of one
  prompt in a grid of two columns, cut at ``--resolution``. The scorer takes every file of the folder for a picture.

The pictures are those of ``images/``, linked where the filesystem can.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sur_adapter.evaluation.config import EvalConfig, ForScorer, ProtocolName
from sur_adapter.evaluation.prompts import EvalPrompt
from sur_adapter.evaluation.verdict import open_picture
from surd.schemas.errors import SurdError
from surd.schemas.model_ref import shown

_LONGEST_NAME = 255  # bytes, of Linux's and macOS's filesystems
_GRID = 4


@dataclass(frozen=True)
class Protocol:
    """One benchmark: ``check`` raises SurdError with its reason for prompts that it cannot score; ``write`` lays the
    pictures [S, P] of one arm into a folder; ``commands`` score it, in the benchmark's repository."""

    title: str
    check: Callable[[EvalConfig, Sequence[EvalPrompt]], None]
    write: Callable[[Path, Sequence[EvalPrompt], np.ndarray], None]
    commands: Callable[[Path, EvalConfig, np.ndarray], list[str]]


def check_protocol(config: EvalConfig, prompts: Sequence[EvalPrompt]) -> None:
    """SurdError if ``--protocol`` is of a benchmark that cannot score these prompts, or so many pictures of each."""
    if config.protocol:
        PROTOCOLS[config.protocol].check(config, prompts)


def write_protocol(
    config: EvalConfig, prompts: Sequence[EvalPrompt], files: dict[str, np.ndarray]
) -> dict[str, ForScorer] | None:
    """Lay out the pictures [S, P] of every arm below ``--out`` as the benchmark's scorer reads them: arm -> folder and
    commands; None without ``--protocol``. What a scorer wrote there stays."""
    if config.protocol is None:
        return None
    protocol, laid = PROTOCOLS[config.protocol], {}
    for arm, files_SP in files.items():
        folder = (config.out / config.protocol / arm).resolve()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            protocol.write(folder, prompts, files_SP)
        except OSError as error:
            raise SurdError(f"--out: {str(folder)!r} cannot be written ({error}); name another folder") from error
        laid[arm] = ForScorer(folder=str(folder), commands=protocol.commands(folder, config, files_SP))
    return laid


def _check_geneval(config: EvalConfig, prompts: Sequence[EvalPrompt]) -> None:
    for one in prompts:
        record = json.loads(one.line) if one.line else {}
        if not record.get("tag") or not isinstance(record.get("include"), list):
            raise _refused(
                config, one, "has no tag and include, which GenEval's scorer reads", "evaluation_metadata.jsonl"
            )


def _write_geneval(folder: Path, prompts: Sequence[EvalPrompt], files_SP: np.ndarray) -> None:
    for stale in folder.glob("[0-9]" * 5):
        shutil.rmtree(stale)
    for place, one in enumerate(prompts):
        item = folder / f"{one.number:05}"
        (item / "samples").mkdir(parents=True)
        (item / "metadata.jsonl").write_text(f"{one.line}\n", encoding="utf-8")
        for seed, file in enumerate(files_SP[:, place]):
            _link(file, item / f"samples/{seed:04}.png")


def _geneval_commands(folder: Path, config: EvalConfig, files_SP: np.ndarray) -> list[str]:
    results = f"{folder}.jsonl"
    return [
        f'python evaluation/evaluate_images.py "{folder}" --outfile "{results}" --model-path OBJECT_DETECTOR_FOLDER',
        f'python evaluation/summary_scores.py "{results}"',
    ]


def _check_compbench(config: EvalConfig, prompts: Sequence[EvalPrompt]) -> None:
    for one in prompts:
        if odd := next((character for character in "/_\0" if character in one.prompt), None):
            why = (
                f"has a {odd!r}, and T2I-CompBench's scorers read the prompt from the file's name, up to the first '_'"
            )
            raise _refused(config, one, why, "a *_val.txt file, or leave that prompt out")
        if len(_compbench_name(one.prompt, 0).encode()) > _LONGEST_NAME:
            why = f"has {len(one.prompt)} characters, and T2I-CompBench's scorers read the prompt from the file's name"
            raise _refused(config, one, why, "a *_val.txt file, or leave that prompt out")


def _write_compbench(folder: Path, prompts: Sequence[EvalPrompt], files_SP: np.ndarray) -> None:
    samples = folder / "samples"
    if samples.exists():
        shutil.rmtree(samples)
    samples.mkdir()
    for place, one in enumerate(prompts):
        for seed, file in enumerate(files_SP[:, place]):
            _link(file, samples / _compbench_name(one.prompt, place * len(files_SP) + seed))


def _compbench_name(prompt: str, number: int) -> str:
    return f"{prompt}_{number:06}.png"


def _compbench_commands(folder: Path, config: EvalConfig, files_SP: np.ndarray) -> list[str]:
    """By the category in the file's name, as their Readme.md has it; all of them where it names none."""
    scorers = {
        "blip": f'cd BLIPvqa_eval && python BLIP_vqa.py --out_dir="{folder}"',
        "2d": f'cd UniDet_eval && python 2D_spatial_eval.py --outpath="{folder}"',
        "3d": f'cd UniDet_eval && python 3D_spatial_eval.py --outpath="{folder}"',
        "numeracy": f'cd UniDet_eval && python numeracy_eval.py --outpath="{folder}"',
        "clip": f'python CLIPScore_eval/CLIP_similarity.py --outpath="{folder}"',
    }
    blip, flat, deep, count, clip = scorers.values()
    of_category = {
        "color": [blip], "shape": [blip], "texture": [blip],
        "spatial": [flat], "3d_spatial": [deep], "numeracy": [count], "non_spatial": [clip],
        "complex": [
            blip, f"{flat} --complex True", f"{clip} --complex True",
            f'cd 3_in_1_eval && python 3_in_1.py --outpath="{folder}"',
        ],
    }  # fmt: skip
    category = config.prompts.stem.partition("_val")[0]
    return of_category.get(category, list(scorers.values()))


def _check_dpg(config: EvalConfig, prompts: Sequence[EvalPrompt]) -> None:
    for one in prompts:
        if not one.name or "." in one.name:
            raise _refused(config, one, "has no item id: it is not from a folder of ID.txt files", "dpg_bench/prompts")
    if config.seeds > _GRID:
        raise SurdError(
            f"--seeds is {config.seeds}: DPG-Bench scores at most {_GRID} pictures of a prompt; give 1 to 4"
        )


def _write_dpg(folder: Path, prompts: Sequence[EvalPrompt], files_SP: np.ndarray) -> None:
    for stale in folder.glob("*.png"):
        stale.unlink()
    for place, one in enumerate(prompts):
        pictures = [open_picture(file) for file in files_SP[:, place]]
        side = _side(pictures[0])
        grid = Image.new("RGB", (2 * side, 2 * side) if len(pictures) > 1 else (side, side))
        for at, picture in enumerate(pictures):
            grid.paste(picture, (at % 2 * side, at // 2 * side))
        grid.save(folder / f"{one.name}.png", compress_level=1)


def _dpg_commands(folder: Path, config: EvalConfig, files_SP: np.ndarray) -> list[str]:
    side = _side(open_picture(files_SP[0, 0]))
    return [
        f'accelerate launch --num_processes 1 dpg_bench/compute_dpg_bench.py --image-root-path "{folder}" --resolution'
        f' {side} --pic-num {len(files_SP)} --res-path "{folder}.txt" --vqa-model mplug'
    ]


def _side(picture: Image.Image) -> int:
    if picture.width != picture.height:
        raise SurdError(
            f"--protocol is dpg: pictures of this base model have {picture.width} x {picture.height} pixels, and"
            " DPG-Bench cuts its grids into squares; name a base model of square pictures"
        )
    return picture.width


def _refused(config: EvalConfig, one: EvalPrompt, why: str, give: str) -> SurdError:
    prompt = f"prompt {one.number + 1} of {str(config.prompts)!r} ({shown(one.prompt)})"
    return SurdError(f"--protocol is {config.protocol}: {prompt} {why}; give {give}")


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # another filesystem, or one without links
        shutil.copyfile(source, target)


PROTOCOLS: dict[ProtocolName, Protocol] = {
    "geneval": Protocol("GenEval", _check_geneval, _write_geneval, _geneval_commands),
    "t2i-compbench": Protocol("T2I-CompBench", _check_compbench, _write_compbench, _compbench_commands),
    "dpg": Protocol("DPG-Bench", _check_dpg, _write_dpg, _dpg_commands),
}
