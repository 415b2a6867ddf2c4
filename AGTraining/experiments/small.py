"""The papers' tables in small: tiny networks, few steps, phantoms in place of patients. It shows that all runs."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from AGTraining.data.importers.phantoms import make_phantom_dataset
from AGTraining.experiments.tables import SplitSize
from AGTraining.experiments.workplace import Workplace
from AGTraining.imaging.files import read_volume, write_volume
from AGTraining.training.config import TrainingConfig

SPACING_MM = 10.0
# As the papers', but with five phantoms in place of each data set.
SPLITS = {
    "splits_120_30.json": SplitSize(3, 2),
    "splits_30_120.json": SplitSize(2, 3),
    "splits_61_21.json": SplitSize(3, 2),
    "splits_5_fold.json": SplitSize(folds=5),
}
PHANTOMS = 5
FIRST = {"ct150": 0, "ct82": 100}
NARROWER = 8
STEPS = 2


def small_workplace(place: Workplace) -> Workplace:
    """The workplace with phantom data sets in its folder of runs and every configuration made small."""
    data = place.runs / "data"
    for name, first in FIRST.items():
        _make_dataset(data / name, first)
    return replace(place, data=data, change=made_small, splits=SPLITS)


def made_small(config: TrainingConfig) -> TrainingConfig:
    """The same run with an eighth of the channels, on coarse crops, for a few steps."""
    config = config.model_copy(deep=True)
    features = config.network.arguments.get("features", (16, 32, 64, 128, 256))
    config.network.arguments["features"] = [channels // NARROWER for channels in features]
    config.spacing_mm = (SPACING_MM, SPACING_MM, SPACING_MM)
    config.crop = (32, 32, 32)
    config.batch_size = 1
    config.epochs = config.validate_every = 1
    config.steps_per_epoch = STEPS
    config.learning_rate = 3e-3
    # On grids of two slices, as at the coarsest level of these crops, PyTorch 2.13's bfloat16 convolutions give
    # wrong weight gradients on the CPU (they read memory that nothing was written to).
    config.mixed_precision = "off"
    config.workers = 0
    config.report.cases = 0
    return config


def _make_dataset(folder: Path, first: int) -> None:
    """Phantoms in place of a data set; of CT-82 only the pancreas is labelled."""
    if (folder / "dataset.json").is_file():
        return
    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    path = make_phantom_dataset(temporary, range(first, first + PHANTOMS), SPACING_MM)
    if folder.name == "ct82":
        _keep_pancreas(path)
    os.replace(temporary, folder)


def _keep_pancreas(path: Path) -> None:
    """Label maps and description with the pancreas alone, as value 1."""
    document = json.loads(path.read_text(encoding="utf-8"))
    value = next(int(value) for value, name in document["labels"].items() if name == "pancreas")
    for case in document["training"]:
        labels = read_volume(path.parent / case["label"])
        write_volume(labels.with_array((labels.array == value).astype(np.uint8)), path.parent / case["label"])
    document["labels"] = {"0": "background", "1": "pancreas"}
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")
