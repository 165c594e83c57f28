"""Lets ``prefect deployment run build-surd`` work as typed: a bare name becomes Prefect's full ``flow/deployment``.

Prefect calls ``setup_environment`` once, on import, in every process that runs where ``[tool.prefect.plugins]`` of
pyproject.toml switches plugins on, that is in a checkout. Flow and deployment share one name here, so the name alone
is enough; elsewhere the full form is needed. Prefect is not patched: the word is completed in ``sys.argv``, before
Prefect reads it. Every other command is left as it is.
"""

from __future__ import annotations

import sys
from typing import Any

from prefect.plugins import register_hook

NAME = "build-surd"


@register_hook
def setup_environment(*, ctx: Any) -> None:
    """The documented start-up hook. Changes no environment, so it returns nothing."""
    sys.argv[1:] = complete(sys.argv[1:])


def complete(arguments: list[str]) -> list[str]:
    """The arguments of ``prefect``, with the bare name of our deployment completed to ``build-surd/build-surd``."""
    if arguments[:1] != ["deployment"]:
        return arguments
    for index, word in enumerate(arguments[2:], start=2):
        before = arguments[index - 1]
        is_value = before.startswith("-") and before != "--watch"
        if word == NAME and not is_value:
            return [*arguments[:index], f"{NAME}/{NAME}", *arguments[index + 1 :]]
    return arguments
