"""What the network saw of fixed slices at chosen epochs (Oktay et al. 2018, figure 6)."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

FOLDER = "slices"


@dataclass(frozen=True)
class Snapshot:
    """An axial slice of a case as the network saw it at some epoch.

    image: (J, I) z-scores; target, predicted: (J, I) classes; attention: by gate, (j, i) on its level's grid.
    """

    case: str
    k: int
    image: np.ndarray
    target: np.ndarray
    predicted: np.ndarray
    attention: dict[str, np.ndarray] = field(default_factory=dict)


def most_telling_slice(target: np.ndarray) -> int:
    """The axial slice of (K, J, I) classes that has most of all organs, each organ counting the same."""
    shares = np.zeros(len(target))
    for value in np.unique(target[target > 0]):
        area = np.count_nonzero(target == value, axis=(1, 2))
        shares += area / area.max()
    return int(np.argmax(shares)) if shares.any() else len(target) // 2


def write_snapshots(run: Path, epoch: int, snapshots: list[Snapshot]) -> None:
    """Keeps the snapshots of an epoch in the run's folder; those of an earlier try are replaced."""
    if not snapshots:
        return
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    arrays: dict[str, np.ndarray] = {}
    for number, item in enumerate(snapshots):
        arrays |= {
            f"{number}/image": item.image.astype(np.float16),
            f"{number}/target": item.target,
            f"{number}/predicted": item.predicted,
            **{f"{number}/attention/{name}": alpha.astype(np.float16) for name, alpha in item.attention.items()},
        }
    heads = json.dumps([{"case": item.case, "k": item.k} for item in snapshots])
    temporary = folder / f".epoch{epoch}.part"
    with temporary.open("wb") as file:
        np.savez_compressed(file, heads=np.frombuffer(heads.encode(), dtype=np.uint8), **arrays)  # type: ignore[arg-type]
    os.replace(temporary, folder / f"epoch{epoch:05d}.npz")


def remove_snapshots(run: Path) -> None:
    """Removes all snapshots of a run."""
    for path in (run / FOLDER).glob("epoch*.npz"):
        path.unlink(missing_ok=True)


def read_snapshots(run: Path) -> dict[int, list[Snapshot]]:
    """All snapshots of a run, by epoch in their order; empty where there are none."""
    found = {}
    for path in sorted((run / FOLDER).glob("epoch*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            heads = json.loads(arrays["heads"].tobytes())
            found[int(path.stem.removeprefix("epoch"))] = [
                Snapshot(
                    head["case"],
                    head["k"],
                    arrays[f"{number}/image"].astype(np.float32),
                    arrays[f"{number}/target"],
                    arrays[f"{number}/predicted"],
                    {
                        name.split("/")[2]: arrays[name].astype(np.float32)
                        for name in arrays.files
                        if name.startswith(f"{number}/attention/")
                    },
                )
                for number, head in enumerate(heads)
            ]
    return found
