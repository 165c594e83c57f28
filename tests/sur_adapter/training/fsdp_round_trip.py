"""Run by two processes: an adapter sharded by FSDP is saved whole, and comes back as it went."""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from torch.distributed.fsdp import fully_shard

from sur_adapter.adapter import SURAdapter
from sur_adapter.training.state_dicts import read_optimizer, read_weights, write_optimizer, write_weights


def sharded(seed: int) -> tuple[SURAdapter, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    module = SURAdapter(width=32, heads=4, feed_forward=64, dropout=0.0)
    fully_shard(module, mesh=dist.init_device_mesh("cpu", (2,)))
    return module, torch.optim.AdamW(module.parameters(), lr=1e-2)


def step(module: SURAdapter, optimizer: torch.optim.Optimizer, seed: int) -> None:
    x = torch.randn(2, 16, 32, generator=torch.Generator().manual_seed(seed))
    module(x).states.square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def main(folder: str) -> None:
    dist.init_process_group("gloo")
    first, optimizer = sharded(0)
    ema = EMAModel(list(first.parameters()), decay=0.5)
    for number in range(3):
        step(first, optimizer, number)
        ema.step(first.parameters())
    weights, slots = read_weights(first), read_optimizer(first, optimizer)
    if dist.get_rank() == 0:
        assert weights["fc.weight"].shape == (32, 32) and "fc.weight/exp_avg" in slots
        save_file(weights, f"{folder}/weights.safetensors")
        save_file(slots, f"{folder}/slots.safetensors")
    else:
        assert not weights and not slots
    dist.barrier()
    second, other = sharded(1)
    write_weights(second, load_file(f"{folder}/weights.safetensors"))
    write_optimizer(second, other, load_file(f"{folder}/slots.safetensors"))
    for module, its in ((first, optimizer), (second, other)):
        step(module, its, 9)
    for one, two in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one.full_tensor(), two.full_tensor())
    dist.barrier()  # else one may hang up while the other still reads
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
