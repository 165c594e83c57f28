"""make bench-embed: embedding compared with a bare loop over the same LLM, in speed, memory and accuracy.

Embedding runs as in a build: prompts read from the index, tokenised, deduplicated, packed, their states pooled,
checked and written as a column. The bare loop runs the LLM without its head on ready token tensors in the
best batches, and discards the states. On a CPU, time is processor time, which does not depend on the load of the
machine; on a GPU it is wall time.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.columns.spec import columns_asked, drop_column
from surd.pipeline.dataset.columns.write import write_column_shards
from surd.pipeline.dataset.shards import write_manifest, writing_index
from surd.pipeline.demo.world.prompts import narrative
from surd.pipeline.demo.world.scenes import scene
from surd.pipeline.models import Models
from surd.pipeline.runner.process_setup import set_up_process
from surd.pretrained.hidden_states import HiddenStates, batches
from surd.schemas import BuildConfig, ShardInfo, load_config
from tests.bench.figures import Figure

ALONE = 48  # prompts for the loops with one prompt at a time
ROUNDS = 3


def prompts_of(seed: int, size: int) -> list[str]:
    """Distinct simple prompts of the demo world."""
    prompts: dict[str, None] = {}
    number = 0
    while len(prompts) < size:
        prompts[narrative(scene(seed, number), random.Random(number))] = None
        number += 1
    return list(prompts)


def config_of(layers: list[int], dtype: str = "auto", device: str = "auto") -> BuildConfig:
    return load_config({}, {"embed.layers": layers, "models.dtype": dtype, "models.device": device})


def write_index(build: Build, prompts: list[str], models: Models) -> None:
    """A build of one shard, as far as columns of prompts read it."""
    rows: list[dict[str, object]] = [
        {"key": f"{at:016x}", "shard": "surd-00000.tar", "simple": text, "complex": text}
        for at, text in enumerate(prompts)
    ]
    with writing_index(build, "shards", captions=False) as add_to_index:
        add_to_index(rows)
    write_manifest(build, [ShardInfo(name="surd-00000.tar", count=len(rows), bytes=0, sha256="")], models)


def embed(build: Build, config: BuildConfig, models: Models) -> None:
    """Make all columns of the config anew."""
    columns = columns_asked(config.embed, config.models)
    for column in columns:
        drop_column(build, column.name)
    write_column_shards(build, 0, columns, config.embed, models)


class Bare:
    """The LLM on ready tensors."""

    def __init__(self, llm: HiddenStates, prompts: list[str], most: int | None) -> None:
        self._llm = llm
        rows = llm.tokens(prompts)
        groups = batches(rows, most) if most else [[at] for at in range(len(rows))]
        self.tokens = sum(map(len, rows))
        self._batches = []
        for group in groups:
            width = max(len(rows[at]) for at in group)
            padded = [rows[at] + [0] * (width - len(rows[at])) for at in group]
            self._batches.append(torch.tensor(padded, device=llm._device))

    @torch.inference_mode()
    def __call__(self) -> None:
        for batch in self._batches:
            self._llm._backbone(input_ids=batch, use_cache=False)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - started


def speeds(prompts: list[str], console: Console) -> list[Figure]:
    """Tokens per second of each way, in turns, and their ratios."""
    config = config_of([30])
    models = Models(config.models)
    llm = models.embed_llm.hidden_states
    slow = Models(config_of([30], "float32").models).embed_llm.hidden_states
    depth, device = llm.depth, llm._device
    sizes = (512, 1024) if device.type == "cpu" else (8_192, 16_384, 65_536)
    alone = random.Random(0).sample(prompts, min(ALONE, len(prompts)))
    bare = {f"bare, batches of {most:,} tokens": Bare(llm, prompts, most) for most in sizes}
    same, plain = f"one at a time, as surd ({models.dtype})", "one at a time, float32"
    singly = {same: Bare(llm, alone, None)}
    if models.dtype != "float32":  # where the hardware does not compute in bfloat16, the two are one
        singly[plain] = Bare(slow, alone, None)
    tokens = next(iter(bare.values())).tokens
    with tempfile.TemporaryDirectory() as folder:
        build = Build(folder)
        write_index(build, prompts, models)
        layers_of = {
            "surd, last layer": [depth],
            "surd, layer 10": [10],
            "surd, three layers": [10, 20, depth],
        }
        ways: dict[str, tuple[int, Callable[[], object]]] = {
            name: (tokens, lambda layers=layers: embed(build, config_of(layers), models))  # type: ignore[misc]
            for name, layers in layers_of.items()
        } | {name: (loop.tokens, loop) for name, loop in (bare | singly).items()}
        for _, work in list(ways.values())[:2]:
            work()  # first calls are slower
        rounds = [{name: count / seconds(work, device) for name, (count, work) in ways.items()} for _ in range(ROUNDS)]
    table = Table("way", "tokens/s", box=None)
    for name in ways:
        table.add_row(name, f"{statistics.median(one[name] for one in rounds):,.0f}")
    console.print(table)

    def ratio(of: str, to: Callable[[dict[str, float]], float]) -> float:
        return statistics.median(one[of] / to(one) for one in rounds)

    last = "surd, last layer"
    halved = []
    if plain in singly:
        halved.append(Figure("to_one_at_a_time_float32", ratio(last, lambda one: one[plain]), ">=", 6.0))
    return [
        Figure("to_bare_loop", ratio(last, lambda one: max(one[name] for name in bare)), ">=", 0.9),
        Figure("to_one_at_a_time_same_dtype", ratio(last, lambda one: one[same]), ">=", 2.0),
        *halved,
        Figure("time_of_layer_10_to_last", ratio(last, lambda one: one["surd, layer 10"]), "<=", 0.45),
        Figure("time_of_three_layers_to_last", ratio(last, lambda one: one["surd, three layers"]), "<=", 1.1),
    ]


def accuracy(prompts: list[str], console: Console) -> list[Figure]:
    """Error of the dtype: mean-pooled states against float32, also when standardised to mean 0 and deviation 1."""
    layers = [(10, "mean"), (20, "mean"), (30, "mean")]
    states = {}
    for dtype in ("auto", "float32"):
        llm = Models(config_of([30], dtype).models).embed_llm.hidden_states
        pooled = dict(llm.read(prompts, layers, None))  # type: ignore[arg-type]
        states[dtype] = {one: torch.stack([pooled[at][one] for at in range(len(prompts))]) for one in layers}
    table = Table("layer", "relative error", "least cosine", "standardised: error", "least cosine", box=None)
    cosines = []
    for one in layers:
        exact, ours = states["float32"][one], states["auto"][one]
        mean, deviation = exact.mean(0), exact.std(0)
        line = [str(one[0])]
        for a, b in ((ours, exact), ((ours - mean) / deviation, (exact - mean) / deviation)):
            cosine = torch.cosine_similarity(a, b).min().item()
            line += [f"{((a - b).norm() / b.norm()).item():.4f}", f"{cosine:.5f}"]
            cosines.append(cosine)
        table.add_row(*line)
    console.print(table)
    return [Figure("least_cosine_to_float32", min(cosines), ">=", 0.98)]


def peak(way: str, size: int, seed: int) -> None:
    """Print the peak resident MB of this process after one way of embedding."""
    prompts, config = prompts_of(seed, size), config_of([30])
    models = Models(config.models)
    if way == "bare":
        Bare(models.embed_llm.hidden_states, prompts, 512)()
    else:
        with tempfile.TemporaryDirectory() as folder:
            build = Build(folder)
            write_index(build, prompts, models)
            embed(build, config, models)
    # Not getrusage: its peak includes the memory of the parent process.
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match
    print(int(match.group(1)) // 1024)


def memory(size: int, seed: int, console: Console) -> list[Figure]:
    """Peak resident memory, each way in a process of its own."""
    peaks = {}
    for way in ("bare", "surd"):
        command = [sys.executable, "-m", "tests.bench.embed", "--peak", way, "--size", str(size), "--seed", str(seed)]
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks[way] = int(ran.stdout.splitlines()[-1])
    console.print(f"peak resident memory: bare {peaks['bare']} MB, surd {peaks['surd']} MB", highlight=False)
    return [Figure("peak_memory_to_bare_loop", peaks["surd"] / peaks["bare"], "<=", 1.3)]


def main() -> int:
    """Print the tables and one JSON line of every figure beside its goal; 1 if one misses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512, help="prompts")
    parser.add_argument("--seed", type=int, default=7001)
    parser.add_argument("--peak", choices=("bare", "surd"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    set_up_process()
    if args.peak:
        peak(args.peak, args.size, args.seed)
        return 0
    console = Console()
    prompts = prompts_of(args.seed, args.size)
    models = Models(config_of([30]).models)
    where = f"{models.dtype} on {models.device} ({torch.get_num_threads()} threads)"
    console.print(f"{len(prompts)} prompts, {models.config.llm} in {where}", highlight=False, soft_wrap=True)
    figures = memory(args.size, args.seed, console)  # first, while this process holds no model
    figures += speeds(prompts, console)
    figures += accuracy(prompts[:256], console)
    table = Table("figure", "value", "goal", "", box=None)
    for one in figures:
        table.add_row(one.name, f"{one.value:.3f}", one.goal, "met" if one.met else "MISSED")
    console.print(table)
    missed = [one.name for one in figures if not one.met]
    print(json.dumps({"figures": {one.name: one.document() for one in figures}, "missed": missed}))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
