"""Small scans and data sets on disk, shared by the tests of data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from AGTraining.imaging.files import write_volume
from AGTraining.imaging.volume import Volume

LABELS = {"background": 0, "pancreas": 1, "spleen": 2, "kidney_right": 3, "kidney_left": 4}
MATRIX = np.diag([2.0, 2.0, 2.0, 1.0])


def blocks(seed: int = 0) -> np.ndarray:
    """A label map (20, 24, 40) with a block for each label, the kidneys on their sides in LPS; the spleen varies."""
    labels = np.zeros((20, 24, 40), dtype=np.uint8)
    labels[4:8, 10:14, 18:24] = 1
    labels[10:16, 4:10, 30 : 35 + seed % 3] = 2
    labels[4:10, 16:22, 4:10] = 3
    labels[4:10, 16:22, 30:36] = 4
    return labels


def hounsfield(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Air, with fat and soft tissue in it."""
    hu = np.full(labels.shape, -1000, dtype=np.int16)
    hu[1:-1, 1:-1, 1:-1] = -100
    hu[labels > 0] = 40 + 20 * labels[labels > 0].astype(np.int16)
    return (hu + np.random.default_rng(seed).integers(-5, 6, hu.shape)).astype(np.int16)


def write_case(folder: Path, name: str, seed: int = 0, **changes: Any) -> dict[str, Any]:
    """An image and its label map; returns the entry of a dataset.json. changes: of the entry."""
    labels = blocks(seed)
    write_volume(Volume(hounsfield(labels, seed), MATRIX), folder / "images" / f"{name}.nii.gz")
    write_volume(Volume(labels, MATRIX), folder / "labels" / f"{name}.nii.gz")
    return {"name": name, "image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz", **changes}


def write_description(folder: Path, entries: Sequence[dict[str, Any]], **changes: Any) -> Path:
    """The dataset.json of some entries."""
    document = {
        "name": "small",
        "licence": "CC0",
        "labels": {str(value): name for name, value in LABELS.items()},
        "training": list(entries),
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "dataset.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def write_dataset(folder: Path, *names: str, **changes: Any) -> Path:
    """A data set of some cases, all different."""
    return write_description(folder, [write_case(folder, name, seed) for seed, name in enumerate(names)], **changes)


def organ(name: str, *labels: str) -> dict[str, Any]:
    """A class of a configuration."""
    return {
        "name": name, "type_code": "1", "type_meaning": name, "color": [1, 2, 3], "labels": list(labels or (name,)),
    }  # fmt: skip


CLASSES = [organ("pancreas"), organ("spleen"), organ("kidney", "kidney_right", "kidney_left")]


def configuration(output: Path, **changes: Any) -> dict[str, Any]:
    """The document of a training configuration."""
    return {
        "output": str(output),
        "training": [{"dataset": "x"}],
        "classes": CLASSES,
        "intensity": {"low": -200, "high": 300, "mean": 0, "sd": 100},
        "crop": [32, 32, 32],
        **changes,
    }
