"""Turns an adapter in training into a loss on shards it never saw, pictures of prompts, and the best one so far."""

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
from sur_adapter.training.state import Run, save_adapter
from surd.schemas.errors import SurdError

BATCHES = 16
PROMPTS = 8
SEED = 1_000_003  # fixed: every validation meets the same noise


class Validator:
    """What happens every ``validate_every`` steps, on the main process.

    The best adapter is the one with the highest accuracy where a judge is named, else with the lowest loss on the
    validation shards, else with the lowest mean training loss since the validation before.
    """

    def __init__(self, config: TrainConfig, run: Run) -> None:
        self.config, self.run = config, run
        self.data = None
        _check(config)
        if config.validate_every and config.validation_shards:
            shards = config.model_copy(update={"shards": config.validation_shards})
            self.data, _ = open_data(shards, run.conditioner.computed)
            lacking = run.data.reads.keys() - self.data.reads.keys()
            if lacking:
                column = run.data.reads[min(lacking)].column
                raise SurdError(
                    f"--validation-shards: {config.validation_shards!r} lacks the column {column} that training reads;"
                    " embed it there too, or pass --no-columns"
                )

    def due(self, step: int) -> bool:
        every = self.config.validate_every
        return bool(every) and (step % every == 0 or step == self.config.steps)

    def validate(self, step: int, log: Log) -> None:
        """Measure, draw, keep the best, and tell the tracker."""
        adapter = self.run.snapshot()
        if adapter is not None:
            recent = log[-self.config.validate_every :]
            measured = {"loss of late": sum(row["loss"] for row in recent) / len(recent)}
            if self.data is not None:
                measured["validation loss"] = self.loss(adapter)
            if self.config.validation_prompts:
                measured |= self.draw(adapter, self.config.validation_prompts, step)
            self._keep_best(adapter, measured, step)
            self.run.tracking.log(measured, step)
        self.run.accelerator.wait_for_everyone()

    @torch.no_grad()
    def loss(self, adapter: SURAdapter) -> float:
        """Mean loss of the first batches of the validation shards, at the same noise every time."""
        assert self.data is not None
        conditioner, config = self.run.conditioner, self.config
        objective = make_objective(conditioner.pipe, config)
        torch.manual_seed(SEED)
        loader = self.data.loader(
            batch_size=config.batch_size, seed=0, image_size=conditioner.image_size, epochs=1, workers=config.workers
        )
        losses = []
        for batch in islice(loader, BATCHES):
            with self.run.accelerator.autocast():
                losses.append(objective(adapter, conditioner(batch, training=False))["loss"])
        return float(torch.stack(losses).mean())

    def draw(self, adapter: SURAdapter, prompts: Path, step: int) -> dict[str, float]:
        """Pictures of the prompts under ``OUT/validation``; their accuracy where a judge is named."""
        folder = self.config.out / "validation" / f"step-{step:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        if self.config.validation_judge:
            return self._judge(adapter, prompts, folder, step)
        from sur_adapter.evaluation.prompts import read_eval_prompts
        from sur_adapter.sampling.generate import sample_images
        from sur_adapter.sampling.grid import draw_grid

        texts = [one.prompt for one in read_eval_prompts(prompts)][:PROMPTS]
        pipe = load_base(self.run.base, self.run.accelerator.device)  # anew: a training keeps no VAE in memory
        draw_grid(texts, {f"step {step}": sample_images(pipe, adapter, texts)}).save(folder / "grid.png")
        self.run.tracking.picture("validation", folder / "grid.png", step)
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
        self.run.tracking.picture("validation", folder / "grid.png", step)
        return {f"{result.unit} with adapter": result.average.arms["adapter"].mean}

    def _keep_best(self, adapter: SURAdapter, measured: dict[str, float], step: int) -> None:
        """Compare by what was measured last, which is what says most."""
        name, value = list(measured.items())[-1]
        better = -value if self.config.validation_judge and self.config.validation_prompts else value
        if self.run.best and better >= self.run.best["value"]:
            return
        self.run.best = {"value": better, "step": step}
        best = self.config.out / "best"
        best.mkdir(exist_ok=True)
        save_adapter(best, adapter)
        write_json(best / "best.json", {"step": step, name: value})


def _check(config: TrainConfig) -> None:
    """SurdError for what a validation would stumble over, which may be hours away: prompts, and a judge of them."""
    asked = {
        "--validation-shards": config.validation_shards,
        "--validation-prompts": config.validation_prompts,
        "--validation-judge": config.validation_judge,
    }
    flag = next((flag for flag, value in asked.items() if value), None)
    if flag and not config.validate_every:
        raise SurdError(f"{flag}: nothing is ever validated, as --validate-every is 0; give steps, such as 500")
    if config.validation_judge and not config.validation_prompts:
        raise SurdError("--validation-judge: there is nothing to judge; give --validation-prompts too")
    if not config.validation_prompts:
        return
    from sur_adapter.evaluation.judge import load_judge
    from sur_adapter.evaluation.prompts import read_eval_prompts

    prompts = read_eval_prompts(config.validation_prompts)
    if config.validation_judge:
        load_judge(config.validation_judge).check(prompts)
