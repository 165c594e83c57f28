"""Picture files of the demo world as found on the web: PNG, JPEG or WebP with the prompt in its metadata."""

import io
import json
import random
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from surd.pipeline.demo.world.defect_files import altered, damaged
from surd.pipeline.demo.world.defects import KINDS, Defect, plan
from surd.pipeline.demo.world.prompts import complex_prompt, narrative, negative_prompt, truth
from surd.pipeline.demo.world.render import render
from surd.pipeline.demo.world.scenes import Scene, scene

MODEL = "emojiDiffusion_v1"
_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286
#: (file extension, metadata format), each as often as it is to be drawn.
_FORMATS = (("png", "a1111"), ("png", "a1111"), ("png", "comfyui"), ("jpg", "a1111"), ("webp", "a1111"))


@dataclass(frozen=True)
class DemoFile:
    """One picture of the demo world; `params` are the generation parameters in its metadata. The gallery serves it with
    `nsfw_level`, with `content_type` where that is not its extension's, and without its prompt if `silent`."""

    id: int
    ext: str
    data: bytes
    width: int
    height: int
    prompt: str
    negative_prompt: str
    params: dict[str, str | int | float]
    nsfw_level: str = "None"
    content_type: str | None = None
    silent: bool = False

    @property
    def name(self) -> str:
        return f"{self.id}.{self.ext}"


def identity(seed: int, index: int) -> int:
    """The gallery's id of picture `index` of world `seed`."""
    return seed * 1_000_000 + index + 1


@dataclass(frozen=True)
class _Draft:
    """What is written into a file besides its picture, and in which metadata format (None: not at all)."""

    prompt: str
    negative_prompt: str
    params: dict[str, str | int | float]
    ext: str
    metadata: str | None


@lru_cache(maxsize=2048)
def demo_file(seed: int, index: int, defects: float = 0.0) -> DemoFile:
    """Picture `index` of world `seed`, of whose records a share of `defects` is defective; the same bytes at every
    call."""
    if defect := plan(seed, index, defects):
        return _defective(seed, index, defects, defect)
    shown = scene(seed, index)
    return _written(identity(seed, index), render(shown), _draft(seed, index, shown))


def _draft(seed: int, index: int, shown: Scene) -> _Draft:
    rng = random.Random(f"file:{seed}:{index}")
    prompt, negative = complex_prompt(shown, rng), negative_prompt(rng)
    params: dict[str, str | int | float] = {
        "steps": rng.choice((20, 25, 30)), "sampler": rng.choice(("Euler a", "DPM++ 2M Karras")),
        "cfgScale": rng.choice((5, 7, 7.5)), "seed": rng.randrange(2**32), "Model": MODEL,
    }  # fmt: skip
    return _Draft(prompt, negative, params, *rng.choice(_FORMATS))


def _written(id: int, picture: Image.Image, draft: _Draft, quality: int = 92) -> DemoFile:
    prompt, negative, params = draft.prompt, draft.negative_prompt, draft.params
    text: str | None = None
    if draft.metadata:
        comfyui = draft.metadata == "comfyui"
        text = _comfyui(prompt, negative, params) if comfyui else _infotext(picture, prompt, negative, params)
    data = _encoded(picture, draft.ext, "prompt" if draft.metadata == "comfyui" else "parameters", text, quality)
    return DemoFile(id, draft.ext, data, *picture.size, prompt, negative, params)


def _defective(seed: int, index: int, defects: float, defect: Defect) -> DemoFile:
    """The file of a record with a defect in its prompt, its picture or its bytes."""
    kind, id = defect.kind, identity(seed, index)
    if kind == "exact_duplicate":
        return replace(demo_file(seed, int(defect.original or 0), defects), id=id)
    rng = random.Random(f"damage:{seed}:{index}")
    picture, quality, draft = render(defect.shown), 92, _draft(seed, index, defect.shown)
    if defect.original is not None:
        draft = replace(draft, prompt=demo_file(seed, defect.original, defects).prompt)
        picture, quality = altered(kind, picture, rng)
    if defect.prompt is not None:
        draft = replace(draft, prompt=defect.prompt)
    match kind:
        case "huge_prompt":  # more than EXIF holds
            draft = replace(draft, ext="png", metadata="a1111")
        case "near_duplicate_recompressed":
            draft = replace(draft, ext=rng.choice(("jpg", "webp")), metadata="a1111")
        case "missing_metadata":
            return replace(_written(id, picture, replace(draft, metadata=None)), silent=True)
        case "wrong_extension":
            ext, other = rng.choice((("jpg", "png"), ("webp", "jpg"), ("png", "jpg"), ("webp", "png")))
            return replace(_written(id, picture, replace(draft, ext=ext, metadata="a1111")), ext=other)
        case "nsfw_level":
            return replace(_written(id, picture, draft), nsfw_level=rng.choice(("Mature", "X")))
    file = _written(id, picture, draft, quality)
    if KINDS[kind].group != "broken files":
        return file
    data, content_type = damaged(kind, file.data, picture, rng)
    return replace(file, data=data, content_type=content_type)


def write_folder(folder: Path, count: int, seed: int) -> list[Path]:
    """Write the first `count` pictures of world `seed` as files with their prompts in the metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(count):
        file = demo_file(seed, index)
        paths.append(folder / file.name)
        paths[-1].write_bytes(file.data)
    return paths


def write_truth(path: Path, count: int, seed: int, defects: float = 0.0) -> None:
    """Write what every picture really shows, a JSON line each; with planted defects also the record's `defect`, the id
    of the record that it copies, what its prompt states instead, and its payload. Only for benchmarks."""
    lines = []
    for index in range(count):
        defect = plan(seed, index, defects)
        shown = defect.shown if defect else scene(seed, index)
        sentence = narrative(shown, random.Random(f"truth:{seed}:{index}"))
        row = {"id": identity(seed, index), "narrative": sentence, **truth(shown)}
        lines.append(json.dumps(row | _defect_truth(seed, defect) if defects else row))
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _defect_truth(seed: int, defect: Defect | None) -> dict[str, object]:
    if defect is None:
        return {"defect": None, "original": None, "stated": None, "payload": []}
    return {
        "defect": defect.kind,
        "original": None if defect.original is None else identity(seed, defect.original),
        "stated": truth(defect.stated) if defect.stated else None,
        "payload": list(defect.payload),
    }


def _infotext(picture: Image.Image, prompt: str, negative: str, params: dict[str, str | int | float]) -> str:
    """Generation parameters as the A1111 web UI writes them."""
    last = (
        f"Steps: {params['steps']}, Sampler: {params['sampler']}, CFG scale: {params['cfgScale']}, "
        f"Seed: {params['seed']}, Size: {picture.width}x{picture.height}, Model: {params['Model']}, Version: v1.10.1"
    )
    return "\n".join((prompt, f"Negative prompt: {negative}", last) if negative else (prompt, last))


def _comfyui(prompt: str, negative: str, params: dict[str, str | int | float]) -> str:
    """The API graph that ComfyUI's SaveImage writes: the sampler's inputs link to the nodes that hold the texts."""
    inputs: dict[str, tuple[str, dict[str, object]]] = {
        "3": ("KSampler", {
            "seed": params["seed"], "steps": params["steps"], "cfg": params["cfgScale"], "sampler_name": "euler",
            "scheduler": "normal", "denoise": 1, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0],
            "latent_image": ["5", 0],
        }),
        "4": ("CheckpointLoaderSimple", {"ckpt_name": f"{params['Model']}.safetensors"}),
        "5": ("EmptyLatentImage", {"width": 128, "height": 128, "batch_size": 1}),
        "6": ("CLIPTextEncode", {"text": prompt, "clip": ["4", 1]}),
        "7": ("CLIPTextEncode", {"text": negative, "clip": ["4", 1]}),
        "8": ("VAEDecode", {"samples": ["3", 0], "vae": ["4", 2]}),
        "9": ("SaveImage", {"filename_prefix": "ComfyUI", "images": ["8", 0]}),
    }  # fmt: skip
    return json.dumps({node: {"inputs": values, "class_type": kind} for node, (kind, values) in inputs.items()})


def _encoded(picture: Image.Image, ext: str, chunk: str, text: str | None, quality: int) -> bytes:
    buffer = io.BytesIO()
    if ext == "png":
        info = PngInfo()
        if text is not None:
            info.add_text(chunk, text)
        picture.save(buffer, "PNG", pnginfo=info)
    else:
        exif = Image.Exif()
        if text is not None:
            exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = b"UNICODE\0" + text.encode("utf-16-be")
        picture.save(buffer, "JPEG" if ext == "jpg" else "WEBP", quality=quality, exif=exif)
    return buffer.getvalue()
