"""Turns demo pictures and their keyword prompts into a Stable Diffusion pipeline of 64x64 pixels."""

import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from . import checkpoint, train_clip, train_eye, train_vae
from .checkpoint import MODELS
from .dataset import HELD_OUT_SEED, TRAIN_SEED, batches, pair, pictures
from .prompts import complex_prompt
from .scenes import ATTRIBUTES, scene

log = logging.getLogger(__name__)
FOLDER = MODELS / "diffusion"
SCENES, BATCH, RATE, DROPPED = 24_000, 32, 8e-4, 0.1
TEXT: dict[str, Any] = train_clip.MODEL_CFG["text_cfg"]


def scheduler() -> Any:
    """Velocity prediction down to zero signal: flat backgrounds need a schedule that ends in pure noise."""
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", rescale_betas_zero_snr=True,
        timestep_spacing="trailing", clip_sample=False, steps_offset=1,
    )  # fmt: skip


def build_unet() -> Any:
    """The untrained UNet2DConditionModel: 16x16 and 8x8 drawn by convolutions alone, 4x4 looking at the words."""
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=16, in_channels=train_vae.CHANNELS, out_channels=train_vae.CHANNELS,
        layers_per_block=1, block_out_channels=(64, 128, 192),
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT["width"], attention_head_dim=4, norm_num_groups=16,
    )  # fmt: skip


def text_encoder(clip: torch.nn.Module) -> Any:
    """open_clip's text tower as transformers' CLIPTextModel, weight for weight."""
    config = CLIPTextConfig(
        vocab_size=TEXT["vocab_size"], hidden_size=TEXT["width"], intermediate_size=4 * TEXT["width"],
        num_hidden_layers=TEXT["layers"], num_attention_heads=TEXT["heads"], projection_dim=TEXT["width"],
        hidden_act="gelu", bos_token_id=TEXT["vocab_size"] - 2, eos_token_id=TEXT["vocab_size"] - 1,
        pad_token_id=TEXT["vocab_size"] - 1,
    )  # fmt: skip
    model: Any = CLIPTextModel(config).eval()
    source = clip.state_dict()
    renamed = {
        "embeddings.token_embedding.weight": source["token_embedding.weight"],
        "embeddings.position_embedding.weight": source["positional_embedding"],
        "final_layer_norm.weight": source["ln_final.weight"],
        "final_layer_norm.bias": source["ln_final.bias"],
    }
    for layer in range(TEXT["layers"]):
        ours, theirs = f"transformer.resblocks.{layer}.", f"encoder.layers.{layer}."
        for kind in ("weight", "bias"):
            parts = source[f"{ours}attn.in_proj_{kind}"].chunk(3)
            renamed |= {f"{theirs}self_attn.{n}_proj.{kind}": part for n, part in zip("qkv", parts, strict=True)}
            renamed[f"{theirs}self_attn.out_proj.{kind}"] = source[f"{ours}attn.out_proj.{kind}"]
            renamed[f"{theirs}layer_norm1.{kind}"] = source[f"{ours}ln_1.{kind}"]
            renamed[f"{theirs}layer_norm2.{kind}"] = source[f"{ours}ln_2.{kind}"]
            renamed[f"{theirs}mlp.fc1.{kind}"] = source[f"{ours}mlp.c_fc.{kind}"]
            renamed[f"{theirs}mlp.fc2.{kind}"] = source[f"{ours}mlp.c_proj.{kind}"]
    prefix = "text_model." if any(name.startswith("text_model.") for name in model.state_dict()) else ""
    missing, unexpected = model.load_state_dict({prefix + n: v.float() for n, v in renamed.items()}, strict=False)
    assert not unexpected and all("position_ids" in name for name in missing), (missing, unexpected)
    return model


def parts(work: Path) -> tuple[Any, Any, Any]:
    """The frozen parts: the embedded CLIP's text tower and tokenizer, and the autoencoder trained under `work`."""
    frozen = work / "text_encoder"  # kept, so that a CLIP trained further does not change what was begun
    if not frozen.exists():
        text_encoder(open_clip.create_model(f"local-dir:{train_clip.FOLDER}")).save_pretrained(frozen)
    vae = train_vae.build()
    checkpoint.weights(work / "vae.safetensors", vae)
    encoder = CLIPTextModel.from_pretrained(frozen, dtype=torch.float32).eval()
    return encoder, CLIPTokenizer.from_pretrained(train_clip.FOLDER), vae.eval()


def _table(path: Path, count: int, shape: tuple[int, ...], row: Callable[[range], torch.Tensor]) -> np.ndarray:
    """fp16 [count, *shape] filled once, 256 rows at a time, into a memmap."""
    if not path.exists():
        partial = path.with_suffix(".partial.npy")
        table = np.lib.format.open_memmap(partial, "w+", np.float16, (count, *shape))
        with torch.inference_mode():
            for start in range(0, count, 256):
                rows = range(start, min(start + 256, count))
                table[rows.start : rows.stop] = row(rows).half().numpy()
        table.flush()
        partial.rename(path)
    return np.load(path, mmap_mode="r")


def tables(work: Path, encoder: Any, tokenizer: Any) -> list[np.ndarray]:
    """Text states [N, 77, 192] and latents [N, 8, 16, 16] (not yet scaled) of the training scenes, computed once."""
    images = pictures(work, TRAIN_SEED, train_eye.SCENES)
    centre, projection = train_vae.components(images[: train_vae.FITTED])

    def latents(rows: range) -> torch.Tensor:  # what the encoder computes, without its detours
        return ((train_vae.patches(images[rows.start : rows.stop]) - centre) @ projection).permute(0, 3, 1, 2)

    def states(rows: range) -> torch.Tensor:
        rngs = (random.Random(f"prompt:{index}") for index in rows)
        texts = [
            complex_prompt(scene(TRAIN_SEED, index), rng, markup=rng.random() > 0.9)
            for index, rng in zip(rows, rngs, strict=True)
        ]
        with torch.autocast("cpu", torch.bfloat16):
            return encode(encoder, tokenizer, texts)

    return [
        _table(work / "states.npy", SCENES, (77, TEXT["width"]), states),
        _table(work / "latents.npy", SCENES, (train_vae.CHANNELS, 16, 16), latents),
    ]


def encode(encoder: Any, tokenizer: Any, texts: list[str]) -> torch.Tensor:
    """Text states [N, 77, 192] as StableDiffusionPipeline makes them."""
    ids = tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    return encoder(ids).last_hidden_state.float()


def train(work: Path, steps: int, stop: float) -> None:
    """Trains to `steps` steps or `stop` seconds, whichever comes first, from the last checkpoint if there is one; the
    running average of the weights is exported every ten minutes and at the end."""
    encoder, tokenizer, _ = parts(work)
    states, latents = tables(work, encoder, tokenizer)
    scale = float(1 / torch.from_numpy(latents[:2000].astype(np.float32)).std())
    empty = encode(encoder, tokenizer, [""])[0].detach()
    unet = build_unet().to(memory_format=torch.channels_last)
    average = {name: value.clone() for name, value in unet.state_dict().items()}
    optimizer = torch.optim.AdamW(unet.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=0.01)
    first, extra = checkpoint.resume(work / "diffusion.safetensors", unet, optimizer)
    clock = checkpoint.Clock(float(extra.pop("seconds", 0)))
    average |= extra
    noising = scheduler()
    exported = clock.seconds

    def put_away(step: int) -> None:
        seconds = torch.tensor(clock.seconds)
        checkpoint.save(work / "diffusion.safetensors", step, unet, optimizer, seconds=seconds, **average)

    def put_out(step: int, last: bool) -> None:
        final = build_unet()
        final.load_state_dict(average)
        export(final, encoder, tokenizer, parts(work)[2], scale, work, step, clock.seconds, 40 if last else 0)

    for step, indices in batches(TRAIN_SEED + 2, SCENES, BATCH, first):
        done = max(step / steps, clock.seconds / stop)
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 200) * min(1, 0.02 + (1 - done) / 0.4)
        generator = torch.Generator().manual_seed(step)
        clean = torch.from_numpy(latents[indices].astype(np.float32)) * scale
        words = torch.from_numpy(states[indices].astype(np.float32))
        words[torch.rand(BATCH, generator=generator) < DROPPED] = empty
        loss = _loss(unet, noising, clean, words, generator)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        keep = min(0.999, (step + 1) / (step + 10))
        with torch.no_grad():
            for name, value in unet.state_dict().items():
                average[name].lerp_(value, 1 - keep)
        if step % 50 == 0:
            log.info("step %d, loss %.4f, %.0f s", step, loss.item(), clock.seconds)
        if step % 200 == 199:
            put_away(step + 1)
        if clock.seconds - exported > 600:
            exported = clock.seconds
            put_out(step + 1, last=False)
    put_away(step)
    put_out(step, last=True)


def _loss(
    unet: Any, noising: Any, clean: torch.Tensor, words: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:  # fmt: skip
    """Velocity loss with min-SNR weights (arXiv 2303.09556, gamma 5)."""
    noise = torch.randn(clean.shape, generator=generator)
    t = torch.randint(0, noising.config.num_train_timesteps, (len(clean),), generator=generator)
    noisy, velocity = noising.add_noise(clean, noise, t), noising.get_velocity(clean, noise, t)
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        got = unet(noisy.contiguous(memory_format=torch.channels_last), t, words).sample
    signal = noising.alphas_cumprod[t]
    snr = signal / (1 - signal)
    weight = snr.clamp(max=5) / (snr + 1) + 0.1  # the last steps, nearly all noise, decide the background
    return (weight * (got.float() - velocity).square().mean(dim=(1, 2, 3))).mean()


def export(
    unet: Any, encoder: Any, tokenizer: Any, vae: Any, scale: float,
    work: Path, step: int, seconds: float, measured: int,
) -> None:  # fmt: skip
    """Writes the pipeline folder anew in fp16, measured on `measured` pictures an attribute, and leaves a grid of
    held-out prompts' pictures under `work`."""
    vae.register_to_config(scaling_factor=scale)
    pipeline: Any = StableDiffusionPipeline(
        vae, encoder, tokenizer, unet, scheduler(), None, None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    shares = two_way_choice(pipeline, measured) if measured else {}
    if step:
        grid(pipeline).save(work / f"grid-{step}.png")
    log.info("exported after %d steps: %s", step, shares)
    text = card(step, seconds, shares, train_vae.psnr(vae))

    def write(folder: Path) -> None:
        for part in (vae, encoder, unet):
            part.half()
        pipeline.save_pretrained(folder)
        words = folder / "text_encoder" / "config.json"  # diffusers loads its own parts as fp32; this one must follow
        words.write_text(words.read_text().replace('"float16"', '"float32"'))
        for part in (vae, encoder, unet):
            part.float()
        (folder / "README.md").write_text(text)

    checkpoint.export(FOLDER, write)


def generate(pipeline: Any, prompts: list[str], seed: int = 0) -> list[Image.Image]:
    """One picture a prompt, 20 steps at guidance 4."""
    generator = torch.Generator().manual_seed(seed)
    with torch.autocast("cpu", torch.bfloat16):
        return pipeline(
            prompts, num_inference_steps=20, guidance_scale=4.0, height=64, width=64, generator=generator
        ).images  # fmt: skip


def grid(pipeline: Any, columns: int = 8, rows: int = 5) -> Image.Image:
    """Held-out prompts' pictures at double size."""
    rng = random.Random(1)
    prompts = [complex_prompt(scene(HELD_OUT_SEED, index), rng, markup=False) for index in range(columns * rows)]
    sheet = Image.new("RGB", (columns * 130, rows * 130))
    for place, picture in enumerate(generate(pipeline, prompts)):
        sheet.paste(picture.resize((128, 128)), (place % columns * 130, place // columns * 130))
    return sheet


def two_way_choice(pipeline: Any, each: int) -> dict[str, float]:
    """Share of generated pictures the embedded CLIP finds nearer to their scene's words than to those of the scene
    with one attribute changed, per attribute."""
    clip, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{train_clip.FOLDER}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{train_clip.FOLDER}")
    shares = {}
    for name in ("subject", "count", "colour", "action", "relation", "style"):
        indices = (i for i in range(10**9) if name in ATTRIBUTES[scene(HELD_OUT_SEED, i).kind])
        pairs = [pair(HELD_OUT_SEED, next(indices), name) for _ in range(each)]  # type: ignore[arg-type]
        right = [complex_prompt(shown, random.Random(i), markup=False) for i, (shown, _, _) in enumerate(pairs)]
        wrong = [complex_prompt(other, random.Random(i), markup=False) for i, (_, other, _) in enumerate(pairs)]
        with torch.inference_mode():
            pictures = torch.stack([preprocess(picture) for picture in generate(pipeline, right)])
            images = clip.encode_image(pictures, normalize=True)
            near, far = (clip.encode_text(tokenizer(texts), normalize=True) for texts in (right, wrong))
        shares[name] = round(float(((images * near).sum(1) > (images * far).sum(1)).float().mean()), 3)
    return shares


def card(step: int, seconds: float, shares: dict[str, float], psnr: float) -> str:
    """The model card, from what was measured."""
    rows = "".join(f"| {name} | {share:.3f} |\n" for name, share in shares.items())
    return f"""# A small Stable Diffusion of the demo world
64x64 pixels, 16x16x8 latents, fp16 on disk. Draws emoji scenes from keyword prompts; no use for anything else.

    pipeline = StableDiffusionPipeline.from_pretrained("<this folder>")
    pipeline(prompt, height=64, width=64, num_inference_steps=20, guidance_scale=4.0).images[0]

- **Train it**: `python -m pipeline.demo.train vae`, then `python -m pipeline.demo.train diffusion`, after `clip`, whose
  text tower it keeps frozen.
- **Data**: {SCENES:,} scenes of the demo world (seed {TRAIN_SEED}), each with one keyword prompt; no plain sentence was
  ever seen. One prompt in ten is dropped, for classifier-free guidance.
- **Training**: {step:,} steps of {BATCH} in {seconds / 60:.0f} minutes on one CPU core (bf16): velocity prediction,
  cosine schedule with zero terminal SNR, running average of the weights.
- **Autoencoder**: {psnr:.1f} dB on held-out pictures. Its encoder is fitted in closed form (principal components of
  4x4 patches), its decoder trained.
- **Limits**: after so short a training it draws backgrounds and styles well, colours of things mostly, and few
  shapes that one would recognise; of numbers and places see the table.
- **Licence**: Apache-2.0; the pictures come from Noto Color Emoji (OFL-1.1).

Two-way choice of the embedded CLIP on pictures generated from held-out prompts (seed {HELD_OUT_SEED}): nearer to their
own words than to those of the scene with one attribute changed; 40 pictures
an attribute, chance is 0.5. What that CLIP cannot tell itself (see its card) is not measured by this.

| attribute | right |
|---|---|
{rows}"""
