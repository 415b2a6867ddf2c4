"""Overlap, volume and surface distance against cases that can be reckoned by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from AGTraining.evaluation.metrics import dice, dice_per_label, mean_surface_distance, volume_ml


def box(*ranges: tuple[int, int], shape: tuple[int, int, int] = (12, 14, 16)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(*r) for r in ranges)] = True
    return mask


A = box((2, 6), (2, 6), (2, 6))
EMPTY = np.zeros_like(A)


def test_dice_of_half_overlapping_boxes() -> None:
    assert dice(A, box((4, 8), (2, 6), (2, 6))) == 0.5


def test_dice_of_boxes_of_different_size() -> None:
    # |A| = 64, |B| = 32, all of B within A: 2·32 / 96.
    assert dice(A, box((2, 4), (2, 6), (2, 6))) == pytest.approx(2 / 3, abs=1e-15)


def test_dice_is_1_for_equal_and_0_for_separate_masks() -> None:
    assert dice(A, A.copy()) == 1.0
    assert dice(A, box((8, 10), (8, 10), (8, 10))) == 0.0


def test_dice_with_one_empty_mask_is_0_either_way() -> None:
    assert dice(A, EMPTY) == 0.0
    assert dice(EMPTY, A) == 0.0


def test_dice_of_two_empty_masks_is_not_a_number() -> None:
    assert math.isnan(dice(EMPTY, EMPTY))


def test_dice_counts_more_voxels_than_its_masks_number_type_holds() -> None:
    large = np.ones((70, 70, 70), dtype=np.uint8)
    assert dice(large, large) == 1.0


def test_dice_refuses_masks_on_different_grids() -> None:
    with pytest.raises(ValueError, match=r"\(12, 14, 16\) and \(1, 14, 16\)"):
        dice(A, A[:1])


def test_dice_of_each_label() -> None:
    reference = np.zeros(A.shape, dtype=np.uint8)
    reference[2:6, 2:6, 2:6] = 1
    reference[8:10] = 2
    prediction = np.zeros_like(reference)
    prediction[4:8, 2:6, 2:6] = 1
    prediction[0, 0, 0] = 3
    scores = dice_per_label(prediction, reference, (1, 2, 3, 4))
    assert scores == {1: 0.5, 2: 0.0, 3: 0.0, 4: pytest.approx(float("nan"), nan_ok=True)}


def test_volume_in_ml() -> None:
    assert volume_ml(A, 0.7 * 0.7 * 5.0 / 1000.0) == pytest.approx(64 * 2.45e-3, rel=1e-12)
    assert volume_ml(EMPTY, 1.0) == 0.0


def test_distance_of_parallel_sheets_is_in_mm_along_their_axis() -> None:
    for axis, expected in enumerate((5.0 * 3, 0.8 * 3, 0.7 * 3)):
        ranges = [(0, n) for n in A.shape]
        first, second = list(ranges), list(ranges)
        first[axis], second[axis] = (4, 5), (7, 8)
        distance = mean_surface_distance(box(*first), box(*second), (5.0, 0.8, 0.7))
        assert distance == pytest.approx(expected, rel=1e-12)


def test_distance_of_a_mask_to_itself_is_0() -> None:
    assert mean_surface_distance(A, A.copy(), (1.0, 1.0, 1.0)) == 0.0


def test_distance_against_all_pairs_of_surface_voxels() -> None:
    generator = np.random.default_rng(0)
    a, b = (generator.random((7, 8, 9)) > 0.6 for _ in range(2))
    spacing = (3.0, 0.9, 0.7)

    def surface(mask: np.ndarray) -> np.ndarray:
        padded = np.pad(mask, 1)
        neighbors = [np.roll(padded, shift, axis) for axis in range(3) for shift in (-1, 1)]
        inside = np.logical_and.reduce(neighbors)[1:-1, 1:-1, 1:-1]
        return np.argwhere(mask & ~inside) * spacing

    pairs = np.linalg.norm(surface(a)[:, None] - surface(b)[None], axis=2)
    expected = np.concatenate((pairs.min(axis=1), pairs.min(axis=0))).mean()
    assert mean_surface_distance(a, b, spacing) == pytest.approx(expected, rel=1e-12)


def test_distance_is_symmetric_and_ignores_where_in_the_scan_the_organs_lie() -> None:
    small = box((3, 5), (2, 5), (2, 9))
    expected = mean_surface_distance(A, small, (2.0, 1.0, 1.0))
    assert expected > 0
    assert mean_surface_distance(small, A, (2.0, 1.0, 1.0)) == expected
    moved = [np.roll(mask, (5, 6, 7), axis=(0, 1, 2)) for mask in (A, small)]
    assert mean_surface_distance(moved[0], moved[1], (2.0, 1.0, 1.0)) == expected


def test_distance_to_a_missing_organ_is_not_a_number() -> None:
    for a, b in ((A, EMPTY), (EMPTY, A), (EMPTY, EMPTY)):
        assert math.isnan(mean_surface_distance(a, b, (1.0, 1.0, 1.0)))


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.0, 0.0, 1.0), (1.0, -1.0, 1.0), (1.0, float("nan"), 1.0)])
def test_distance_refuses_a_spacing_that_does_not_fit(spacing: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="one positive length an axis"):
        mean_surface_distance(A, A, spacing)
