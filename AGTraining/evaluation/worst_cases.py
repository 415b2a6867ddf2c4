"""The cases that a prediction fails most, as pictures."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from AGTraining.data.dataset import Case, DatasetDescription
from AGTraining.evaluation.evaluate import read_pair
from AGTraining.evaluation.predictions import Predictions
from AGTraining.evaluation.preview import draw_preview
from AGTraining.evaluation.results import Evaluation, OrganDescription
from AGTraining.evaluation.scores import NAN, OrganScores, State
from AGTraining.imaging.files import read_volume
from AGTraining.inference.result import OrganStatistics
from AGTraining.labels import OutputLabel

MARGIN_MM = 40.0


def worst_rows(evaluation: Evaluation, organ: str, count: int) -> list[OrganScores]:
    """The organ's cases of lowest DSC, the worst first; of equals the one with the larger volume error."""
    rows = [row for row in evaluation.rows(organ) if row.state is not State.EMPTY]
    return sorted(rows, key=lambda row: (row.dsc, -abs(row.volume_error_ml)))[:count]


def draw_case(
    case: Case, dataset: DatasetDescription, predictions: Predictions, organ: OrganDescription, row: OrganScores
) -> Figure:
    """Three planes through an organ with the contours of the prediction (its color) and of the reference (white).

    Raises InputError as `read_pair` does.
    """
    pair = read_pair(case, dataset, predictions)
    volume = read_volume(case.image)
    box, prediction, reference = pair.masks(organ)
    labels, wanted = (np.zeros(pair.reference.array.shape, dtype=np.uint8) for _ in range(2))
    labels[box], wanted[box] = prediction, reference
    label = OutputLabel(1, organ.name, organ.name, "", "", "", "", None, None, organ.color)
    statistics = OrganStatistics(label, int(prediction.sum()), row.predicted_ml, NAN, NAN, NAN)
    return draw_preview(
        volume.with_array(volume.array, f"{case.name}: {organ.name}, DSC {row.dsc:.3f}"),
        pair.reference.with_array(labels),
        [statistics],
        {},
        pair.reference.with_array(wanted),
        MARGIN_MM,
    )
