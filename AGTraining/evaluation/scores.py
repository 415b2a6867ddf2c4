"""One organ of one case in numbers, and the sums of such numbers over cases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np

from AGTraining.evaluation import metrics

NAN = float("nan")


class State(StrEnum):
    """What a row of scores is about."""

    SCORED = "scored"
    MISSED = "not found"
    INVENTED = "nothing to find"
    EMPTY = "both empty"
    INCOMPLETE = "incomplete label"


@dataclass(frozen=True)
class Metric:
    """A measure: the field of `OrganScores`, how it is shown, and what of it is good."""

    key: str
    title: str
    unit: str
    digits: int
    better: Literal["higher", "lower", "zero"]

    @property
    def label(self) -> str:
        """Title and unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


METRICS = (
    Metric("dsc", "DSC", "", 3, "higher"),
    Metric("precision", "precision", "", 3, "higher"),
    Metric("recall", "recall", "", 3, "higher"),
    Metric("s2s_mm", "S2S", "mm", 2, "lower"),
    Metric("hd95_mm", "HD95", "mm", 2, "lower"),
    Metric("surface_dice", "surface Dice", "", 3, "higher"),
    Metric("volume_error_ml", "volume error", "ml", 1, "zero"),
    Metric("volume_error_percent", "volume error", "%", 1, "zero"),
)
METRIC = {metric.key: metric for metric in METRICS}


@dataclass(frozen=True)
class OrganScores:
    """An organ of a case; NaN where a measure is not defined (`metrics` says when), for an incomplete label all.

    volume_error_ml and volume_error_percent have a sign: positive where the prediction is too large.
    """

    case: str
    organ: str
    state: State
    reference_ml: float = NAN
    predicted_ml: float = NAN
    dsc: float = NAN
    precision: float = NAN
    recall: float = NAN
    s2s_mm: float = NAN
    hd95_mm: float = NAN
    surface_dice: float = NAN
    volume_error_ml: float = NAN
    volume_error_percent: float = NAN


def score_organ(
    case: str,
    organ: str,
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing: Sequence[float],
    voxel_ml: float,
    tolerance_mm: float,
) -> OrganScores:
    """All measures of one organ.

    prediction, reference: masks of one shape (K, J, I); spacing: mm along these axes; voxel_ml: volume of a voxel;
    tolerance_mm: of the surface Dice.
    """
    predicted_ml, reference_ml = (metrics.volume_ml(mask, voxel_ml) for mask in (prediction, reference))
    states = {
        (True, True): State.SCORED,
        (False, True): State.MISSED,
        (True, False): State.INVENTED,
        (False, False): State.EMPTY,
    }
    surfaces = metrics.surface_distances(prediction, reference, spacing)
    return OrganScores(
        case=case,
        organ=organ,
        state=states[predicted_ml > 0, reference_ml > 0],
        reference_ml=reference_ml,
        predicted_ml=predicted_ml,
        dsc=metrics.dice(prediction, reference),
        precision=metrics.precision(prediction, reference),
        recall=metrics.recall(prediction, reference),
        s2s_mm=surfaces.mean,
        hd95_mm=surfaces.hausdorff(95),
        surface_dice=surfaces.dice(tolerance_mm),
        volume_error_ml=predicted_ml - reference_ml,
        volume_error_percent=metrics.volume_error_percent(predicted_ml, reference_ml),
    )


@dataclass(frozen=True)
class Summary:
    """A measure over the cases that have a value; undefined: how many have none. sd: of the sample (n − 1).

    NaN where there are too few values.
    """

    mean: float
    sd: float
    median: float
    minimum: float
    maximum: float
    count: int
    undefined: int


def summarise(values: Iterable[float]) -> Summary:
    """Mean, SD and range of the values that are not NaN."""
    given = np.array(list(values), dtype=np.float64)
    defined = given[~np.isnan(given)]
    undefined = int(given.size - defined.size)
    if not defined.size:
        return Summary(NAN, NAN, NAN, NAN, NAN, 0, undefined)
    sd = float(defined.std(ddof=1)) if defined.size > 1 else NAN
    low, middle, high = (float(value) for value in np.percentile(defined, (0, 50, 100)))
    return Summary(float(defined.mean()), sd, middle, low, high, int(defined.size), undefined)
