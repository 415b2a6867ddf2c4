"""Checkpoints of a run: written atomically, read without running code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from AGTraining.errors import ConfigurationError

CONTENT = {
    "fixed", "epoch", "step", "losses", "best", "history", "network", "optimizer", "precision", "average",
}  # fmt: skip
SCORES = {"dsc": "scores"}


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes `state` (tensors, numbers, strings, lists, dicts) so that `path` is always whole: old or new."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Removes what runs that were killed while they wrote a checkpoint have left in the folder."""
    for path in folder.glob(".*.pt.*.part"):
        path.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint of the trainer (`weights_only`: nothing in it is run).

    Raises ConfigurationError when it is damaged or something else.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ConfigurationError(
            f"{path}: the checkpoint cannot be read ({type(error).__name__}); delete it to start the run anew."
        ) from error
    if not isinstance(state, dict) or not state.keys() >= CONTENT:
        raise ConfigurationError(f"{path}: not a checkpoint of a training run; delete it to start the run anew.")
    # What validations found was called "dsc" when only organs were trained.
    state["history"] = [{SCORES.get(key, key): value for key, value in record.items()} for record in state["history"]]
    return state
