"""Training of the demo's Stable Diffusion (64x64 pixels) on pictures and their keyword prompts."""

import json
import logging
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch.nn.functional import cross_entropy
from transformers import CLIPTextModel, CLIPTokenizer

from surd.pipeline.demo.training import checkpoint, train_judge, train_text, train_vae
from surd.pipeline.demo.training.checkpoint import MODELS
from surd.pipeline.demo.training.train_eye import SCENES, patch_labels
from surd.pipeline.demo.world.dataset import HELD_OUT_SEED, TRAIN_SEED, batches, pictures
from surd.pipeline.demo.world.prompts import complex_prompt
from surd.pipeline.demo.world.scenes import scene
from surd.pipeline.demo.world.sprites import names

log = logging.getLogger(__name__)
FOLDER = MODELS / "diffusion"
BATCH, RATE, DROPPED = 64, 1e-3, 0.1
RATE_FURTHER = 5e-4
GUIDANCE = 2.5  # at 4 fewer subjects and actions are right, at 7 fewer still
WIDTH, LATENT = 208, train_vae.GRID
PATCH_WEIGHT = 0.1  # weight of the patch head's loss


def scheduler() -> Any:
    """Velocity prediction down to zero signal: flat backgrounds need a schedule that ends in pure noise."""
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", rescale_betas_zero_snr=True,
        timestep_spacing="trailing", clip_sample=False, steps_offset=1,
    )  # fmt: skip


def build_unet() -> Any:
    """The untrained UNet2DConditionModel: one resolution, 8x8, cross-attention in every block."""
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=LATENT, in_channels=train_vae.CHANNELS, out_channels=train_vae.CHANNELS, layers_per_block=1,
        block_out_channels=(WIDTH,), down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",), cross_attention_dim=train_text.WIDTH, attention_head_dim=4,
        norm_num_groups=16, resnet_time_scale_shift="scale_shift",
    )  # fmt: skip


class _UnetWithPatchHead(torch.nn.Module):
    """The UNet, and a head on its middle block that classifies what each patch of the clean picture shows.

    The head makes the middle decide early what goes where, which velocities alone teach only slowly. Not exported.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unet = build_unet()
        self.patch_head = torch.nn.Linear(WIDTH, 1 + len(names()))
        torch.nn.init.zeros_(self.patch_head.weight)  # an untrained head does not disturb a trained UNet
        self._middle: list[torch.Tensor] = []
        self.unet.mid_block.register_forward_hook(lambda module, args, output: self._middle.append(output))

    def forward(self, noisy: torch.Tensor, t: torch.Tensor, words: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        velocity = self.unet(noisy, t, encoder_hidden_states=words, return_dict=False)[0]
        return velocity, self.patch_head(self._middle.pop().flatten(2).transpose(1, 2))


class _Data:
    """Batches of latents, text states of keyword prompts and patch labels, computed on demand."""

    def __init__(self, work: Path, further: bool) -> None:
        self.encoder, self.tokenizer, self.vae = _frozen_parts(work, further)
        self._pictures = pictures(work, TRAIN_SEED, SCENES)
        self._projection, self._shift = train_vae.code_of(self.vae)
        self.scale = self.vae.config.scaling_factor if further else float(1 / self._latents(range(2000)).std())
        self.empty = self.states([""])[0]

    def _latents(self, rows: Any) -> torch.Tensor:
        """[N, 24, 8, 8]: what the autoencoder's encoder computes, by one matrix product."""
        patches = train_vae.patches(np.asarray(self._pictures[list(rows)]))
        return (patches @ self._projection + self._shift).permute(0, 3, 1, 2)

    @torch.no_grad()
    def states(self, texts: list[str]) -> torch.Tensor:
        """Text states [N, 77, 192]."""
        with checkpoint.fast_computing():
            return train_text.encode(self.encoder, self.tokenizer, texts).last_hidden_state.float()

    def batch(self, step: int, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Scaled latents, states of fresh keyword prompts (some dropped), and labels [N, 64] of the scenes `rows`."""
        rng = random.Random(f"diffusion:{step}")
        scenes = [scene(TRAIN_SEED, row) for row in rows]
        states = self.states([complex_prompt(one, rng, markup=rng.random() > 0.9) for one in scenes])
        states[torch.tensor([rng.random() < DROPPED for _ in rows])] = self.empty
        return self._latents(rows) * self.scale, states, torch.tensor([patch_labels(one) for one in scenes])


def _frozen_parts(work: Path, further: bool) -> tuple[Any, Any, Any]:
    """Text encoder, tokenizer and autoencoder: the embedded model's, or those of their trainings under `work`."""
    if further:
        encoder: Any = CLIPTextModel.from_pretrained(FOLDER / "text_encoder", dtype=torch.float32)
        vae: Any = AutoencoderKL.from_pretrained(FOLDER / "vae", torch_dtype=torch.float32)
        return encoder.eval(), CLIPTokenizer.from_pretrained(FOLDER / "tokenizer"), vae.eval()
    encoder, vae = train_text.build(), train_vae.build()
    checkpoint.load_weights(work / "text.safetensors", encoder)
    checkpoint.load_weights(work / "vae.safetensors", vae)
    return encoder.eval(), train_text.tokenizer(), vae.eval()


def train(work: Path, steps: int, stop: float, further: bool = False) -> None:
    """Train to `steps` steps or `stop` seconds, whichever comes first, from the last checkpoint if there is one, or
    from the embedded model's weights if `further`; the running average of the weights is exported every hour and at
    the end."""
    data, network, noising = (
        _Data(work, further),
        _UnetWithPatchHead().to(memory_format=torch.channels_last),
        scheduler(),
    )
    before, rate = (checkpoint.trainings(FOLDER / "unet"), RATE_FURTHER) if further else ([], RATE)
    if further:
        network.unet.load_state_dict(UNet2DConditionModel.from_pretrained(FOLDER / "unet").float().state_dict())
    average = {name: value.clone() for name, value in network.unet.state_dict().items()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.01)
    path = work / "diffusion.safetensors"
    first, extra = checkpoint.resume(path, network, optimizer)
    clock = checkpoint.TrainingClock(float(extra.pop("seconds", 0)))
    average |= extra
    exported, step = clock.seconds, first
    generator = torch.Generator().manual_seed(first)
    fast = torch.compile(network)

    def export_average(step: int, measured: int) -> None:
        unet = build_unet()
        unet.load_state_dict(average)
        run = {"steps": step, "batch": BATCH, "minutes": round(clock.seconds / 60)}
        export(unet, data, work, [*before, run], measured)

    for step, rows in batches(TRAIN_SEED, SCENES, BATCH, first):
        done = max(step / steps, clock.seconds / stop)
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 200) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        velocity, patches = loss(fast, noising, *data.batch(step, rows), generator)
        optimizer.zero_grad()
        (velocity + PATCH_WEIGHT * patches).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        keep = min(0.999, (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.values()), list(network.unet.state_dict().values()), 1 - keep)
        if step % 50 == 0:
            log.info("step %d, velocity %.4f, patches %.3f, %.0f s", step, velocity, patches, clock.seconds)
        if step % 250 == 249:
            checkpoint.save(path, step + 1, network, optimizer, seconds=torch.tensor(clock.seconds), **average)
        if clock.seconds - exported > 3600:
            exported = clock.seconds
            export_average(step + 1, measured=160)
    checkpoint.save(path, step, network, optimizer, seconds=torch.tensor(clock.seconds), **average)
    export_average(step, measured=400)


def loss(
    network: Any, noising: Any, clean: torch.Tensor, words: torch.Tensor, labels: torch.Tensor,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Velocity loss with min-SNR weights (arXiv 2303.09556, gamma 5), and the patch head's cross-entropy."""
    noise = torch.randn(clean.shape, generator=generator)
    t = torch.randint(0, noising.config.num_train_timesteps, (len(clean),), generator=generator)
    noisy, velocity = noising.add_noise(clean, noise, t), noising.get_velocity(clean, noise, t)
    with checkpoint.fast_computing():
        prediction, patches = network(noisy.contiguous(memory_format=torch.channels_last), t, words)
    signal = noising.alphas_cumprod[t]
    snr = signal / (1 - signal)
    weight = snr.clamp(max=5) / (snr + 1) + 0.1  # the last steps, nearly all noise, decide the background
    velocities = (weight * (prediction.float() - velocity).square().mean(dim=(1, 2, 3))).mean()
    return velocities, cross_entropy(patches.flatten(0, 1).float(), labels.flatten())


def export(unet: Any, data: _Data, work: Path, runs: list[dict[str, int]], measured: int) -> None:
    """Write the pipeline folder anew in fp16, measured on `measured` pictures, and a grid of pictures of held-out
    prompts under `work`."""
    vae = data.vae
    vae.register_to_config(scaling_factor=data.scale)
    pipeline: Any = StableDiffusionPipeline(
        vae, data.encoder, data.tokenizer, unet.eval(), scheduler(), None, None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    right, sheet = facts_right(pipeline, measured)
    sheet.save(work / f"grid-{runs[-1]['steps']}.png")
    log.info("exported after %s: %s", checkpoint.describe(runs), right)
    text = card(runs, right, train_vae.psnr(vae))

    def write(folder: Path) -> None:
        for part in (vae, data.encoder, unet):
            part.half()
        pipeline.save_pretrained(folder)
        words = folder / "text_encoder" / "config.json"  # diffusers loads its own parts as fp32; this one must follow
        words.write_text(words.read_text().replace('"float16"', '"float32"'))
        for part in (vae, data.encoder, unet):
            part.float()
        (folder / "README.md").write_text(text)
        (folder / "unet" / "trainings.json").write_text(json.dumps(runs) + "\n")

    checkpoint.export(FOLDER, write)


def generate(pipeline: Any, prompts: list[str], seed: int = 0, batch: int = 40) -> list[Image.Image]:
    """One picture for each prompt, in 20 steps at this model's best guidance."""
    generator, images = torch.Generator().manual_seed(seed), []
    with checkpoint.fast_computing():
        for at in range(0, len(prompts), batch):
            images += pipeline(
                prompts[at : at + batch], num_inference_steps=20, guidance_scale=GUIDANCE, height=64, width=64,
                generator=generator,
            ).images  # fmt: skip
    return images


def facts_right(pipeline: Any, count: int) -> tuple[dict[str, float], Image.Image]:
    """Per group of facts, the share of pictures generated from held-out keyword prompts in which the judge
    recognises the prompt's own; and a sheet of the first 40 pictures at double size."""
    scenes = [scene(HELD_OUT_SEED, index) for index in range(count)]
    prompts = [complex_prompt(one, random.Random(index), markup=False) for index, one in enumerate(scenes)]
    images = generate(pipeline, prompts)
    sheet = Image.new("RGB", (8 * 130, 5 * 130))
    for place, picture in enumerate(images[:40]):
        sheet.paste(picture.resize((128, 128)), (place % 8 * 130, place // 8 * 130))
    return train_judge.shares(train_judge.load(), np.stack([np.asarray(picture) for picture in images]), scenes), sheet


def card(runs: list[dict[str, int]], right: dict[str, float], psnr: float) -> str:
    """The model card, from what was measured."""
    rows = "".join(f"| {name} | {share:.3f} |\n" for name, share in right.items())
    return f"""# A small Stable Diffusion of the demo world
64x64 pixels, 8x8x24 latents, fp16 on disk. Draws emoji scenes from keyword prompts; no use for anything else.

    pipeline = StableDiffusionPipeline.from_pretrained("<this folder>")
    pipeline(prompt, height=64, width=64, num_inference_steps=20, guidance_scale={GUIDANCE}).images[0]

- **Train it**: `python -m surd.pipeline.demo.train vae`, the same with `text` and with `judge`, which measures it, then
  `python -m surd.pipeline.demo.train diffusion`; `--further` goes on from what lies here.
- **Data**: {SCENES:,} scenes of the demo world (seed {TRAIN_SEED}), with keyword prompts made anew each time. Neither
  the UNet nor the text encoder ever read a plain sentence. One prompt in ten is dropped, for classifier-free guidance.
- **UNet**: {checkpoint.describe(runs)}, on one CPU core: velocity prediction, cosine
  schedule with zero terminal SNR, min-SNR weights, running average of the weights. While training, a head on its middle
  named what each patch of the clean picture shows; it is not part of the model.
- **Text encoder**: a CLIP text tower trained on keyword prompts alone (`train_text.py`).
- **Autoencoder**: {psnr:.1f} dB on held-out pictures. Its encoder is fitted in closed form (principal components of
  8x8 patches), its decoder trained.
- **Licence**: Apache-2.0; the pictures come from Noto Color Emoji (OFL-1.1).

Pictures generated from held-out keyword prompts (seed {HELD_OUT_SEED}) in which the embedded judge (see its card) sees
the prompt's own fact, per group of facts; "all": every fact at once.

| facts | right |
|---|---|
{rows}"""
