"""Turns demo pictures into an autoencoder: 64x64x3 pixels to 16x16x8 latents and back."""

import logging
import math
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn.functional import l1_loss, mse_loss

from . import checkpoint
from .dataset import HELD_OUT_SEED, TRAIN_SEED, batches, normalised, pictures, pixels
from .scenes import scene
from .train_clip import SCENES

log = logging.getLogger(__name__)
MEAN = STD = (0.5, 0.5, 0.5)
BATCH, RATE, KL, CHANNELS = 8, 2e-3, 1e-4, 8


def build() -> AutoencoderKL:
    """The untrained autoencoder; without attention it is a local map and trains fast."""
    torch.manual_seed(0)
    model = AutoencoderKL(
        block_out_channels=(16, 32, 64), layers_per_block=1, norm_num_groups=8, latent_channels=CHANNELS, sample_size=64,
        down_block_types=["DownEncoderBlock2D"] * 3, up_block_types=["UpDecoderBlock2D"] * 3,
        mid_block_add_attention=False,
    )  # fmt: skip
    with torch.no_grad():  # the posterior starts narrow: drawn with deviation 1, it would drown the picture
        model.quant_conv.weight[CHANNELS:] = 0
        model.quant_conv.bias[CHANNELS:] = -5
    return model.to(memory_format=torch.channels_last)


def train(work: Path, steps: int, stop: float) -> None:
    """Trains to `steps` steps or `stop` seconds, whichever comes first, from the last checkpoint if there is one; the
    result stays a checkpoint under `work` until the diffusion training builds the pipeline folder."""
    model = build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    first, extra = checkpoint.resume(work / "vae.safetensors", model, optimizer)
    clock = checkpoint.Clock(float(extra.get("seconds", 0)))
    table = pictures(work, TRAIN_SEED, SCENES)
    for step, indices in batches(TRAIN_SEED + 1, SCENES, BATCH, first):
        done = max(step / steps, clock.seconds / stop)
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        picture = normalised(np.ascontiguousarray(table[indices, step % 2]), MEAN, STD)
        posterior = model.encode(picture).latent_dist
        loss = distance(model.decode(posterior.sample()).sample, picture) + KL * posterior.kl().mean() / (256 * CHANNELS)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            log.info("step %d, loss %.4f, %.0f s", step, loss.item(), clock.seconds)
        if step % 50 == 49:
            checkpoint.save(work / "vae.safetensors", step + 1, model, optimizer, seconds=torch.tensor(clock.seconds))
    checkpoint.save(work / "vae.safetensors", step, model, optimizer, seconds=torch.tensor(clock.seconds))
    log.info("PSNR on held-out pictures after %d steps: %.1f dB", step, psnr(model))


def distance(got: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Squared and absolute error (the first finds the things, the second the flat background) and the absolute error
    of the differences to right and below, which keeps edges sharp."""
    across, down = (l1_loss(got.diff(dim=d), wanted.diff(dim=d)) for d in (2, 3))
    return 3 * mse_loss(got, wanted) + 0.5 * l1_loss(got, wanted) + across + down


@torch.inference_mode()
def psnr(model: AutoencoderKL, count: int = 128) -> float:
    """Peak signal-to-noise ratio (dB) of held-out pictures through the autoencoder and back."""
    picture = normalised(pixels([scene(HELD_OUT_SEED, index) for index in range(count)]), MEAN, STD)
    back = model.decode(model.encode(picture).latent_dist.mean).sample.clamp(-1, 1)
    return 10 * math.log10(4 / float((back - picture).square().mean()))
