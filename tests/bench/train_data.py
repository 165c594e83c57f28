"""A small dataset of the demo world with every column that training reads, written without a build."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel

from sur_adapter.base_model import encode_prompts, image_size, load_base, pooled_width, text_width
from surd.pipeline.demo.world.prompts import complex_prompt, narrative
from surd.pipeline.demo.world.render import render
from surd.pipeline.demo.world.scenes import scene
from surd.schemas import ColumnManifest, ShardInfo, ShardManifest
from surd.schemas.manifest import EMPTY_PROMPT_KEY, EMPTY_PROMPT_TAR
from surd.schemas.shard_format.tar import add_member

DEMO = "package:pipeline/demo/models/diffusion"
LLM_WIDTH = 576  # of the demo's LLM; the values do not affect the time of a step


def quarter_of_sd15(folder: Path) -> str:
    """Stable Diffusion 1.5 at a quarter of its widths and 256 pixels, with random weights; returns its folder.

    With a quarter of the heads too, its parts have the same shares of a step as in the original: work grows with the
    square of every width, that of softmax with heads and the square of pixels.
    """
    demo = load_base(DEMO, unet=False, vae=False)
    words = CLIPTextConfig.from_dict(
        demo.text_encoder.config.to_dict()
        | {"hidden_size": 192, "num_hidden_layers": 12, "intermediate_size": 768, "num_attention_heads": 3}
    )
    torch.manual_seed(0)
    StableDiffusionPipeline(
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(32, 64, 128, 128),
            layers_per_block=2,
            latent_channels=4,
            sample_size=256,
        ),
        text_encoder=CLIPTextModel(words),
        tokenizer=demo.tokenizer,
        unet=UNet2DConditionModel(
            sample_size=32,
            block_out_channels=(80, 160, 320, 320),
            cross_attention_dim=192,
            norm_num_groups=16,
            attention_head_dim=2,  # the number of heads, by diffusers' name
        ),
        scheduler=DDPMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1, clip_sample=False
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return str(folder)


def write_dataset(build: Path, base: str, count: int, seed: int, device: torch.device | str = "cpu") -> str:
    """One shard of ``count`` scenes and its columns for ``base`` under ``build``, computed on ``device``; returns its
    pattern."""
    pipe = load_base(base, device)
    size = image_size(pipe)
    shard: dict[str, bytes] = {}
    columns: dict[str, dict[str, bytes]] = {name: {} for name in ("latents", "clip-simple", "clip-complex", "llm-x-l1")}
    for number in range(count):
        one, rng = scene(seed, number), random.Random(f"{seed} {number}")
        key = f"{number:016x}"
        texts = {"clip-simple": narrative(one, rng), "clip-complex": complex_prompt(one, rng, markup=False)}
        picture = render(one, size).convert("RGB")
        shard |= {
            f"{key}.png": _png(picture),
            f"{key}.simple.txt": texts["clip-simple"].encode(),
            f"{key}.complex.txt": texts["clip-complex"].encode(),
            f"{key}.json": b"{}",
        }
        for name, text in texts.items():
            columns[name] |= _text_states(pipe, name, key, text)
        columns["latents"][f"{key}.npy"] = npy(_latents(pipe, picture))
        columns["llm-x-l1"][f"{key}.npy"] = npy(np.random.default_rng([seed, number]).normal(size=LLM_WIDTH))
    info = write_tar(build / "shards/surd-00000.tar", shard, count)
    write_json(build / "shards", ShardManifest(count=count, diffusion=base, shards=[info]))
    for name, members in columns.items():
        info = write_tar(build / f"columns/{name}/surd-00000.tar", members, count)
        empty = None
        if name == "clip-simple":
            states = _text_states(pipe, name, EMPTY_PROMPT_KEY, "")
            empty = write_tar(build / f"columns/{name}/{EMPTY_PROMPT_TAR}", states, 1)
        write_json(build / "columns" / name, _describe(name, base, pipe, info, empty))
    return f"{build}/shards/surd-{{00000..00000}}.tar"


def _describe(name: str, base: str, pipe: Any, info: ShardInfo, empty: ShardInfo | None) -> ColumnManifest:
    width, tokens = text_width(pipe), pipe.tokenizer.model_max_length
    side, channels = pipe.unet.config.sample_size, 2 * pipe.vae.config.latent_channels
    fields: dict[str, dict[str, Any]] = {
        "latents": {
            "kind": "latents", "width": side, "shape": [channels, side, side], "dtype": "float16",
            "scaling_factor": pipe.vae.config.scaling_factor, "image_size": image_size(pipe),
        },
        "llm-x-l1": {
            "kind": "llm", "width": LLM_WIDTH, "dtype": "float32", "text": "simple", "layer": 1, "pooling": "mean",
            "model": "x",
        },
    }  # fmt: skip
    text = {"kind": "clip", "width": width, "shape": [tokens, width], "dtype": "float16", "mask": True}
    text |= {"text": name.removeprefix("clip-"), "empty": empty}
    if name == "clip-simple":
        text["pooled"] = pooled_width(pipe) or None
    common = {"column": name, "model": base, "revision": "0", "count": info.count, "shards": [info]}
    return ColumnManifest.model_validate(common | fields.get(name, text))


def _text_states(pipe: Any, name: str, key: str, text: str) -> dict[str, bytes]:
    """As the column ``name`` has them: pooled text is for the denoiser, which sees no complex prompt."""
    encoded = encode_prompts(pipe, [text])
    states, mask = encoded.states[0].half().cpu().numpy(), encoded.mask[0].cpu().numpy().astype(np.uint8)
    members = {f"{key}.npy": npy(states), f"{key}.mask.npy": npy(mask)}
    if encoded.pooled is not None and name != "clip-complex":
        members[f"{key}.pooled.npy"] = npy(encoded.pooled[0].half().cpu().numpy())
    return members


@torch.no_grad()
def _latents(pipe: Any, picture: Image.Image) -> np.ndarray:
    pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    posterior = pipe.vae.encode(pixels.to(pipe.device)).latent_dist
    return torch.cat([posterior.mean, posterior.std], dim=1)[0].half().cpu().numpy()


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    return stream.getvalue()


def npy(array: np.ndarray) -> bytes:
    """The bytes of an .npy file; float64 as float32."""
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(array.astype(np.float32) if array.dtype == np.float64 else array))
    return stream.getvalue()


def write_tar(path: Path, members: dict[str, bytes], count: int) -> ShardInfo:
    """Write a tar of these members; returns the manifest's entry."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file, tarfile.open(fileobj=file, mode="w|") as tar:
        for name, data in members.items():
            add_member(tar, name, data)
    data = path.read_bytes()
    return ShardInfo(name=path.name, count=count, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def write_json(folder: Path, document: Any) -> None:
    """Write a folder's manifest."""
    (folder / "manifest.json").write_text(document.model_dump_json())
