"""Models that tests put in the place of a role, each with weights of its own as far as a build's cache can tell."""

from itertools import count
from typing import Any

from surd.pipeline.models import Models
from surd.schemas.config import ModelsConfig

_NUMBERS = count()


def stand_in(**roles: Any) -> Models:
    """Models whose named roles are these."""
    revision = f"stand-in {next(_NUMBERS)}"
    kind = type("StandIn", (Models,), {**roles, "revision": lambda self, role: revision})
    models: Models = kind(ModelsConfig())
    return models
