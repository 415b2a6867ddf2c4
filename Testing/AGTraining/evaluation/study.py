"""A small data set with references, and predictions of known errors, shared by the tests of evaluation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from AGTraining.evaluation.results import Evaluation, OrganDescription
from AGTraining.evaluation.scores import OrganScores, State
from AGTraining.imaging.files import write_volume
from AGTraining.imaging.volume import Volume

SHAPE = (16, 24, 28)
MATRIX = np.array([[2.0, 0, 0, -30.0], [0, 2.0, 0, -20.0], [0, 0, 3.0, 100.0], [0, 0, 0, 1]])
VOXEL_ML = 0.012
LABELS = {"background": 0, "spleen": 1, "kidney_right": 2, "kidney_left": 3}
BOXES = {1: (slice(2, 8), slice(4, 12), slice(18, 26)), 2: (slice(4, 12), slice(14, 20), slice(2, 8)),
         3: (slice(4, 12), slice(14, 20), slice(18, 24))}  # fmt: skip


def reference_map() -> np.ndarray:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for value, place in BOXES.items():
        labels[place] = value
    return labels


def shifted_map(columns: int) -> np.ndarray:
    """The references, moved by some columns: DSC of a body of 6 columns moved by 1 is 5/6."""
    return np.roll(reference_map(), columns, axis=2)


def make_study(
    folder: Path, names: Sequence[str] = ("a", "b", "c"), labels: dict[str, int] = LABELS, **entry: Any
) -> Path:
    """Images and references of cases; returns the dataset.json. entry: more of the first case."""
    cases = []
    for name in names:
        array = reference_map()
        image = np.where(array > 0, 80, 0).astype(np.int16)
        write_volume(Volume(image, MATRIX), folder / f"imagesTr/{name}.nii.gz")
        write_volume(Volume(array, MATRIX), folder / f"labelsTr/{name}.nii.gz")
        cases.append({"image": f"imagesTr/{name}.nii.gz", "label": f"labelsTr/{name}.nii.gz"})
    cases[0] |= entry
    document = {
        "name": "study", "labels": {str(value): name for name, value in labels.items()}, "training": cases,
    }  # fmt: skip
    path = folder / "dataset.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def write_map(array: np.ndarray, path: Path, matrix: np.ndarray = MATRIX) -> Path:
    write_volume(Volume(array, matrix), path)
    return path


def make_evaluation(
    values: dict[str, Sequence[float]], metric: str = "dsc", predictor: str = "net", tolerance_mm: float = 2.0
) -> Evaluation:
    """An evaluation with given values of a measure: by organ, for cases 0, 1, …; all references have 100 ml."""
    scores = tuple(
        OrganScores(str(case), organ, State.SCORED, 100.0, 100.0, **{metric: value})
        for organ, row in values.items()
        for case, value in enumerate(row)
    )
    organs = tuple(OrganDescription(organ, (organ,), (organ,), (200, 100, 50)) for organ in values)
    return Evaluation("study", predictor, tolerance_mm, organs, scores)
