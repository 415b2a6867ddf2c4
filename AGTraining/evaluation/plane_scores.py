"""Scores of a classification: accuracy, precision, recall, F1 and calibration, also where classes have no cases.

A class without cases has no scores (NaN), does not count in means, and is named. A class with cases that is never
predicted has precision 0, as in scikit-learn: leaving it out would flatter the mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

NAN = float("nan")
# Of a class: attributes of `ClassScores`.
MEASURES = ("precision", "recall", "f1")
# Of the confidences from 0 to 1, as in Guo et al. 2017, "On calibration of modern neural networks".
BINS = 15


@dataclass(frozen=True)
class ClassScores:
    """A class. cases: frames that show it; predicted: frames said to show it; right: frames of both kinds."""

    name: str
    background: bool
    cases: int
    predicted: int
    right: int

    @property
    def precision(self) -> float:
        """Of the frames said to show it, the share that does; NaN for a class without cases."""
        return NAN if not self.cases else self.right / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Of the frames that show it, the share that is said to; NaN for a class without cases."""
        return self.right / self.cases if self.cases else NAN

    @property
    def f1(self) -> float:
        """2·right / (cases + predicted); NaN for a class without cases."""
        return 2 * self.right / (self.cases + self.predicted) if self.cases else NAN


@dataclass(frozen=True)
class Bin:
    """Predictions whose confidence lies in (low, high]: how many, their mean confidence, and how many are right.

    confidence and accuracy are NaN in an empty bin.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


class PlaneScores:
    """Scores of predictions against the truth.

    truth, predicted: class numbers (N,). confidence: probability of the predicted class (N,). names: of the classes;
    background: the number of the class that is no standard plane.
    """

    def __init__(
        self,
        truth: np.ndarray,
        predicted: np.ndarray,
        confidence: np.ndarray,
        names: Sequence[str],
        background: int | None = None,
    ) -> None:
        self.confusion = confusion_matrix(truth, predicted, len(names))
        self.classes = tuple(
            ClassScores(
                name,
                number == background,
                int(self.confusion[number].sum()),
                int(self.confusion[:, number].sum()),
                int(self.confusion[number, number]),
            )
            for number, name in enumerate(names)
        )
        right = truth == predicted
        self.accuracy = float(right.mean()) if len(truth) else NAN
        self.bins = reliability(confidence, right)
        self.ece = expected_calibration_error(self.bins)
        self.mean_confidence = float(confidence.mean()) if len(truth) else NAN

    @property
    def without_cases(self) -> list[str]:
        """Names of the classes that no frame shows."""
        return [item.name for item in self.classes if not item.cases]

    def macro(self, measure: str, background: bool = True) -> float:
        """The mean of "precision", "recall" or "f1" over the classes with cases, each counting alike.

        background: whether it counts too. NaN where no class has cases.
        """
        chosen = (item for item in self.classes if background or not item.background)
        return mean_of(getattr(item, measure) for item in chosen)


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, count: int) -> np.ndarray:
    """(true, predicted) counts, (count, count)."""
    if len(truth) != len(predicted):
        raise ValueError(f"{len(truth)} true and {len(predicted)} predicted classes")
    return np.bincount(
        np.asarray(truth, dtype=np.int64) * count + np.asarray(predicted, dtype=np.int64), minlength=count * count
    ).reshape(count, count)


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> tuple[Bin, ...]:
    """Predictions by their confidence, in bins of equal width from 0 to 1 (Guo et al. 2017, equations 1 and 2)."""
    confidence = np.asarray(confidence, dtype=np.float64)
    # A confidence of exactly 0 belongs to the first bin; each other one to the bin that ends at or above it.
    numbers = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    found = []
    for number in range(bins):
        inside = numbers == number
        count = int(np.count_nonzero(inside))
        found.append(
            Bin(
                number / bins,
                (number + 1) / bins,
                count,
                float(confidence[inside].mean()) if count else NAN,
                float(np.mean(right[inside])) if count else NAN,
            )
        )
    return tuple(found)


def expected_calibration_error(bins: Iterable[Bin]) -> float:
    """Σ n_b/N·|accuracy_b − confidence_b| (Guo et al. 2017, equation 3); NaN without predictions."""
    filled = [item for item in bins if item.count]
    total = sum(item.count for item in filled)
    return sum(item.count * abs(item.accuracy - item.confidence) for item in filled) / total if total else NAN


def mean_of(values: Iterable[float]) -> float:
    """The mean of those that are numbers; NaN where none is."""
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else NAN
