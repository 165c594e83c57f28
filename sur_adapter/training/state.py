"""State of a training run: data, frozen models, adapter, optimiser, checkpoints; resume and saving."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError

from sur_adapter.adapter import SURAdapter
from sur_adapter.base_model import backbone, networks, pick_device
from sur_adapter.data.batch import Batch
from sur_adapter.data.shard_dataset import ShardDataset
from sur_adapter.files import weights_fingerprint, write_json
from sur_adapter.llm import LLMSource
from sur_adapter.training.checkpoint import Checkpoint, Checkpoints, Log
from sur_adapter.training.conditions import SIMPLE, Conditioner
from sur_adapter.training.config import TrainConfig, TrainResult
from sur_adapter.training.data import bucket_notes, caption_notes, open_data
from sur_adapter.training.finished import adapter_file, check_finished, finished_error, stored_result
from sur_adapter.training.objective import Losses
from sur_adapter.training.state_dicts import Tensors, read_optimizer, read_weights, write_optimizer, write_weights
from sur_adapter.training.tracking import Tracking
from sur_adapter.translator import PromptTokens
from surd.schemas.errors import SurdError, one_line


class TrainState:
    """Everything one training run works on, and how it is saved and resumed."""

    def __init__(
        self, config: TrainConfig, accelerator: Accelerator, data: ShardDataset, base: str, warn: Callable[[str], None]
    ) -> None:
        self.config, self.accelerator, self.data, self.base = config, accelerator, data, base
        self.warn = warn
        self.conditioner = Conditioner(config, data, base, accelerator.device, warn)
        llm = self.conditioner.llm
        self.adapter = make_adapter(config, self.conditioner.width, data, base, llm, self.conditioner.tokens)
        if self.conditioner.llm_reader is not None:
            self.adapter.llm_mean, self.adapter.llm_std = self.conditioner.llm_statistics(data)
        self.adapter.to(accelerator.device)
        unet = backbone(self.conditioner.pipe)
        if config.gradient_checkpointing and unet is not None:
            unet.enable_gradient_checkpointing()
        if config.compile:
            self.adapter.compile()
            if unet is not None:
                unet.compile()
        trained = [weight for weight in self.adapter.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=config.lr, weight_decay=config.weight_decay)
        self.model, self.optimizer = accelerator.prepare(self.adapter, optimizer)
        self.ema = EMAModel(list(self.model.parameters()), decay=config.ema_decay) if config.ema_decay else None
        self.checkpoints = Checkpoints(config.out / "checkpoints", self.run_fingerprint(), config.keep_checkpoints)
        self.tracking = Tracking(accelerator, config)
        self.best: dict[str, float] = {}

    @classmethod
    def prepare(cls, config: TrainConfig, warn: Callable[[str], None]) -> TrainState:
        """Check what can be checked, cheapest first, and load. User errors raise SurdError."""
        if config.translates:
            _check_translation(config)
        elif config.w_denoise == config.w_prompt == 0:
            raise SurdError("--w-denoise and --w-prompt are both 0, so nothing reaches the adapter's output; raise one")
        check_finished(config)
        is_new = _make_folder(config.out)
        accelerator = _make_accelerator(config)
        try:
            data, base = open_data(config)
            state = cls(config, accelerator, data, base, warn if accelerator.is_main_process else lambda _: None)
        except SurdError:
            if is_new:
                with contextlib.suppress(OSError):  # another process may have written there
                    config.out.rmdir()
            raise
        notes = caption_notes(config, data)
        computed = [part for part in state.conditioner.computed if part != SIMPLE or not notes]  # which say so
        if computed:
            state.warn(f"no column of {', '.join(computed)}: computed anew at every step")
        for note in notes + bucket_notes(config, data):
            state.warn(note)
        return state

    def batches(self, start: int) -> Iterator[Batch]:
        """Endless batches of this process; ``start`` counts optimiser steps already done."""
        loader = self.data.loader(
            batch_size=self.config.batch_size,
            image_size=self.conditioner.image_size,
            seed=self.config.seed,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
            pin_memory=self.accelerator.device.type == "cuda",
            workers=self.config.workers,
        )
        taken = start * self.config.accumulate * self.config.batch_size
        loader.load_state_dict(loader.state_dict() | {"samples": taken})
        return iter(loader)

    def resume(self) -> tuple[int, Log]:
        """Load the newest valid checkpoint unless ``resume`` is off; returns step and log, or (0, [])."""
        if not self.config.resume or self.config.overwrite:
            if self.accelerator.is_main_process:
                shutil.rmtree(self.checkpoints.folder, ignore_errors=True)
            self.accelerator.wait_for_everyone()
            return 0, []
        checkpoint = self.checkpoints.load(self.config.steps, self.warn)
        if checkpoint is None:
            if adapter_file(self.config.out).exists():
                raise finished_error(self.config, "and no checkpoint of it that this run could continue")
            return 0, []
        if self.ema:
            write_weights(self.model, checkpoint.tensors["ema"])
            self.ema.shadow_params = [weight.detach().clone() for weight in self.model.parameters()]
            self.ema.optimization_step = checkpoint.metadata["ema_steps"]
        write_weights(self.model, checkpoint.tensors["adapter"])
        write_optimizer(self.model, self.optimizer, checkpoint.tensors["optimizer"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(checkpoint.metadata["scaler"])
        self.best = checkpoint.metadata["best"]
        return checkpoint.step, checkpoint.log

    def reduce_losses(self, losses: Losses, stop: bool) -> tuple[dict[str, float], bool]:
        """The losses as numbers, their mean over all processes; and whether ``stop`` is true on any process."""
        values = torch.stack([*losses.values(), torch.full_like(losses["loss"], float(stop))])
        *means, share = self.accelerator.reduce(values, "mean").tolist()
        return dict(zip(losses, means, strict=True)), bool(share)

    def update_ema(self) -> None:
        """Add the weights to their running average, unless fp16 skipped the step."""
        if self.ema and not self.accelerator.optimizer_step_was_skipped:
            self.ema.step(self.model.parameters())

    def checkpoint_due(self, step: int) -> bool:
        every = self.config.checkpoint_every
        return bool(every) and (step == self.config.steps or step % every == 0)

    def save_checkpoint(self, step: int, log: Log) -> None:
        """Gather every process's part; the main process writes it."""
        tensors = {"adapter": read_weights(self.model), "optimizer": read_optimizer(self.model, self.optimizer)}
        metadata: dict[str, Any] = {
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else None,
            "best": self.best,
        }
        if self.ema:
            tensors["ema"] = self.weights()
            metadata["ema_steps"] = self.ema.optimization_step
        if self.accelerator.is_main_process:
            self.checkpoints.save(Checkpoint(step=step, tensors=tensors, metadata=metadata, log=log))
        self.accelerator.wait_for_everyone()

    def weights(self) -> Tensors:
        """The weights that are saved: the adapter's own or their running average; empty except on the main process."""
        if self.ema is None:
            return read_weights(self.model)
        weights = list(self.model.parameters())
        self.ema.store(weights)
        self.ema.copy_to(weights)
        averaged = read_weights(self.model)
        self.ema.restore(weights)
        return averaged

    def snapshot(self) -> SURAdapter | None:
        """A copy of the adapter as it would be saved now, in eval mode; None except on the main process."""
        weights = self.weights()
        if not self.accelerator.is_main_process:
            return None
        copy = SURAdapter.from_config(self.adapter.config)
        copy.load_state_dict(weights)
        return copy.to(self.accelerator.device).eval()

    def check_finite(self, losses: dict[str, float], norm: Any, step: int, keys: list[str]) -> None:
        """SurdError if the loss is not finite, or its gradient (except under fp16, which skips such steps)."""
        scaled = self.accelerator.scaler is not None
        if math.isfinite(losses["loss"]) and (scaled or norm is None or math.isfinite(float(norm))):
            return
        quantity = "gradient" if math.isfinite(losses["loss"]) else "loss"
        raise SurdError(
            f"training: non-finite {quantity} at step {step + 1} ({losses}, keys {', '.join(keys)}); "
            f"{self.checkpoints.newest()}; lower --lr or drop those samples"
        )

    def finish(self, log: Log, start: int, seconds: float) -> TrainResult:
        """Save the adapter, its log and the result, unless they are all there from an earlier run."""
        if start == self.config.steps and (stored := stored_result(self.config.out)) and stored.steps == start:
            self.accelerator.end_training()
            return stored.model_copy(update={"seconds": round(seconds, 2), "resumed_from": start})
        adapter = self.snapshot()
        result = self._result(log, start, seconds)
        if adapter is not None:
            save_adapter(self.config.out, adapter)
            write_json(self.config.out / "log.json", log)
            write_json(self.config.out / "train.json", result.model_dump())
        self.accelerator.end_training()
        self.accelerator.wait_for_everyone()
        return result

    def _result(self, log: Log, start: int, seconds: float) -> TrainResult:
        tenth = max(1, round(len(log) / 10))
        parts = log[:tenth], log[-tenth:]
        first, last = ({name: float(np.mean([row[name] for row in part])) for name in log[0]} for part in parts)
        column = self.data.reads.get("llm")
        return TrainResult(
            steps=self.config.steps,
            loss_first=first.pop("loss"),
            loss_last=last.pop("loss"),
            losses_first=first,
            losses_last=last,
            seconds=round(seconds, 2),
            adapter=str(self.config.out),
            base=self.base,
            llm_column=column.column if column else None,
            llm=self.conditioner.llm.model if self.conditioner.llm and self.config.attaches else None,
            resumed_from=start,
            computed=self.conditioner.computed,
            best_step=int(self.best["step"]) if self.best else None,
        )

    def run_fingerprint(self) -> dict[str, Any]:
        """What two runs must share for one to continue the other; its keys are stored in every checkpoint."""
        llm, column = self.conditioner.llm, self.data.reads.get("llm")
        return self.config.fingerprinted_settings() | {
            "llm_column": column.column if column else self.config.llm_column,
            "data": self.data.fingerprint,
            "LLM": f"{llm.model} layer {llm.layer}, {llm.pooling}" if llm else None,
            "base model's weights": weights_fingerprint(
                weight for network in networks(self.conditioner.pipe).values() for weight in network.parameters()
            ),
            "process count": self.accelerator.num_processes,
        }


def make_adapter(
    config: TrainConfig,
    width: int,
    data: ShardDataset,
    base: str,
    llm: LLMSource | None = None,
    tokens: PromptTokens | None = None,
) -> SURAdapter:
    """An untrained adapter of the base model's text width and the LLM's width, its weights from the seed.

    ``llm``: whose states it is taught by or reads; None: those of the dataset's column, if one is read. ``tokens``: of
    which it writes prompts, if it translates.
    """
    column = data.reads.get("llm")
    llm = llm or (LLMSource.of(column) if column else None)
    if width % config.heads and not config.translates:
        raise SurdError(f"--heads: {config.heads} does not divide {base}'s text width {width}; name one that does")
    authors = config.objective == "authors"
    torch.manual_seed(config.seed)
    adapter = SURAdapter(
        width=width,
        llm_width=llm.width if llm else None,
        depth=config.depth,
        heads=config.heads,
        feed_forward=config.feed_forward,
        dropout=config.dropout,
        eta=config.eta,
        attention_axis=config.attention_axis,
        mask_padding=not authors,
        residual=not authors,
        projection=config.llm_projection,
        llm_standardise=not authors,
        base_model=base,
        llm_column=llm.column if llm else None,
        llm_model=llm.model if llm else None,
        objective=config.objective,
        llm_role=config.llm_role,
        connector=config.connector,
        connector_depth=config.connector_depth,
        queries=config.queries,
        llm_layer=llm.layer if llm else None,
        llm_pooling=llm.pooling if llm else None,
        llm_revision=llm.revision if llm else None,
        **_translating(config, tokens),
    )
    if column and not authors:
        adapter.llm_mean, adapter.llm_std = data.llm_statistics()
    return adapter


def _translating(config: TrainConfig, tokens: PromptTokens | None) -> dict[str, Any]:
    """What an adapter that translates is made with besides."""
    if not config.translates or tokens is None:
        return {}
    return {
        "translator_width": config.translator_width, "vocabulary": tokens.vocabulary, "prompt_start": tokens.start,
        "prompt_end": tokens.end,
    }  # fmt: skip


def _check_translation(config: TrainConfig) -> None:
    """SurdError for a setting of another training."""
    for name in ("w_denoise", "w_llm", "w_prompt", "caption_dropout"):
        if value := getattr(config, name):
            raise SurdError(
                f"--{name.replace('_', '-')}: is {value:g}, but --llm-role translate has a loss of its own and no"
                " other; leave it out"
            )
    if config.batch_size == 1:
        raise SurdError("--batch-size: is 1, but --llm-role translate compares the sentences of a batch; give more")
    if config.objective == "authors":
        raise SurdError("--objective: the authors' adapter does not translate; leave it out, or --llm-role translate")


def save_adapter(out: Path, adapter: SURAdapter) -> None:
    """Write the adapter to a temporary folder, then rename each file into ``out``. SurdError if that fails."""
    partial = out / ".adapter.tmp"
    try:
        adapter.save_pretrained(partial)
        for file in sorted(partial.iterdir(), reverse=True):
            file.replace(out / file.name)
        partial.rmdir()
    except (OSError, SafetensorError) as error:
        reason = one_line(error)
        raise SurdError(
            f"--out: {out}: the adapter cannot be written ({reason}); free some space or make the folder writable"
        ) from error


def _make_folder(out: Path) -> bool:
    """Make the folder, if need be, and check that it can be written; returns whether it is new."""
    try:
        is_new = not out.exists()
        out.mkdir(parents=True, exist_ok=True)
        (out / ".writable").touch()
        (out / ".writable").unlink(missing_ok=True)
        return is_new
    except OSError as error:
        raise SurdError(f"--out: {str(out)!r} cannot be written ({error.strerror}); name another folder") from error


def _make_accelerator(config: TrainConfig) -> Accelerator:
    on_cpu = pick_device(config.device) == "cpu"
    if config.mixed_precision == "fp16" and on_cpu:
        raise SurdError("--mixed-precision: 'fp16' needs a GPU; use bf16 or no")
    tracker = None if config.tracker == "none" else config.tracker
    AcceleratorState._reset_state()  # otherwise precision is fixed for the process, and the next run may use another
    return Accelerator(
        cpu=on_cpu, mixed_precision=config.mixed_precision, log_with=tracker, project_dir=str(config.out)
    )
