"""Every test process is set up as a process that runs stages is, before its first test multiplies two matrices."""

from surd.pipeline.runner.process_setup import set_up_process

set_up_process()

LONG = ("tests/e2e/", "tests/sur_adapter/training/test_training_options.py")  # a core would be left alone with these


def pytest_collection_modifyitems(items):
    """Files whose tests take minutes come first."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))
