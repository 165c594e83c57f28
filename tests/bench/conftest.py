"""Benchmarks silence logging, each in a process of its own; tests run them all in one."""

import logging

import pytest


@pytest.fixture(autouse=True)
def logging_as_it_was():
    """What a benchmark disabled is logged again by the tests after it."""
    disabled = logging.root.manager.disable
    yield
    logging.disable(disabled)
