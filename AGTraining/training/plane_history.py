"""What the network said of fixed frames, and where it attended, at chosen epochs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from AGTraining.training.attention_history import read_epochs, write_epoch


@dataclass(frozen=True)
class PlaneSnapshot:
    """A frame as the network saw it at some epoch.

    case: the file. target, predicted: names of classes; confidence: the probability of the predicted one.
    image: (rows, columns) gray values; attention: by block, (h, w) on its own grid.
    """

    case: str
    target: str
    predicted: str
    confidence: float
    image: np.ndarray
    attention: dict[str, np.ndarray] = field(default_factory=dict)


def write_plane_snapshots(run: Path, epoch: int, snapshots: list[PlaneSnapshot]) -> None:
    """Keeps the snapshots of an epoch in the run's folder; those of an earlier try are replaced."""
    heads = [
        {"case": item.case, "target": item.target, "predicted": item.predicted, "confidence": item.confidence}
        for item in snapshots
    ]
    write_epoch(run, epoch, heads, [{"image": item.image, **_named(item.attention)} for item in snapshots])


def read_plane_snapshots(run: Path) -> dict[int, list[PlaneSnapshot]]:
    """All snapshots of a run, by epoch in their order; empty where there are none."""
    return {
        epoch: [
            PlaneSnapshot(
                **head,
                image=arrays["image"],
                attention={name.split("/")[1]: arrays[name] for name in arrays if name.startswith("attention/")},
            )
            for head, arrays in items
        ]
        for epoch, items in read_epochs(run).items()
    }


def _named(attention: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"attention/{name}": alpha for name, alpha in attention.items()}
