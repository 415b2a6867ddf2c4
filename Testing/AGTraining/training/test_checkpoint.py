from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from AGTraining.errors import ConfigurationError
from AGTraining.training import checkpoint
from AGTraining.training.checkpoint import read_checkpoint, write_checkpoint


def some_state(value: float = 1.0) -> dict[str, Any]:
    return {
        "fixed": {"seed": "0"},
        "epoch": 3,
        "step": 2,
        "losses": [0.5, 0.25],
        "best": 0.5,
        "history": [{"epoch": 1, "loss": 0.25}],
        "network": {"weight": torch.full((4, 3), value)},
        "optimizer": {"state": {0: {"exp_avg": torch.arange(3.0)}}},
        "precision": {},
        "average": None,
    }


def test_scores_of_a_run_of_before_are_found(tmp_path: Path) -> None:
    state = some_state() | {"history": [{"epoch": 1, "loss": 0.25}, {"epoch": 2, "loss": 0.2, "dsc": {"liver": 0.9}}]}
    write_checkpoint(tmp_path / "last.pt", state)

    history = read_checkpoint(tmp_path / "last.pt")["history"]

    assert history == [{"epoch": 1, "loss": 0.25}, {"epoch": 2, "loss": 0.2, "scores": {"liver": 0.9}}]


class CreatesAFile:
    """Its pickle runs a shell command when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.path}'",)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "last.pt", some_state())
    state = read_checkpoint(tmp_path / "last.pt")
    assert torch.equal(state["network"]["weight"], torch.ones(4, 3))
    assert (state["epoch"], state["best"], state["history"]) == (3, 0.5, [{"epoch": 1, "loss": 0.25}])
    assert torch.equal(state["optimizer"]["state"][0]["exp_avg"], torch.arange(3.0))


def test_full_disk_leaves_the_old_checkpoint_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.pt"
    write_checkpoint(path, some_state(1.0))

    def write_half(state: Any, file: Any) -> None:
        file.write(b"PK\x03\x04 the beginning of a checkpoint")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.torch, "save", write_half)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(path, some_state(2.0))
    assert torch.equal(read_checkpoint(path)["network"]["weight"], torch.ones(4, 3))
    assert os.listdir(tmp_path) == ["last.pt"]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_truncated_checkpoint_is_refused_with_its_name(tmp_path: Path, share: float) -> None:
    path = tmp_path / "last.pt"
    write_checkpoint(path, some_state())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ConfigurationError, match=r"last\.pt: the checkpoint cannot be read .* start the run anew"):
        read_checkpoint(path)


def test_checkpoint_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    path, created = tmp_path / "last.pt", tmp_path / "created"
    torch.save(some_state() | {"history": CreatesAFile(created)}, path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_checkpoint(path)
    assert not created.exists()
    # The trap is real: an unsafe reader falls into it.
    torch.load(path, weights_only=False)
    assert created.exists()


def test_plain_pickle_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    path, created = tmp_path / "last.pt", tmp_path / "created"
    path.write_bytes(pickle.dumps(CreatesAFile(created)))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_checkpoint(path)
    assert not created.exists()


@pytest.mark.parametrize("content", [{"network": {}}, torch.ones(2), [1, 2]], ids=["weights only", "tensor", "list"])
def test_other_pytorch_file_is_refused_as_no_checkpoint(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "last.pt")
    with pytest.raises(ConfigurationError, match=r"last\.pt: not a checkpoint of a training run"):
        read_checkpoint(tmp_path / "last.pt")
