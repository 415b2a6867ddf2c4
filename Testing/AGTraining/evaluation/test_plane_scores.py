"""Scores of a classification against values computed by hand, as scikit-learn defines them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from AGTraining.evaluation.plane_scores import PlaneScores, confusion_matrix, expected_calibration_error, reliability

NAMES = ("a", "b", "c", "never shown", "never named")
TRUTH = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2, 4])
PREDICTED = np.array([0, 0, 0, 1, 1, 2, 2, 2, 3, 0])


@pytest.fixture
def scores() -> PlaneScores:
    return PlaneScores(TRUTH, PREDICTED, np.full(10, 0.5), NAMES, background=0)


def test_the_confusion_matrix_counts_true_rows_and_predicted_columns() -> None:
    assert confusion_matrix(TRUTH, PREDICTED, 5).tolist() == [
        [3, 1, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 2, 1, 0],
        [0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0],
    ]
    with pytest.raises(ValueError, match="10 true and 9 predicted"):
        confusion_matrix(TRUTH, PREDICTED[:9], 5)


def test_precision_recall_and_f1_of_each_class(scores: PlaneScores) -> None:
    a, b, c, never_shown, never_named = scores.classes

    assert (a.precision, a.recall, a.f1) == pytest.approx((3 / 4, 3 / 4, 3 / 4))
    assert (b.precision, b.recall, b.f1) == pytest.approx((1 / 2, 1 / 2, 1 / 2))
    assert (c.precision, c.recall, c.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert (never_named.precision, never_named.recall, never_named.f1) == (0, 0, 0)
    assert all(math.isnan(value) for value in (never_shown.precision, never_shown.recall, never_shown.f1))
    assert (never_shown.cases, never_shown.predicted) == (0, 1)


def test_f1_is_the_harmonic_mean_where_precision_and_recall_differ() -> None:
    (a, _) = PlaneScores(np.array([0, 0, 0, 1]), np.array([0, 1, 1, 1]), np.ones(4), ("a", "b")).classes

    assert (a.precision, a.recall) == pytest.approx((1, 1 / 3))
    assert a.f1 == pytest.approx(2 * 1 * (1 / 3) / (1 + 1 / 3))


def test_means_count_the_classes_that_have_cases(scores: PlaneScores) -> None:
    assert scores.accuracy == 0.6
    assert scores.macro("recall") == pytest.approx((3 / 4 + 1 / 2 + 2 / 3 + 0) / 4)
    assert scores.macro("f1", background=False) == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert scores.without_cases == ["never shown"]


def test_without_frames_nothing_is_defined() -> None:
    nothing = PlaneScores(np.array([], dtype=int), np.array([], dtype=int), np.array([]), NAMES)

    values = (nothing.accuracy, nothing.macro("f1"), nothing.ece, nothing.mean_confidence)
    assert all(math.isnan(value) for value in values)


def test_predictions_are_put_into_bins_by_their_confidence() -> None:
    confidence = np.array([0.0, 0.2, 0.21, 0.5, 0.9, 1.0])
    right = np.array([False, True, True, False, True, True])

    bins = reliability(confidence, right, bins=5)

    assert [item.count for item in bins] == [2, 1, 1, 0, 2]
    assert (bins[0].confidence, bins[0].accuracy) == pytest.approx((0.1, 0.5))
    assert (bins[4].confidence, bins[4].accuracy) == pytest.approx((0.95, 1.0))
    assert math.isnan(bins[3].accuracy)


def test_the_calibration_error_is_the_mean_distance_from_the_diagonal() -> None:
    """80 predictions of confidence 0.9 of which 72 are right, and 20 of confidence 0.6 of which 8 are."""
    confidence = np.array([0.9] * 80 + [0.6] * 20)
    right = np.array([True] * 72 + [False] * 8 + [True] * 8 + [False] * 12)

    ece = expected_calibration_error(reliability(confidence, right))

    assert ece == pytest.approx(0.8 * 0.0 + 0.2 * abs(0.4 - 0.6))
