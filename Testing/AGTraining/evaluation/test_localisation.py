"""Boxes against known ones."""

from __future__ import annotations

import math

import pytest

from AGTraining.evaluation.localisation import Localisation, localisation_scores
from AGTraining.imaging.box import Box

KNOWN = Box(0, 0, 10, 10)


def frame(plane: str, iou: float | None) -> Localisation:
    """A box of this IOU, by covering that part of the known one; None: no box."""
    return Localisation(plane, KNOWN, None if iou is None else Box(0, 0, 10, 10 * iou))


def test_iou_as_mean_and_sd_of_the_sample_with_missing_boxes_as_zero() -> None:
    (scores,) = localisation_scores([frame("head", iou) for iou in (0.9, 0.6, 0.3, None)])

    assert (scores.frames, scores.missing) == (4, 1)
    assert scores.iou == pytest.approx(0.45)
    # Squared distances from the mean: 0.2025, 0.0225, 0.0225, 0.2025.
    assert scores.iou_sd == pytest.approx(math.sqrt(0.45 / 3))


def test_correctness_is_above_a_half_and_relative_to_the_best_of_the_class() -> None:
    (scores,) = localisation_scores([frame("head", iou) for iou in (0.8, 0.5, 0.41, 0.4, 0.1)])

    assert scores.correctness == pytest.approx(1 / 5)
    assert scores.best == pytest.approx(0.8)
    # Above 0.4.
    assert scores.relative_correctness == pytest.approx(3 / 5)


def test_of_several_classes_each_and_all_are_scored_relative_to_their_own_best() -> None:
    frames = [frame("head", 0.9), frame("head", 0.3), frame("femur", 0.2), frame("femur", 0.15)]

    head, femur, everything = localisation_scores(frames)

    assert [row.name for row in (head, femur, everything)] == ["head", "femur", "all"]
    assert (head.relative_correctness, femur.relative_correctness) == (0.5, 1.0)
    assert everything.relative_correctness == 0.75 and everything.correctness == 0.25


def test_a_class_without_any_box_has_none_right() -> None:
    (scores,) = localisation_scores([frame("head", None)])

    assert (scores.iou, scores.correctness, scores.relative_correctness) == (0, 0, 0)
    assert math.isnan(scores.iou_sd)


def test_no_frames_have_no_scores() -> None:
    assert localisation_scores([]) == ()
