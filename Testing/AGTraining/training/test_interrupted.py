"""A run that is interrupted anywhere ends as one that was not."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from AGTraining import bundle
from AGTraining.training import trainer as trainer_module
from AGTraining.training.checkpoint import read_checkpoint
from AGTraining.training.trainer import Trainer
from Testing.AGTraining.training.toy import assert_same, make_config, run_interrupted, settings

EVERYTHING = {
    "optimizer": "sgd",
    "learning_rate": 0.01,
    "ema": 0.5,
    "gradient_averaging": 2,
    "loss": "dice_cross_entropy",
    "gate_warmup_epochs": 1,
    "early_stop": 9,
}


@pytest.mark.parametrize("call", [1, 2, 4, 7, 8], ids=lambda call: f"call {call}")
def test_run_goes_on_in_the_middle_of_an_epoch(data: tuple[Path, Path], tmp_path: Path, call: int) -> None:
    whole = make_config(data, tmp_path / "whole")
    Trainer(whole, "cpu").run()
    parts = make_config(data, tmp_path / "parts", checkpoint_steps=1)
    run_interrupted(parts, call)
    state = read_checkpoint(parts.output / "last.pt")
    assert 3 * state["epoch"] + state["step"] == call
    assert len(state["losses"]) == state["step"]
    Trainer(parts, "cpu").run()
    for name in ("last.pt", "best.pt"):
        assert_same(read_checkpoint(whole.output / name), read_checkpoint(parts.output / name), name)
    assert (whole.output / "history.json").read_text() == (parts.output / "history.json").read_text()


def test_every_option_s_state_is_kept(data: tuple[Path, Path], tmp_path: Path) -> None:
    whole = make_config(data, tmp_path / "whole", **EVERYTHING)
    Trainer(whole, "cpu").run()
    parts = make_config(data, tmp_path / "parts", checkpoint_steps=2, **EVERYTHING)
    # Each step asks for two losses: within the first epoch, and within the third.
    run_interrupted(parts, call=5)
    run_interrupted(parts, call=11)
    Trainer(parts, "cpu").run()
    for name in ("last.pt", "best.pt"):
        assert_same(read_checkpoint(whole.output / name), read_checkpoint(parts.output / name), name)


def test_checkpoints_come_by_steps(data: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[int, int]] = []
    monkeypatch.setattr(
        trainer_module, "write_checkpoint", lambda path, state: written.append((state["epoch"], state["step"]))
    )
    changes = {"steps_per_epoch": 7, "epochs": 2, "checkpoint_steps": 3, "validation": []}
    Trainer(make_config(data, tmp_path, **changes), "cpu").run()
    assert written == [(0, 3), (0, 6), (1, 0), (1, 3), (1, 6), (2, 0)]


def test_checkpoints_come_by_the_clock(
    data: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    monkeypatch.setattr(trainer_module, "write_checkpoint", lambda path, state: written.append(state["step"]))
    # Half a minute passes each time that somebody looks: at the start, after each step, and at each checkpoint.
    minutes = itertools.count(0.0, 0.5)
    monkeypatch.setattr(trainer_module.time, "monotonic", lambda: 60 * next(minutes))
    changes = {"steps_per_epoch": 7, "epochs": 1, "checkpoint_minutes": 1.5, "validation": []}
    Trainer(make_config(data, tmp_path, **changes), "cpu").run()
    assert written == [3, 6, 0]


@pytest.mark.slow
def test_killed_process_resumes_bit_for_bit(data: tuple[Path, Path], tmp_path: Path) -> None:
    changes = {"epochs": 8, "steps_per_epoch": 9, "validate_every": 3, "workers": 1, "checkpoint_steps": 1}
    config = make_config(data, tmp_path / "whole", **changes)
    Trainer(config, "cpu").run()

    killed = tmp_path / "killed"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings(data, killed, **changes)), encoding="utf-8")
    command = [sys.executable, "-m", "AGTraining", "train", str(tmp_path / "config.yaml"), "--device", "cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(bundle.__file__).parents[1])}
    delay = random.uniform(0, 0.3)
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 120
        while not (killed / "last.pt").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL, (tmp_path / "log").read_text()
    state = read_checkpoint(killed / "last.pt")
    place = f"killed {delay:.3f} s after the first checkpoint, after epoch {state['epoch']} and {state['step']} steps"
    assert 0 < 9 * state["epoch"] + state["step"] < 72, place

    resumed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.splitlines()[-2:] == [f"report  {killed}/report.html", f"model   {killed}/toy.safetensors"]
    for name in ("last.pt", "best.pt"):
        assert_same(read_checkpoint(config.output / name), read_checkpoint(killed / name), f"{name} ({place})")


def test_changed_option_of_the_optimizer_is_refused_on_resume(data: tuple[Path, Path], tmp_path: Path) -> None:
    run_interrupted(make_config(data, tmp_path), call=4)
    for key, value in {"optimizer": "sgd", "ema": 0.9, "weight_decay": 0.1, "mixed_precision": "off"}.items():
        changes: dict[str, Any] = {key: value}
        with pytest.raises(trainer_module.ConfigurationError, match=f"a run with another '{key}'"):
            Trainer(make_config(data, tmp_path, **changes), "cpu").run()
