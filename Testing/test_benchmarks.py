from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def training(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/training.py as a module."""
    folder = repository / "benchmarks"
    monkeypatch.syspath_prepend(folder)
    specification = importlib.util.spec_from_file_location("training_benchmark", folder / "training.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_a_step_of_the_trainer_is_measured(repository: Path, training: ModuleType) -> None:
    command = [sys.executable, repository / "benchmarks" / "training.py", "--measure", training.OURS, "--device", "cpu"]
    command += ["--crop", "32", "32", "32", "--batch", "1"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    figures = json.loads(output)
    assert figures["seconds"] > 0 and figures["cpu_seconds"] > 0
    # Weights, gradients and both moments of Adam alone: 6.5 million numbers of 4 bytes, four times.
    assert 95 < figures["peak_mib"] < 2000


def test_ratios_are_medians_over_the_rounds_with_their_goals(training: ModuleType) -> None:
    rows = {
        name: {"seconds": [2.0, 20.0, 4.0], "cpu_seconds": [1.0] * 3, "peak_mib": [100.0] * 3}
        for name in training.VARIANTS
    }
    # A slow minute in the second round: of both, so that it does not count.
    rows[training.OURS] = {"seconds": [1.0, 10.0, 3.0], "cpu_seconds": [1.0] * 3, "peak_mib": [95.0] * 3}
    table = training.report(rows, "cpu", argparse.Namespace(crop=(32, 48, 64), batch=2)).splitlines()
    assert "Training step on 1×32×48×64, batch 2, CPU" in table[1]
    (time_row,) = [line for line in table if line.startswith("Step time, ours / MONAI's  ")]
    (memory_row,) = [line for line in table if line.startswith("Peak memory, ours / MONAI's  ")]
    assert time_row.split()[-4:] == ["0.500", "≤", "0.8", "met"]
    assert memory_row.split()[-5:] == ["0.950", "≤", "0.9", "NOT", "MET"]
