"""Training of the demo autoencoder: 64x64x3 pixels to 8x8x24 latents and back."""

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn.functional import l1_loss, mse_loss

from surd.pipeline.demo.training import checkpoint
from surd.pipeline.demo.training.train_eye import SCENES
from surd.pipeline.demo.world.dataset import HELD_OUT_SEED, TRAIN_SEED, batches, normalised, pictures, pixels
from surd.pipeline.demo.world.scenes import scene

log = logging.getLogger(__name__)
MEAN = STD = (0.5, 0.5, 0.5)
BATCH, RATE, CHANNELS, FITTED = 16, 2e-3, 24, 3000
PATCH, GRID = 8, 8
_STEADY = 100.0  # see fit_encoder


def build() -> Any:
    """The untrained AutoencoderKL; without attention it is a local map and trains fast."""
    torch.manual_seed(0)
    model: Any = AutoencoderKL(
        block_out_channels=(32, 64, 96, 96), layers_per_block=1, norm_num_groups=8, latent_channels=CHANNELS,
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
        mid_block_add_attention=False, sample_size=64,
    )  # fmt: skip
    for name, parameter in model.named_parameters():
        if ".conv2." in name:  # every residual block starts as the identity
            torch.nn.init.zeros_(parameter)
    return model.to(memory_format=torch.channels_last)


def patches(images: np.ndarray) -> torch.Tensor:
    """uint8 [N, 64, 64, 3] -> float [N, 8, 8, 192] in -1..1, a patch laid out as row, column, colour."""
    pixel = torch.from_numpy(images.astype(np.float32) / 127.5 - 1)
    return pixel.reshape(-1, GRID, PATCH, GRID, PATCH, 3).permute(0, 1, 3, 2, 4, 5).flatten(3)


def components(images: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean patch [192] and the projection [192, 24] onto the principal components of all 8x8 patches, the best
    linear code; each is divided by the root of its deviation, so that fine detail is neither lost nor dominant."""
    every = patches(images).flatten(0, 2)
    values, vectors = torch.linalg.eigh(torch.cov(every.T))
    return every.mean(dim=0), vectors.flip(1)[:, :CHANNELS] / values.flip(0)[:CHANNELS] ** 0.25


def code_of(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The projection [192, 24] and shift [24] that `fit_encoder` wrote into an autoencoder: patches @ projection +
    shift are its latents, before scaling."""
    gather = model.encoder.down_blocks[2].downsamplers[0].conv
    projection = torch.zeros(PATCH, PATCH, 3, CHANNELS)
    for row in range(PATCH):
        for column in range(PATCH):
            inner = 3 * (row % 2 * 2 + column % 2) + 12 * (row // 2 % 2 * 2 + column // 2 % 2)
            projection[row, column] = gather.weight[::4, inner : inner + 3, row // 4, column // 4].detach().T
    return projection.flatten(0, 2), gather.bias[::4].detach().clone()


@torch.no_grad()
def fit_encoder(model: Any, images: np.ndarray) -> None:
    """Write the principal components of `images` into the encoder, without any training.

    The first two halvings move each 2x2 block into channels, the third does so and projects. An encoder of this class
    ends in a group norm and a SiLU. Both pass a linear code on: a pair u, -u has mean zero, beside a large constant
    pair its deviation hardly varies, and silu(u) - silu(-u) = u.
    """
    centre, projection = components(images)
    centre, project = centre.view(PATCH, PATCH, 3), projection.T.reshape(CHANNELS, PATCH, PATCH, 3)
    encoder = model.encoder
    for parameter in [*encoder.parameters(), *model.quant_conv.parameters()]:
        parameter.zero_()
    for colour in range(3):
        encoder.conv_in.weight[colour, colour, 1, 1] = 1
    for block in (1, 2, 3):
        shortcut = getattr(encoder.down_blocks[block].resnets[0], "conv_shortcut", None)
        if shortcut is not None:
            for channel in range(shortcut.in_channels):
                shortcut.weight[channel, channel] = 1
    for block, channels in ((0, 3), (1, 12)):  # 2x2 pixels of `channels` become one of 4 * `channels`
        gather = encoder.down_blocks[block].downsamplers[0].conv
        for place in range(4):
            for channel in range(channels):
                gather.weight[channels * place + channel, channel, place // 2, place % 2] = 1
    gather = encoder.down_blocks[2].downsamplers[0].conv
    deviation = math.sqrt(2 * _STEADY**2 / 4)
    for code in range(CHANNELS):
        for sign, place in ((1, 0), (-1, 1)):
            for row in range(PATCH):
                for column in range(PATCH):
                    inner = 3 * (row % 2 * 2 + column % 2) + 12 * (row // 2 % 2 * 2 + column // 2 % 2)
                    taps = sign * project[code, row, column]
                    gather.weight[4 * code + place, inner : inner + 3, row // 4, column // 4] = taps
            gather.bias[4 * code + place] = -sign * (project[code] * centre).sum()
            gather.bias[4 * code + 2 + place] = sign * _STEADY
            encoder.conv_norm_out.weight[4 * code + place] = deviation
            encoder.conv_out.weight[code, 4 * code + place, 1, 1] = sign
        model.quant_conv.weight[code, code] = 1
    model.quant_conv.bias[CHANNELS:] = -8  # logarithm of the posterior's variance: almost certain


def train(work: Path, steps: int, stop: float) -> None:
    """Fit the encoder, then train the decoder to `steps` steps or `stop` seconds, whichever comes first, from the
    last checkpoint if there is one; the result stays under `work` until the diffusion training exports it."""
    table = pictures(work, TRAIN_SEED, SCENES)
    model = build()
    decoder = [*model.decoder.parameters(), *model.post_quant_conv.parameters()]
    optimizer = torch.optim.AdamW(decoder, lr=RATE, betas=(0.9, 0.99), weight_decay=0.0)
    first, extra = checkpoint.resume(work / "vae.safetensors", model, optimizer)
    if not first:
        fit_encoder(model, table[:FITTED])
        checkpoint.save(work / "vae.safetensors", 0, model, optimizer)
    clock = checkpoint.TrainingClock(float(extra.get("seconds", 0)))
    for step, indices in batches(TRAIN_SEED + 1, SCENES, BATCH, first):
        done = max(step / steps, clock.seconds / stop)
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        picture = normalised(table[indices], MEAN, STD)
        with torch.no_grad():
            latents = model.encode(picture).latent_dist.mean
        # A little noise, because the latents of a denoiser are not quite right.
        loss = distance(model.decode(latents + 0.05 * torch.randn_like(latents)).sample, picture)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(decoder, 1.0)
        optimizer.step()
        if step % 50 == 0:
            log.info("step %d, loss %.4f, %.0f s", step, loss.item(), clock.seconds)
        if step % 100 == 99:
            checkpoint.save(work / "vae.safetensors", step + 1, model, optimizer, seconds=torch.tensor(clock.seconds))
        if step % 500 == 499:
            log.info("PSNR on held-out pictures after %d steps: %.1f dB", step + 1, psnr(model))
    checkpoint.save(work / "vae.safetensors", step, model, optimizer, seconds=torch.tensor(clock.seconds))
    log.info("PSNR on held-out pictures after %d steps: %.1f dB", step, psnr(model))


def distance(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Squared and absolute error (the first for the things, the second for the flat background) and the absolute
    error of the differences to right and below, which keeps edges sharp."""
    across, down = (l1_loss(output.diff(dim=d), target.diff(dim=d)) for d in (2, 3))
    return 3 * mse_loss(output, target) + 0.5 * l1_loss(output, target) + across + down


@torch.inference_mode()
def psnr(model: Any, count: int = 128) -> float:
    """Peak signal-to-noise ratio (dB) of held-out pictures through the autoencoder and back."""
    picture = normalised(pixels([scene(HELD_OUT_SEED, index) for index in range(count)]), MEAN, STD)
    back = model.decode(model.encode(picture).latent_dist.mean).sample.clamp(-1, 1)
    return 10 * math.log10(4 / float((back - picture).square().mean()))
