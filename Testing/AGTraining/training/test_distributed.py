"""Several processes train as one: with torchrun and gloo, as on one machine without GPUs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml

from AGTraining import bundle
from AGTraining.errors import DeviceError
from AGTraining.training import distributed
from AGTraining.training.checkpoint import read_checkpoint
from AGTraining.training.trainer import Trainer
from Testing.AGTraining.training.toy import assert_same, make_config, make_dataset, settings
from Testing.AGTraining.training.toy_planes import make_plane_config, plane_settings

ROOT = Path(bundle.__file__).parents[1]
# Everything whose state must survive; float32, so that only the order of sums differs.
CHANGES: dict[str, Any] = {
    "epochs": 3,
    "steps_per_epoch": 2,
    "validate_every": 1,
    "checkpoint_steps": 1,
    "optimizer": "sgd",
    "learning_rate": 0.01,
    "ema": 0.5,
    "gradient_averaging": 2,
    "mixed_precision": "off",
    "synchronised_batch_norm": True,
}


def torchrun(*arguments: str | Path, **options: str) -> subprocess.Popen[str]:
    """Two processes on this machine, with torchrun's own options by name."""
    given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *given]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*command, *map(str, arguments)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> str:
    """What a run printed; it must end well, and within minutes."""
    try:
        output, errors = process.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        raise
    assert process.returncode == 0, errors
    return output


def as_process(monkeypatch: pytest.MonkeyPatch, rank: int, processes: int) -> None:
    """Lets this process think that torchrun has started it."""
    values = {"RANK": rank, "WORLD_SIZE": processes, "LOCAL_RANK": rank, "MASTER_ADDR": "localhost", "MASTER_PORT": 1}
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))


def test_one_process_is_the_main_one() -> None:
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    with distributed.session("cuda:7") as device:
        assert device == "cuda:7"
    assert distributed.sample_numbers(3, 9, 2) == range(3, 9)


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_the_samples_of_one_with_a_larger_batch(
    monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    shares = []
    for rank in range(processes):
        as_process(monkeypatch, rank, processes)
        shares.append(list(distributed.sample_numbers(12, 48, 2)))
    batches = [[share[n : n + 2] for n in range(0, len(share), 2)] for share in shares]
    together = [sorted(number for part in parts for number in part) for parts in zip(*batches, strict=True)]
    assert together == [list(range(n, n + 2 * processes)) for n in range(12, 48, 2 * processes)]


@pytest.mark.parametrize(("asked", "words"), [("cuda:0", "is for one process"), ("mps", "is for one process")])
def test_device_for_one_process_is_refused(monkeypatch: pytest.MonkeyPatch, asked: str, words: str) -> None:
    as_process(monkeypatch, 1, 2)
    with pytest.raises(DeviceError, match=words):
        distributed.own_device(asked)


def test_each_process_takes_the_gpu_of_its_own_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    as_process(monkeypatch, 1, 3)
    assert distributed.own_device("auto") == distributed.own_device("cuda") == "cuda:1"
    as_process(monkeypatch, 2, 3)
    with pytest.raises(DeviceError, match=r"Process 3 of this machine has no GPU: PyTorch sees 2; .*nproc-per-node 2"):
        distributed.own_device("auto")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes say of themselves and of what they do together, in double precision."""
    folder = tmp_path_factory.mktemp("pair")
    finish(torchrun("-m", "Testing.AGTraining.training.two_processes", folder))
    return [json.loads((folder / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(2)]


def test_processes_know_who_they_are(pair: list[dict[str, Any]]) -> None:
    device = "cpu" if not torch.cuda.is_available() else "cuda"
    assert [who[:3] for who in (pair[0]["who"], pair[1]["who"])] == [[0, 2, True], [1, 2, False]]
    assert all(results["who"][3].startswith(device) for results in pair)
    # Also when they have parted: one of them prints where the report lies.
    assert [results["afterwards"] for results in pair] == [[False, True], [False, False]]


def test_numbers_and_results_come_together(pair: list[dict[str, Any]]) -> None:
    assert [results["samples"] for results in pair] == [[4, 5, 6, 10, 11, 12], [7, 8, 9, 13, 14, 15]]
    assert [results["mean"] for results in pair] == [0.5, 0.5]
    assert [results["merged"] for results in pair] == [[[0, "from 1"], [1, "from 0"]]] * 2


def test_main_process_goes_first(pair: list[dict[str, Any]]) -> None:
    assert pair[0]["main_first"]["seen"] == [False, True]
    assert pair[1]["main_first"]["seen"] == [True, True]


def test_all_end_when_the_main_process_fails(pair: list[dict[str, Any]]) -> None:
    assert pair[0]["main_first"]["error"] == "ValueError: no data"
    assert pair[1]["main_first"]["error"] == (
        "ConfigurationError: Process 1 ends because process 0 failed; see its message."
    )


def test_run_folder_that_is_not_shared_is_noticed(pair: list[dict[str, Any]]) -> None:
    for results in pair:
        assert "runs/a: process 1 finds another checkpoint there than process 0" in results["require_same"]


def test_synchronised_batch_norm_is_that_of_the_whole_batch(pair: list[dict[str, Any]]) -> None:
    for results in pair:
        found = results["synchronised_batch_norm"]
        # Double precision: what is left is the order of sums.
        assert found["compared"] == 1 and found["gradients"] < 1e-12 and found["buffers"] < 1e-12


def test_gradients_travel_with_the_last_batch_of_a_step_only(pair: list[dict[str, Any]]) -> None:
    first, second = (results["gradient_averaging"] for results in pair)
    assert first["first"] != second["first"]
    assert first["last"] == second["last"]
    assert max(found["gradients"] for found in (first, second)) < 1e-12


def test_running_statistics_are_the_means_over_the_processes(pair: list[dict[str, Any]]) -> None:
    assert all(results["running_statistics"]["difference"] < 1e-12 for results in pair)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two cases to train on and three to validate on: one process has more of them than the other."""
    folder = tmp_path_factory.mktemp("sources")
    return make_dataset(folder / "training", 2, 0), make_dataset(folder / "validation", 3, 9)


def start(sources: tuple[Path, Path], output: Path, **options: str) -> subprocess.Popen[str]:
    config = output.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(settings(sources, output, **CHANGES)), encoding="utf-8")
    return torchrun("-m", "AGTraining", "train", config, "--device", "cpu", **options)


@pytest.fixture(scope="module")
def two(sources: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a run of two processes that nobody disturbed, and what they printed."""
    folder = tmp_path_factory.mktemp("two") / "run"
    return folder, finish(start(sources, folder))


@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_batch(
    two: tuple[Path, str], sources: tuple[Path, Path], tmp_path: Path
) -> None:
    config = make_config(sources, tmp_path / "one", **{**CHANGES, "batch_size": 2})
    Trainer(config, "cpu").run()
    found, expected = read_checkpoint(two[0] / "last.pt"), read_checkpoint(config.output / "last.pt")
    assert [record["epoch"] for record in found["history"]] == [1, 2, 3]
    for one, other in zip(found["history"], expected["history"], strict=True):
        # float32: sums in another order differ by 1e-7, which six steps through ReLUs make ten times as much.
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        # A voxel or two may fall to the other side of a probability of one half.
        assert one["scores"] == pytest.approx(other["scores"], abs=2e-3)
    first = {name: value.detach() for name, value in Trainer(config, "cpu").network.named_parameters()}
    moved = max(float((expected["network"][name] - value).abs().max()) for name, value in first.items())
    apart = max(float((expected["network"][name] - found["network"][name]).abs().max()) for name in first)
    assert moved > 0.004 and apart < 0.005 * moved
    for part in ("network", "average"):
        for name, value in expected[part].items():
            # Running statistics, of values around 1, too.
            assert torch.allclose(found[part][name].double(), value.double(), rtol=1e-3, atol=1e-3), name


@pytest.mark.slow
def test_main_process_alone_writes_and_speaks(two: tuple[Path, str]) -> None:
    folder, output = two
    assert output.splitlines()[1:] == [f"report  {folder}/report.html", f"model   {folder}/toy.safetensors"]
    assert len(list((folder / "tensorboard").iterdir())) == 1
    assert not [path for path in folder.rglob("*") if path.name.endswith(".part")]
    assert bundle.load(folder / "toy.safetensors").info.metrics["validation_dsc"].keys() == {"ball", "cube"}


def wait_for(condition: Callable[[], Any], seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError("waited in vain")


def process_of_rank(agent: psutil.Process, rank: int) -> psutil.Process | None:
    """Torchrun's child with this rank."""
    for child in agent.children():
        try:
            if child.environ().get("RANK") == str(rank) and child.status() != psutil.STATUS_ZOMBIE:
                return child
        except psutil.Error:
            continue
    return None


@pytest.mark.slow
def test_run_with_a_killed_process_is_started_anew_and_ends_with_the_same_weights(
    two: tuple[Path, str], sources: tuple[Path, Path], tmp_path: Path
) -> None:
    """Killed is the process that writes the checkpoints."""
    run = tmp_path / "run"
    process = start(sources, run, max_restarts="1", monitor_interval="0.1")
    wait_for((run / "last.pt").exists)
    victim = process_of_rank(psutil.Process(process.pid), 0)
    assert victim is not None
    victim.send_signal(signal.SIGKILL)
    wait_for(lambda: not victim.is_running() or victim.status() == psutil.STATUS_ZOMBIE)
    state = read_checkpoint(run / "last.pt")
    place = 2 * state["epoch"] + state["step"]
    finish(process)
    assert 0 < place < 6, place
    for name in ("last.pt", "best.pt"):
        assert_same(read_checkpoint(two[0] / name), read_checkpoint(run / name), f"{name}, killed after step {place}")


def test_other_number_of_processes_is_said_on_resume(
    sources: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(sources, tmp_path, **{**CHANGES, "validation": [], "epochs": 1})
    Trainer(config, "cpu").run()
    torch.save({**read_checkpoint(tmp_path / "last.pt"), "processes": 4}, tmp_path / "last.pt")
    with caplog.at_level("WARNING"):
        Trainer(config, "cpu").run()
    assert "last.pt: 4 processes took part, now 1 do; the samples of a step change with them." in caplog.text


@pytest.mark.slow
def test_two_processes_train_planes_as_one_with_twice_the_batch(frames: Path, tmp_path: Path) -> None:
    """In the epoch of the scales' own losses, where the fusing layer rests, and in that of the fused one."""
    changes = {**CHANGES, "epochs": 2, "fused_from_epoch": 1, "batch_size": 2}
    config = tmp_path / "planes.yaml"
    config.write_text(yaml.safe_dump(plane_settings(frames, tmp_path / "two", **changes)), encoding="utf-8")
    finish(torchrun("-m", "AGTraining", "train", config, "--device", "cpu"))
    Trainer(make_plane_config(frames, tmp_path / "one", **{**changes, "batch_size": 4}), "cpu").run()
    found, expected = (read_checkpoint(tmp_path / name / "last.pt") for name in ("two", "one"))
    for one, other in zip(found["history"], expected["history"], strict=True):
        # float32: sums in another order differ by 1e-7, which four steps through ReLUs make ten times as much.
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one["details"]["confusion"] == other["details"]["confusion"]
    for part in ("network", "average"):
        for name, value in expected[part].items():
            assert torch.allclose(found[part][name].double(), value.double(), rtol=1e-3, atol=1e-4), name
    assert bundle.load_planes(tmp_path / "two" / "toy-planes.safetensors").info.metrics["validation_f1"]
