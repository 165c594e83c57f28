"""Training of a SUR-adapter on a SURD dataset and a frozen diffusion model: one loop, read from top to bottom."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers.optimization import get_scheduler

from sur_adapter.training.config import TrainConfig, TrainResult
from sur_adapter.training.objective import Losses, make_objective
from sur_adapter.training.signals import StopSignal
from sur_adapter.training.state import TrainState
from sur_adapter.training.validation import Validator

OnStep = Callable[[int, dict[str, float]], None]
Warn = Callable[[str], None]


def train(config: TrainConfig, on_step: OnStep | None = None, warn: Warn = print) -> TrainResult:
    """Train an adapter and save it, its log and ``train.json`` in ``config.out``.

    ``on_step(step, losses)`` is called after every step with the steps done and that step's losses ("loss" is the
    weighted sum); ``warn(sentence)`` for what does not end the run but may surprise. A run that finds its own finished
    checkpoint has nothing left to do: ``resumed_from`` is then ``steps``. Raises SurdError for user errors, and
    Stopped after a SIGTERM or Ctrl-C, once the checkpoint to continue from is written.
    """
    started_at = time.perf_counter()
    state = TrainState.prepare(config, warn)
    accelerator, model, optimizer = state.accelerator, state.model, state.optimizer
    start, log = state.resume()
    objective = make_objective(state.conditioner.pipe, config)
    schedule = learning_rates(config)
    validator = Validator(config, state)
    batches = state.batches(start)

    with StopSignal() as stop:
        for step in range(start, config.steps):
            for group in optimizer.param_groups:
                group["lr"] = config.lr * schedule(step)
            model.train()
            optimizer.zero_grad()
            sums: Losses = {}
            keys: list[str] = []
            for part in range(config.accumulate):
                batch = next(batches)
                keys += batch.keys
                torch.manual_seed(draw_seed(config.seed, step * config.accumulate + part, accelerator.process_index))
                # Gradients are reduced across processes once, at the last part.
                is_last = part + 1 == config.accumulate
                with contextlib.nullcontext() if is_last else accelerator.no_sync(model):
                    with accelerator.autocast():
                        losses = objective(model, state.conditioner.inputs(batch))
                    accelerator.backward(losses["loss"] / config.accumulate)
                sums = {name: sums.get(name, 0) + value.detach() / config.accumulate for name, value in losses.items()}
            norm = accelerator.clip_grad_norm_(model.parameters(), config.max_grad_norm)
            means, stop.agreed = state.reduce_losses(sums, bool(stop.received))
            log.append(means)
            state.check_finite(log[-1], norm, step, keys)
            optimizer.step()
            state.update_ema()
            state.tracking.log(log[-1] | {"lr": optimizer.param_groups[0]["lr"]}, step + 1)
            if on_step:
                on_step(step + 1, log[-1])
            if validator.due(step + 1):
                validator.validate(step + 1, log)
            if stop.agreed or state.checkpoint_due(step + 1):
                state.save_checkpoint(step + 1, log)
            stop.raise_if_agreed(step + 1)

    return state.finish(log, start, time.perf_counter() - started_at)


def learning_rates(config: TrainConfig) -> Callable[[int], float]:
    """Step -> share of ``config.lr``: a function of the step alone, so that there is nothing to save."""
    name = config.lr_schedule if config.lr_schedule != "constant" else "constant_with_warmup"
    unused = torch.optim.SGD([torch.zeros(1)])
    schedule: Any = get_scheduler(
        name, unused, num_warmup_steps=config.warmup_steps, num_training_steps=config.steps
    ).lr_lambdas[0]
    # The first step of a warm-up would otherwise be lost, at a rate of zero.
    return lambda step: float(schedule(step + 1 if step < config.warmup_steps else step))


def draw_seed(seed: int, batch: int, rank: int) -> int:
    """All randomness of a batch follows from this number, so a resumed run needs no saved generator state."""
    return int(np.random.SeedSequence([seed, batch, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))
