"""Validation during training: loss on held-out shards, pictures of prompts, and the best adapter so far."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import torch

from sur_adapter.adapter import SURAdapter
from sur_adapter.base_model import load_base
from sur_adapter.files import write_json
from sur_adapter.training.checkpoint import Log
from sur_adapter.training.config import TrainConfig
from sur_adapter.training.data import open_data
from sur_adapter.training.objective import make_objective
from sur_adapter.training.state import TrainState, save_adapter
from surd.schemas.errors import SurdError

BATCHES = 16
PROMPTS = 8
SEED = 1_000_003  # fixed: every validation uses the same noise


class Validator:
    """What happens every ``validate_every`` steps, on the main process.

    The best adapter is the one with the highest accuracy if a judge is named, else with the lowest loss on the
    validation shards, else with the lowest mean training loss since the validation before.
    """

    def __init__(self, config: TrainConfig, state: TrainState) -> None:
        self.config, self.state = config, state
        self.data = None
        _check(config)
        if config.validate_every and config.validation_shards:
            shards = config.model_copy(update={"shards": config.validation_shards})
            self.data, _ = open_data(shards, state.conditioner.computed)
            missing = state.data.reads.keys() - self.data.reads.keys()
            if missing:
                column = state.data.reads[min(missing)].column
                raise SurdError(
                    f"--validation-shards: {config.validation_shards!r} lacks the column {column} that training reads;"
                    " embed it there too, or pass --no-columns"
                )

    def due(self, step: int) -> bool:
        every = self.config.validate_every
        return bool(every) and (step % every == 0 or step == self.config.steps)

    def validate(self, step: int, log: Log) -> None:
        """Measure, render, keep the best, and log to the tracker."""
        adapter = self.state.snapshot()
        if adapter is not None:
            recent = log[-self.config.validate_every :]
            metrics = {"loss of late": sum(row["loss"] for row in recent) / len(recent)}
            if self.data is not None:
                metrics["validation loss"] = self.loss(adapter)
            if self.config.validation_prompts:
                metrics |= self.render(adapter, self.config.validation_prompts, step)
            self._keep_best(adapter, metrics, step)
            self.state.tracking.log(metrics, step)
        self.state.accelerator.wait_for_everyone()

    @torch.no_grad()
    def loss(self, adapter: SURAdapter) -> float:
        """Mean loss of the first batches of the validation shards, at the same noise every time."""
        assert self.data is not None
        conditioner, config = self.state.conditioner, self.config
        objective = make_objective(conditioner.pipe, config)
        torch.manual_seed(SEED)
        loader = self.data.loader(
            batch_size=config.batch_size, seed=0, image_size=conditioner.image_size, epochs=1, workers=config.workers
        )
        losses = []
        for batch in islice(loader, BATCHES):
            with self.state.accelerator.autocast():
                losses.append(objective(adapter, conditioner.inputs(batch, training=False))["loss"])
        return float(torch.stack(losses).mean())

    def render(self, adapter: SURAdapter, prompts: Path, step: int) -> dict[str, float]:
        """Render the prompts into ``OUT/validation``; returns their accuracy if a judge is named."""
        folder = self.config.out / "validation" / f"step-{step:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        if self.config.validation_judge:
            return self._judge(adapter, prompts, folder, step)
        from sur_adapter.evaluation.prompts import read_eval_prompts
        from sur_adapter.sampling.generate import sample_images
        from sur_adapter.sampling.grid import draw_grid

        texts = [item.prompt for item in read_eval_prompts(prompts)][:PROMPTS]
        pipe = load_base(self.state.base, self.state.accelerator.device)  # loaded again: training drops the VAE
        draw_grid(texts, {f"step {step}": sample_images(pipe, adapter, texts)}).save(folder / "grid.png")
        self.state.tracking.picture("validation", folder / "grid.png", step)
        return {}

    def _judge(self, adapter: SURAdapter, prompts: Path, folder: Path, step: int) -> dict[str, float]:
        from sur_adapter.evaluation.config import EvalConfig
        from sur_adapter.evaluation.evaluate import evaluate

        adapter.save_pretrained(folder / "adapter")
        assert self.config.validation_judge is not None
        result = evaluate(
            EvalConfig(
                prompts=prompts,
                adapter=folder / "adapter",
                out=folder,
                judge=self.config.validation_judge,
                seeds=1,
                limit=PROMPTS,
                device=self.config.device,
            )
        )
        self.state.tracking.picture("validation", folder / "grid.png", step)
        return {f"{result.unit} with adapter": result.average.arms["adapter"].mean}

    def _keep_best(self, adapter: SURAdapter, metrics: dict[str, float], step: int) -> None:
        """Compare by the last metric, which is the most telling one."""
        name, value = list(metrics.items())[-1]
        better = -value if self.config.validation_judge and self.config.validation_prompts else value
        if self.state.best and better >= self.state.best["value"]:
            return
        self.state.best = {"value": better, "step": step}
        best = self.config.out / "best"
        best.mkdir(exist_ok=True)
        save_adapter(best, adapter)
        write_json(best / "best.json", {"step": step, name: value})


def _check(config: TrainConfig) -> None:
    """Check prompts and judge at the start: the first validation may be hours away."""
    flags = {
        "--validation-shards": config.validation_shards,
        "--validation-prompts": config.validation_prompts,
        "--validation-judge": config.validation_judge,
    }
    flag = next((flag for flag, value in flags.items() if value), None)
    if flag and not config.validate_every:
        raise SurdError(f"{flag}: --validate-every is 0, so nothing is ever validated; set it, for example to 500")
    if config.validation_judge and not config.validation_prompts:
        raise SurdError("--validation-judge: it has nothing to judge; give --validation-prompts too")
    if not config.validation_prompts:
        return
    from sur_adapter.evaluation.judge import load_judge
    from sur_adapter.evaluation.prompts import read_eval_prompts

    prompts = read_eval_prompts(config.validation_prompts)
    if config.validation_judge:
        load_judge(config.validation_judge).check(prompts)
