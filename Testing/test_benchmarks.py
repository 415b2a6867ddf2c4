from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest


def load(repository: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    """A file of benchmarks/ as a module."""
    folder = repository / "benchmarks"
    monkeypatch.syspath_prepend(folder)
    specification = importlib.util.spec_from_file_location(f"{name}_benchmark", folder / f"{name}.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, f"{name}_benchmark", module)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def training(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load(repository, monkeypatch, "training")


@pytest.fixture
def planes(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load(repository, monkeypatch, "planes")


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


def test_ratio_of_a_pair_is_the_median_over_the_rounds(planes: ModuleType) -> None:
    # A slow minute in the second round: of both, so that it does not count.
    assert planes.ratio({"AG-Sononet": [11, 110, 12], "Sononet": [10, 100, 12]}) == pytest.approx(1.1)


def test_figures_of_planes_stand_beside_their_goals(planes: ModuleType) -> None:
    pairs = {
        planes.Case(planes.FORWARD, 16, 1): {"AG-Sononet": [21.0], "Sononet": [20.0]},
        planes.Case(planes.TRAINING, 16, 8): {"AG-Sononet": [30.0], "Sononet": [20.0]},
    }
    live = {"rate": 29.0, "latencies": [30.0, 20.0, 100.0], "superseded": 3, "paced": 300}
    memory = {
        "short": {"peak_mib": 300.0, "results_mib": 0.1, "frames_per_second": 50.0},
        "long": {"peak_mib": 304.0, "results_mib": 1.0, "frames_per_second": 55.0},
    }
    lines = planes.report(pairs, planes.goals(pairs, live, memory), "Title").splitlines()
    verdicts = {line.split("  ")[0]: line.split()[-1] for line in lines if " met" in line or "MET" in line}
    assert verdicts == {
        "AG-Sononet-16 / Sononet-16, forward, prepared, 1×208×272": "met",
        "AG-Sononet-16 live through the worker": "MET",
        "Median latency at 30 frames/s": "met",
        "Memory of 1000 frames beyond that of 100 (results: 1.0 MiB)": "met",
    }
    (training_row,) = [line for line in lines if line.startswith("AG-Sononet-16 / Sononet-16, forward and backward")]
    assert training_row.split()[-1] == "1.500"


def test_pairs_take_turns(planes: ModuleType) -> None:
    times = planes.measure_pair(planes.Case(planes.FORWARD, 8, 1), 3)
    assert {name: len(values) for name, values in times.items()} == {"Sononet": 3, "AG-Sononet": 3}
    assert min(min(values) for values in times.values()) > 0
