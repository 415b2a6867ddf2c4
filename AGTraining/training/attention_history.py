"""What the network saw of fixed slices at chosen epochs (Oktay et al. 2018, figure 6)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    arrays = [
        {
            "image": item.image,
            "target": item.target,
            "predicted": item.predicted,
            **{f"attention/{name}": alpha for name, alpha in item.attention.items()},
        }
        for item in snapshots
    ]
    write_epoch(run, epoch, [{"case": item.case, "k": item.k} for item in snapshots], arrays)


def write_epoch(
    run: Path, epoch: int, heads: Sequence[Mapping[str, Any]], arrays: Sequence[Mapping[str, np.ndarray]]
) -> None:
    """Keeps what was seen at an epoch: of each case a few words and its arrays, floating-point ones as fp16."""
    if not heads:
        return
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    kept = {
        f"{number}/{name}": array.astype(np.float16) if array.dtype.kind == "f" else array
        for number, item in enumerate(arrays)
        for name, array in item.items()
    }
    temporary = folder / f".epoch{epoch}.part"
    with temporary.open("wb") as file:
        text = np.frombuffer(json.dumps(list(heads)).encode(), dtype=np.uint8)
        np.savez_compressed(file, heads=text, **kept)  # type: ignore[arg-type]
    os.replace(temporary, folder / f"epoch{epoch:05d}.npz")


def remove_snapshots(run: Path) -> None:
    """Removes all snapshots of a run."""
    for path in (run / FOLDER).glob("epoch*.npz"):
        path.unlink(missing_ok=True)


def read_snapshots(run: Path) -> dict[int, list[Snapshot]]:
    """All snapshots of a run, by epoch in their order; empty where there are none."""
    return {
        epoch: [
            Snapshot(
                head["case"],
                head["k"],
                arrays["image"],
                arrays["target"],
                arrays["predicted"],
                {name.split("/")[1]: array for name, array in arrays.items() if name.startswith("attention/")},
            )
            for head, arrays in items
        ]
        for epoch, items in read_epochs(run).items()
    }


def read_epochs(run: Path) -> dict[int, list[tuple[dict[str, Any], dict[str, np.ndarray]]]]:
    """What `write_epoch` has kept, by epoch in their order, floating-point arrays as float32."""
    found = {}
    for path in sorted((run / FOLDER).glob("epoch*.npz")):
        with np.load(path, allow_pickle=False) as file:
            heads = json.loads(file["heads"].tobytes())
            items: list[dict[str, np.ndarray]] = [{} for _ in heads]
            for name in file.files:
                if name != "heads":
                    number, _, key = name.partition("/")
                    array = file[name]
                    items[int(number)][key] = array.astype(np.float32) if array.dtype.kind == "f" else array
        found[int(path.stem.removeprefix("epoch"))] = list(zip(heads, items, strict=True))
    return found
