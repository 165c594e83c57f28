"""A real Stable Diffusion pipeline and a real build, both as small as they can be."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from sur_adapter.base_model import encode_prompts, load_base
from sur_adapter.data.batch import collate
from sur_adapter.data.shard_dataset import ShardDataset
from sur_adapter.training.config import TrainConfig
from surd.schemas.manifest import ColumnManifest, ShardInfo, ShardManifest

WIDTH, LLM_WIDTH, CONTEXT, SIZE = 32, 24, 16, 32
WORDS = ["one", "two", "three", "red", "blue", "cat", "dog", "apple", "runs", "sits", "masterpiece", "8k", "sharp"]
COLUMN = "llm-tiny-l2"


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers StableDiffusionPipeline folder with random weights: 32x32 pixels, 8x8x4 latents, v-prediction."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(_vocabulary()),
            hidden_size=WIDTH,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=SIZE,
    )
    unet = UNet2DConditionModel(
        sample_size=SIZE // 4,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        attention_head_dim=8,
        norm_num_groups=8,
        cross_attention_dim=WIDTH,
    )
    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=_tokenizer(folder / "words"),
        unet=unet,
        scheduler=DDIMScheduler(prediction_type="v_prediction", clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder / "model")
    return folder / "model"


@dataclass
class TinyBuild:
    """A build of ``count`` samples a shard, written member by member so that a test can spoil any of them."""

    root: Path
    base: Path
    shards: int = 2
    count: int = 6
    llm: list[np.ndarray] = field(default_factory=list)

    @property
    def pattern(self) -> str:
        return f"{self.root}/shards/surd-{{00000..{self.shards - 1:05d}}}.tar"

    def keys(self, shard: int) -> list[str]:
        return [hashlib.sha256(f"{shard}/{i}".encode()).hexdigest()[:16] for i in range(self.count)]

    def write(self) -> TinyBuild:
        random = np.random.default_rng(0)
        shards, columns = [], []
        for number in range(self.shards):
            members, vectors = {}, {}
            for i, key in enumerate(self.keys(number)):
                words = [WORDS[(number + i + j) % len(WORDS)] for j in range(3)]
                pixels = random.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
                members |= {
                    f"{key}.png": _png(pixels),
                    f"{key}.simple.txt": " ".join(words).encode(),
                    f"{key}.complex.txt": " ".join([*words, "masterpiece", "8k", "sharp"]).encode(),
                    f"{key}.json": json.dumps({"key": key}).encode(),
                }
                vectors[f"{key}.npy"] = npy(random.standard_normal(LLM_WIDTH).astype(np.float16))
            shards.append(write_tar(self.root / f"shards/surd-{number:05d}.tar", members, self.count))
            columns.append(write_tar(self.root / f"columns/{COLUMN}/surd-{number:05d}.tar", vectors, self.count))
        total = self.shards * self.count
        manifest = ShardManifest(count=total, diffusion=str(self.base), shards=shards)
        (self.root / "shards/manifest.json").write_text(manifest.model_dump_json())
        self.describe_column(columns)
        return self

    def add_columns(self, *kinds: str) -> TinyBuild:
        """Columns beside the LLM's: latents, clip-simple, clip-complex, or "tokens", an LLM column of tokens."""
        pipe = load_base(str(self.base))
        data = ShardDataset(self.pattern)
        infos: dict[str, list[ShardInfo]] = {kind: [] for kind in kinds}
        for number in range(self.shards):
            members: dict[str, dict[str, bytes]] = {kind: {} for kind in kinds}
            for index in range(self.count):
                batch = collate([data.read((number, index))], SIZE)
                posterior = pipe.vae.encode(batch.images_BCHW).latent_dist
                arrays = {"latents.npy": torch.cat([posterior.mean, posterior.std], dim=1)[0].half().numpy()}
                for name, texts in (("clip-simple", batch.simple), ("clip-complex", batch.complex)):
                    arrays |= _text_states(pipe, name, texts)
                tokens = np.random.default_rng([number, index]).standard_normal((2 + index % 3, LLM_WIDTH))
                arrays["tokens.npy"] = tokens.astype(np.float32)
                for name, array in arrays.items():
                    kind, _, suffix = name.partition(".")
                    if kind in kinds:
                        members[kind][f"{batch.keys[0]}.{suffix}"] = npy(np.ascontiguousarray(array))
            for kind in kinds:
                folder = f"{COLUMN}-tokens" if kind == "tokens" else kind
                tar = self.root / f"columns/{folder}/surd-{number:05d}.tar"
                infos[kind].append(write_tar(tar, members[kind], self.count))
        about: dict[str, dict[str, object]] = {
            "latents": {
                "kind": "latents", "shape": [8, 8, 8], "width": 8, "dtype": "float16", "image_size": SIZE,
                "scaling_factor": pipe.vae.config.scaling_factor,
            },
            "tokens": {
                "kind": "llm", "shape": [None, LLM_WIDTH], "width": LLM_WIDTH, "dtype": "float32", "layer": 2,
                "pooling": "tokens", "text": "simple",
            },
        }  # fmt: skip
        for kind in kinds:
            fields = about.get(kind) or self._describe_text_states(pipe, kind)
            name = f"{COLUMN}-tokens" if kind == "tokens" else kind
            model = "tiny" if kind == "tokens" else str(self.base)
            manifest = ColumnManifest.model_validate(
                {"column": name, "model": model, "revision": "0", "count": self.shards * self.count}
                | {"shards": infos[kind]} | fields
            )  # fmt: skip
            (self.root / f"columns/{name}/manifest.json").write_text(manifest.model_dump_json())
        return self

    def _describe_text_states(self, pipe: Any, kind: str) -> dict[str, Any]:
        empty = _text_states(pipe, "empty", [""])
        states, pooled = empty["empty.npy"], empty.get("empty.pooled.npy")
        members = {name: npy(array) for name, array in empty.items()}
        fields = {
            "kind": "clip", "text": kind.removeprefix("clip-"), "dtype": "float16", "mask": True,
            "shape": list(states.shape), "width": states.shape[1],
        }  # fmt: skip
        if kind == "clip-complex":
            return fields
        fields["pooled"] = None if pooled is None else len(pooled)
        return fields | {"empty": write_tar(self.root / f"columns/{kind}/empty.tar", members, 1)}

    def describe_column(self, shards: list[ShardInfo], column: str = COLUMN, width: int = LLM_WIDTH) -> None:
        manifest = ColumnManifest(
            column=column,
            kind="llm",
            model="tiny",
            revision="0",
            layer=2,
            pooling="mean",
            width=width,
            dtype="float16",
            text="simple",
            count=sum(info.count for info in shards),
            shards=shards,
        )
        (self.root / f"columns/{column}/manifest.json").write_text(manifest.model_dump_json())


def _text_states(pipe: Any, name: str, texts: list[str]) -> dict[str, np.ndarray]:
    """As a column has them, by member; pooled text is for the UNet, which meets no complex prompt."""
    encoded = encode_prompts(pipe, texts)
    arrays = {
        f"{name}.npy": encoded.states[0].half().numpy(),
        f"{name}.mask.npy": encoded.mask[0].numpy().astype(np.uint8),
    }
    if encoded.pooled is not None and name != "clip-complex":
        arrays[f"{name}.pooled.npy"] = encoded.pooled[0].half().numpy()
    return arrays


@pytest.fixture
def build(tmp_path: Path, base: Path) -> TinyBuild:
    """Two shards of six samples with one LLM column."""
    return TinyBuild(tmp_path / "build", base).write()


@pytest.fixture
def config(build: TinyBuild, tmp_path: Path) -> Callable[..., TrainConfig]:
    """A training of the tiny build, its fields overridden by name."""

    def make(**fields: object) -> TrainConfig:
        defaults = {
            "shards": build.pattern,
            "out": tmp_path / "run",
            "steps": 4,
            "batch_size": 4,
            "heads": 4,
            "feed_forward": 64,
            "dropout": 0.1,  # so that a resumed run must draw the same
            "device": "cpu",
        }
        return TrainConfig.model_validate(defaults | fields)

    return make


@pytest.fixture(name="write_tar")
def _write_tar() -> Callable[..., ShardInfo]:
    return write_tar


@pytest.fixture(name="npy")
def _npy() -> Callable[..., bytes]:
    return npy


def write_tar(path: Path, members: dict[str, bytes], count: int) -> ShardInfo:
    """Write ``members`` in order; returns the manifest's entry."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    data = path.read_bytes()
    return ShardInfo(name=path.name, count=count, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def npy(array: np.ndarray, *, allow_pickle: bool = False) -> bytes:
    """The bytes of an .npy file."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=allow_pickle)
    return stream.getvalue()


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def _vocabulary() -> dict[str, int]:
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + list("0123456789")
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    return {token: number for number, token in enumerate(tokens)}


def _tokenizer(folder: Path) -> CLIPTokenizer:
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(_vocabulary()))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=CONTEXT)
