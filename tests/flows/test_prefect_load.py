"""The flow that measures what a build costs its Prefect server runs."""

import surd.flows.run_stages as run_stages_module
from tests.bench.prefect_load import _run_driver


def test_the_measured_flow_runs_every_unit_and_gives_its_peak_memory(monkeypatch, capsys):
    monkeypatch.setattr(run_stages_module, "_run_unit", run_stages_module._run_unit)  # and back again
    _run_driver("windows", 3)
    assert int(capsys.readouterr().out.split()[-1]) > 50e6
