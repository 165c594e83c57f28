"""Turns (seed, index) into a picture file as the web has it: PNG, JPEG or WebP that carries its prompt."""

import io
import json
import random
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .prompts import complex_prompt, narrative, negative_prompt, truth
from .render import render
from .scenes import scene

MODEL = "emojiDiffusion_v1"
_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286
#: (file extension, how the prompt is written into it), as often as each is met.
_WAYS = (("png", "a1111"), ("png", "a1111"), ("png", "comfyui"), ("jpg", "a1111"), ("webp", "a1111"))


@dataclass(frozen=True)
class DemoFile:
    """One picture of the demo world; `params` are the generation parameters its metadata also states."""

    id: int
    ext: str
    data: bytes
    width: int
    height: int
    prompt: str
    negative_prompt: str
    params: dict[str, str | int | float]

    @property
    def name(self) -> str:
        return f"{self.id}.{self.ext}"


def identity(seed: int, index: int) -> int:
    """The id a gallery gives picture `index` of world `seed`."""
    return seed * 1_000_000 + index + 1


@lru_cache(maxsize=2048)
def demo_file(seed: int, index: int) -> DemoFile:
    """Picture `index` of world `seed`; the same bytes at every call."""
    rng = random.Random(f"file:{seed}:{index}")
    shown = scene(seed, index)
    picture, prompt, negative = render(shown), complex_prompt(shown, rng), negative_prompt(rng)
    params: dict[str, str | int | float] = {
        "steps": rng.choice((20, 25, 30)), "sampler": rng.choice(("Euler a", "DPM++ 2M Karras")),
        "cfgScale": rng.choice((5, 7, 7.5)), "seed": rng.randrange(2**32), "Model": MODEL,
    }  # fmt: skip
    ext, way = rng.choice(_WAYS)
    written = _comfyui(prompt, negative, params) if way == "comfyui" else _infotext(picture, prompt, negative, params)
    data = _encoded(picture, ext, "prompt" if way == "comfyui" else "parameters", written)
    return DemoFile(identity(seed, index), ext, data, *picture.size, prompt, negative, params)


def write_folder(folder: Path, count: int, seed: int) -> list[Path]:
    """The first `count` pictures of world `seed` as files that carry their prompts."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(count):
        file = demo_file(seed, index)
        paths.append(folder / file.name)
        paths[-1].write_bytes(file.data)
    return paths


def write_truth(path: Path, count: int, seed: int) -> None:
    """What every picture really shows, a JSON line each. Only a benchmark may open this."""
    lines = []
    for index in range(count):
        shown = scene(seed, index)
        sentence = narrative(shown, random.Random(f"truth:{seed}:{index}"))
        lines.append(json.dumps({"id": identity(seed, index), "narrative": sentence, **truth(shown)}))
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _infotext(picture: Image.Image, prompt: str, negative: str, params: dict[str, str | int | float]) -> str:
    """The text that the A1111 web UI writes."""
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


def _encoded(picture: Image.Image, ext: str, chunk: str, text: str) -> bytes:
    buffer = io.BytesIO()
    if ext == "png":
        info = PngInfo()
        info.add_text(chunk, text)
        picture.save(buffer, "PNG", pnginfo=info)
    else:
        exif = Image.Exif()
        exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = b"UNICODE\0" + text.encode("utf-16-be")
        picture.save(buffer, "JPEG" if ext == "jpg" else "WEBP", quality=92, exif=exif)
    return buffer.getvalue()
