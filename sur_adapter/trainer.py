"""Turns a SURD dataset and a frozen diffusion model into a trained SUR-adapter: one loop, read from top to bottom."""

from __future__ import annotations

import hashlib
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler
from torch import Tensor, nn

from schemas.errors import SurdError
from sur_adapter.adapter import SURAdapter
from sur_adapter.base_model import Pipeline, encode_images, encode_text, image_size, load_base, text_width
from sur_adapter.checkpoint import Checkpoints, Log, write_json
from sur_adapter.loader import Batch, ShardDataset
from sur_adapter.losses import denoising_loss, llm_distillation_loss, prompt_alignment_loss
from sur_adapter.train_config import TrainConfig, TrainResult

OBJECTIVE = "denoising+llm+prompt"
MAX_GRAD_NORM = 1.0
NOT_IDENTITY = {"out", "steps", "device", "checkpoint_every", "resume", "shards"}
OnStep = Callable[[int, dict[str, float]], None]


def train(config: TrainConfig, on_step: OnStep | None = None) -> TrainResult:
    """Train an adapter and save it, its log and ``train.json`` in ``config.out``.

    ``on_step(step, losses)`` is called after every step with the steps done and that step's losses ("loss" is the
    weighted sum). A run that finds its own finished checkpoint has nothing left to do and says so in ``resumed_from``.
    Raises SurdError for anything the user can mend: data, column, base model, output folder, a loss that is no number.
    """
    began = time.perf_counter()
    _check_weights(config)
    _make_folder(config.out)
    accelerator = _accelerator(config.device)
    data = ShardDataset(config.shards, llm=config.w_llm > 0, llm_column=config.llm_column)
    base = config.base or data.manifest.diffusion
    pipe = load_base(base, accelerator.device)
    objective = Objective(pipe, config)
    adapter = make_adapter(config, pipe, data, base)
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=config.lr)
    checkpoints = Checkpoints(config.out / "checkpoints", _identity(config, data, pipe, accelerator.num_processes))
    start, log = _resume(config, checkpoints, adapter, optimizer)
    model, optimizer = accelerator.prepare(adapter, optimizer)

    model.train()
    batches = data.batches(
        batch_size=config.batch_size,
        image_size=image_size(pipe),
        seed=config.seed,
        start=start,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    for step in range(start, config.steps):
        torch.manual_seed(_step_seed(config.seed, step, accelerator.process_index))
        batch = next(batches)
        losses = objective(model, batch)
        optimizer.zero_grad()
        accelerator.backward(losses["loss"])
        accelerator.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        log.append({name: float(accelerator.reduce(value.detach(), "mean")) for name, value in losses.items()})
        _check_finite(log[-1], step, batch)
        optimizer.step()
        if on_step:
            on_step(step + 1, log[-1])
        due = step + 1 == config.steps or (config.checkpoint_every and (step + 1) % config.checkpoint_every == 0)
        if due and config.checkpoint_every and accelerator.is_main_process:
            checkpoints.save(step + 1, adapter, optimizer, log)

    result = _summarise(config, log, base, data, start, time.perf_counter() - began)
    if accelerator.is_main_process:
        _save(config.out, adapter, log, result)
    accelerator.wait_for_everyone()
    return result


class Objective:
    """The three losses of one batch; those whose weight is zero are not computed."""

    def __init__(self, pipe: Pipeline, config: TrainConfig) -> None:
        self.pipe = pipe
        self.scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
        self.caption_dropout = config.caption_dropout
        weights = {"denoise": config.w_denoise, "llm": config.w_llm, "prompt": config.w_prompt}
        self.weights = {name: weight for name, weight in weights.items() if weight > 0}

    def __call__(self, adapter: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Scalars by name, unweighted, and their weighted sum as "loss".

        A dropped caption goes through the adapter as the empty prompt and has no part in the text losses: the
        adapter learns from the denoiser alone to leave it be.
        """
        device = self.pipe.device
        kept_B = torch.rand(len(batch.keys), device=device) >= self.caption_dropout
        simple = [text if kept else "" for text, kept in zip(batch.simple, kept_B.tolist(), strict=True)]
        states_BTD, mask_BT = encode_text(self.pipe, simple)
        llm_BW = None if batch.llm_BW is None else batch.llm_BW.to(device)
        adapted = adapter(states_BTD, mask_BT, llm_BW)
        losses: dict[str, Tensor] = {}
        if "denoise" in self.weights:
            losses["denoise"] = self._denoise(batch.images_BCHW, adapted.states)
        if "llm" in self.weights:
            losses["llm"] = llm_distillation_loss(adapted.llm_target, adapted.encoder_states, mask_BT * kept_B[:, None])
        if "prompt" in self.weights:
            complex_states, _ = encode_text(self.pipe, batch.complex)
            losses["prompt"] = prompt_alignment_loss(complex_states, adapted.states, kept_B)
        losses["loss"] = torch.stack([weight * losses[name] for name, weight in self.weights.items()]).sum()
        return losses

    def _denoise(self, images_BCHW: Tensor, states_BTD: Tensor) -> Tensor:
        latents = encode_images(self.pipe, images_BCHW)
        noise = torch.randn_like(latents)
        steps = self.scheduler.config.num_train_timesteps
        timesteps = torch.randint(steps, (len(latents),), device=latents.device)
        return denoising_loss(self.pipe.unet, self.scheduler, latents, noise, timesteps, states_BTD)


def make_adapter(config: TrainConfig, pipe: Pipeline, data: ShardDataset, base: str) -> SURAdapter:
    """An untrained adapter of the base model's text width and the column's LLM width, its weights from the seed."""
    width = text_width(pipe)
    if width % config.heads:
        raise SurdError(f"--heads: {config.heads} does not divide {base}'s text width {width}; name one that does")
    torch.manual_seed(config.seed)
    adapter = SURAdapter(
        width=width,
        llm_width=data.column.width if data.column else None,
        depth=config.depth,
        heads=config.heads,
        feed_forward=config.feed_forward,
        eta=config.eta,
        base_model=base,
        llm_column=data.column.column if data.column else None,
        objective=OBJECTIVE,
    )
    if data.column:
        adapter.llm_mean, adapter.llm_std = data.llm_statistics()
    return adapter.to(pipe.device)


def _check_weights(config: TrainConfig) -> None:
    if config.w_denoise == config.w_prompt == 0:
        raise SurdError("--w-denoise and --w-prompt are both 0, so nothing reaches the adapter's output; raise one")


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".writable").touch()
        (out / ".writable").unlink()
    except OSError as error:
        raise SurdError(f"--out: {str(out)!r} cannot be written ({error.strerror}); name another folder") from error


def _accelerator(device: str) -> Accelerator:
    if device == "cuda" and not torch.cuda.is_available():
        raise SurdError("--device: 'cuda' was asked for but torch sees no GPU; use cpu or auto")
    return Accelerator(cpu=device == "cpu")


def _identity(config: TrainConfig, data: ShardDataset, pipe: Pipeline, world: int) -> dict[str, Any]:
    """What two runs must share for one to continue the other."""
    settings = config.model_dump(mode="json", exclude=NOT_IDENTITY)
    shards = [data.shard_info(shard).sha256 for shard in data.shards]
    column = [info.sha256 for info in data.column.shards] if data.column else []
    return settings | {"data": shards + column, "base model's weights": _fingerprint(pipe), "process count": world}


def _fingerprint(pipe: Pipeline) -> str:
    """Hash of the first numbers of every weight: training changes them all, and a large model costs no more."""
    digest = hashlib.sha256()
    for module in (pipe.unet, pipe.text_encoder, pipe.vae):
        for weight in module.parameters():
            digest.update(weight.detach().flatten()[:256].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def _resume(
    config: TrainConfig, checkpoints: Checkpoints, adapter: SURAdapter, optimizer: torch.optim.Optimizer
) -> tuple[int, Log]:
    if config.resume:
        return checkpoints.load(adapter, optimizer, config.steps)
    shutil.rmtree(checkpoints.folder, ignore_errors=True)
    return 0, []


def _step_seed(seed: int, step: int, rank: int) -> int:
    """All randomness of a step follows from this number, so a resumed run needs no saved generator state."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _check_finite(losses: dict[str, float], step: int, batch: Batch) -> None:
    if not math.isfinite(losses["loss"]):
        keys = ", ".join(batch.keys)
        raise SurdError(
            f"training: the loss is no number at step {step + 1} ({losses}, keys {keys}); lower --lr or drop them"
        )


def _summarise(config: TrainConfig, log: Log, base: str, data: ShardDataset, start: int, seconds: float) -> TrainResult:
    tenth = max(1, round(len(log) / 10))
    parts = log[:tenth], log[-tenth:]
    first, last = ({name: float(np.mean([row[name] for row in part])) for name in log[0]} for part in parts)
    return TrainResult(
        steps=config.steps,
        loss_first=first.pop("loss"),
        loss_last=last.pop("loss"),
        losses_first=first,
        losses_last=last,
        seconds=round(seconds, 2),
        adapter=str(config.out),
        base=base,
        llm_column=data.column.column if data.column else None,
        resumed_from=start,
    )


def _save(out: Path, adapter: SURAdapter, log: Log, result: TrainResult) -> None:
    """The adapter beside its final place first, then each file renamed into it."""
    partial = out / ".adapter.tmp"
    adapter.eval().save_pretrained(partial)
    for file in sorted(partial.iterdir(), reverse=True):
        file.replace(out / file.name)
    partial.rmdir()
    write_json(out / "log.json", log)
    write_json(out / "train.json", result.model_dump())
