"""Overlap, volume and surface distance against cases that can be reckoned by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from AGTraining.evaluation.metrics import (
    dice,
    dice_per_label,
    mean_surface_distance,
    precision,
    recall,
    surface_distances,
    volume_error_percent,
    volume_ml,
)


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


def test_precision_and_recall_of_boxes() -> None:
    # |prediction| = 96, |reference| = 64, common 32.
    prediction = box((4, 10), (2, 6), (2, 6))
    assert precision(prediction, A) == pytest.approx(32 / 96, abs=1e-15)
    assert recall(prediction, A) == 0.5


def test_volume_error_in_percent_has_a_sign_and_needs_a_reference() -> None:
    assert volume_error_percent(90.0, 120.0) == -25.0
    assert volume_error_percent(150.0, 120.0) == 25.0
    assert math.isnan(volume_error_percent(10.0, 0.0))


def sheet(k: int, shape: tuple[int, int, int] = (40, 20, 20)) -> np.ndarray:
    return box((k, k + 1), (0, 20), (0, 20), shape=shape)


def spiked_sheet(length: int) -> np.ndarray:
    """A sheet with a row of voxels standing on it: 400 voxels at distance 0 of `sheet(5)`, one at each 1 … length."""
    mask = sheet(5)
    mask[6 : 6 + length, 10, 10] = True
    return mask


def test_hausdorff_distance_is_that_of_the_farthest_voxel() -> None:
    distances = surface_distances(sheet(5), spiked_sheet(30), (0.5, 1.0, 1.0))
    assert distances.hausdorff(100) == 15.0


def test_hd95_leaves_out_a_twentieth_of_the_surface() -> None:
    # 20 of 420 voxels are off the sheet: less than 5 %.
    assert surface_distances(sheet(5), spiked_sheet(20), (0.5, 1.0, 1.0)).hausdorff(95) == 0.0


def test_hd95_is_the_larger_one_of_both_directions() -> None:
    # Place 0.95 · 429 = 407.55 of 430 sorted distances lies between the 8th and 9th voxel of the spike. Over both
    # directions together (830 distances, place 787.55) it would be 0.
    for a, b in ((sheet(5), spiked_sheet(30)), (spiked_sheet(30), sheet(5))):
        assert surface_distances(a, b, (0.5, 1.0, 1.0)).hausdorff(95) == pytest.approx(8.55 * 0.5, abs=1e-9)


def test_mean_distance_counts_the_voxels_of_both_surfaces() -> None:
    expected = 0.5 * sum(range(1, 31)) / (400 + 430)
    assert surface_distances(sheet(5), spiked_sheet(30), (0.5, 1.0, 1.0)).mean == pytest.approx(expected, rel=1e-12)


def test_surface_dice_counts_what_is_within_the_tolerance() -> None:
    distances = surface_distances(sheet(5), spiked_sheet(30), (0.5, 1.0, 1.0))
    assert distances.dice(0.0) == pytest.approx(800 / 830, rel=1e-12)
    assert distances.dice(2.5) == pytest.approx(805 / 830, rel=1e-12)


def test_surface_dice_tolerance_holds_despite_rounding() -> None:
    # 3 × 0.7 is 2.0999999999999996 or 2.1000000000000001, depending on how it is reckoned.
    distances = surface_distances(sheet(5), sheet(8), (0.7, 1.0, 1.0))
    assert distances.dice(2.1) == 1.0
    assert distances.dice(2.09) == 0.0


def test_distances_of_concentric_balls_with_anisotropic_voxels() -> None:
    spacing = (2.5, 1.0, 1.0)
    grid = np.indices((27, 67, 67)) * np.reshape(spacing, (3, 1, 1, 1))
    radius = np.sqrt(sum((axis - middle) ** 2 for axis, middle in zip(grid, (32.5, 33, 33), strict=True)))
    distances = surface_distances(radius <= 20, radius <= 26, spacing)
    # Surfaces are known to about half of the longest edge at either end; their errors partly cancel in the mean.
    assert distances.mean == pytest.approx(6.0, abs=0.5)
    assert distances.hausdorff(100) == pytest.approx(6.0, abs=2.5)
    assert distances.dice(2.0) == 0.0
    assert distances.dice(8.5) == 1.0


def test_a_stray_voxel_far_away_counts_with_its_whole_distance() -> None:
    stray = A.copy()
    stray[11, 13, 15] = True
    assert surface_distances(A, stray, (1.0, 1.0, 1.0)).hausdorff(100) == pytest.approx(math.sqrt(6**2 + 8**2 + 10**2))


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        (EMPTY, EMPTY, {"dice": None, "precision": None, "recall": None, "surface": None}),
        (EMPTY, A, {"dice": 0.0, "precision": None, "recall": 0.0, "surface": 0.0}),
        (A, EMPTY, {"dice": 0.0, "precision": 0.0, "recall": None, "surface": 0.0}),
    ],
    ids=["both empty", "nothing found", "nothing to find"],
)
def test_outcome_for_empty_masks_is_defined(
    prediction: np.ndarray, reference: np.ndarray, expected: dict[str, float | None]
) -> None:
    distances = surface_distances(prediction, reference, (1.0, 1.0, 1.0))
    found = {
        "dice": dice(prediction, reference),
        "precision": precision(prediction, reference),
        "recall": recall(prediction, reference),
        "surface": distances.dice(2.0),
    }
    assert {name: None if math.isnan(value) else value for name, value in found.items()} == expected
    assert math.isnan(distances.mean)
    assert math.isnan(distances.hausdorff(95))
