"""Which stages flow: neighbours over partitions where one waits for what the other does not need.

Fetch waits for the network while decode and clean use the processor, so a partition goes on as soon as it is fetched.
Stages with models flow where their models are in different places (a server, another GPU), unless that would hold more
models in one place at once than a single stage holds anyway. What waits between two stages lies in the build, not in
memory, so no stage has to hold another back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from surd.pipeline.models.check import device_setting, roles_needed
from surd.pipeline.stages import STAGES, Stage
from surd.schemas import BuildConfig
from surd.schemas.model_ref import server_ref

NETWORK, SERVER = "network", "server"


def chains(config: BuildConfig) -> Iterator[tuple[Stage, ...]]:
    """All stages in their order: those that flow together as one chain, each of the others alone."""
    for scope, group in groupby(STAGES, lambda stage: stage.scope):
        stages = tuple(group)
        if scope == "partition":
            yield from _chains(stages, config)
        else:
            yield from ((stage,) for stage in stages)


def places(stage: Stage, config: BuildConfig) -> frozenset[str]:
    """What a unit of the stage waits for: ``network``, ``server``, the devices of its models, else the processor."""
    return frozenset(_models(stage, config)) or frozenset({NETWORK if stage.name == "fetch" else "cpu"})


def _chains(stages: Sequence[Stage], config: BuildConfig) -> Iterator[tuple[Stage, ...]]:
    while stages:
        longest = max(end for end in range(1, len(stages) + 1) if _flow(stages[:end], config))
        yield tuple(stages[:longest])
        stages = stages[longest:]


def _flow(stages: Sequence[Stage], config: BuildConfig) -> bool:
    """Whether these stages may run at once, and gain by it."""
    if len(stages) == 1:
        return True
    if len({places(stage, config) for stage in stages}) == 1:
        return False
    held = [_models(stage, config) for stage in stages]
    if config.runner == "ray" and any(held):  # each of a cluster's processes would keep the models of all of them
        return False
    for place in {place for models in held for place in models} - {SERVER}:
        if set().union(*(models.get(place, set()) for models in held)) not in [models.get(place) for models in held]:
            return False
    return True


def _models(stage: Stage, config: BuildConfig) -> dict[str, set[str]]:
    """Place -> roles whose models the stage has there."""
    models: dict[str, set[str]] = {}
    for role, loaded_by in roles_needed(config).items():
        if stage.name in loaded_by and not role.startswith(("facts.", "score.")):
            models.setdefault(_place(role, config), set()).add(role)
    return models


def _place(role: str, config: BuildConfig) -> str:
    if not role.startswith("safety.") and server_ref(config.models.ref(role)):
        return SERVER
    return device_setting(role, config)[1]
