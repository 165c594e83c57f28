"""Global concurrency limits of a Prefect server: what builds on one server share, each window of a stage holds a slot.

``surd-gpu`` is for stages whose model is on a GPU, ``surd-fetch`` for fetch, and so on for each stage. A limit that the
server does not have limits nothing. Create one with ``prefect gcl create surd-gpu --limit 1``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound

from surd.flows.devices import gpu_roles
from surd.pipeline.models import Models
from surd.pipeline.stages import Stage
from surd.schemas import BuildConfig

GPU = "surd-gpu"
LEASE = 60  # seconds until the slot of a killed build is free; the least that Prefect takes


@contextmanager
def slots(stages: Sequence[Stage], config: BuildConfig) -> Iterator[None]:
    """Hold a slot of each limit that the server has for these stages, waiting for it as long as others hold it."""
    with get_client(sync_client=True) as client:
        names = [name for name in (*(f"surd-{stage.name}" for stage in stages), GPU) if _exists(client, name)]
    if GPU in names and not any(uses_gpu(stage, config) for stage in stages):  # only now: it may need torch, 500 MB
        names.remove(GPU)
    with concurrency(names, lease_duration=LEASE, raise_on_lease_renewal_failure=False):
        yield


def _exists(client: SyncPrefectClient, limit: str) -> bool:
    """Asked because ``concurrency`` warns of a limit that is not there."""
    try:
        client.read_global_concurrency_limit_by_name(limit)
    except ObjectNotFound:
        return False
    return True


def uses_gpu(stage: Stage, config: BuildConfig) -> bool:
    """Whether a model of the stage is on a GPU of this machine; one behind a server is not."""
    models = Models(config.models)
    return any(models.device_of(role).startswith("cuda") for role in gpu_roles(config, stage.name))
