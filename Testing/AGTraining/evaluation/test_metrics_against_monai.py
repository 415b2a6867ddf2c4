"""The same numbers as MONAI's metrics, where both define them alike."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from monai.metrics import (
    compute_average_surface_distance,
    compute_dice,
    compute_hausdorff_distance,
    compute_surface_dice,
    get_confusion_matrix,
)
from scipy import ndimage
from torch import Tensor

from AGTraining.evaluation.metrics import dice, precision, recall, surface_distances

# MONAI warns of arguments that it gives to itself, and of empty masks.
pytestmark = pytest.mark.filterwarnings("ignore")

SPACINGS = [(1.0, 1.0, 1.0), (5.0, 0.7, 0.8), (0.6, 2.0, 3.0)]
# MONAI's numbers are float32.
PRECISION = 2e-6


def organ(seed: int) -> np.ndarray:
    """A lumpy body with holes and islands that touches the edge of the image now and then, (24, 30, 28)."""
    noise = np.random.default_rng(seed).normal(size=(24, 30, 28))
    return np.asarray(ndimage.gaussian_filter(noise, 2.5) > 0.04)


def one_hot(mask: np.ndarray) -> Tensor:
    return torch.from_numpy(mask)[None, None].float()


def both(seed: int) -> tuple[np.ndarray, np.ndarray]:
    first = organ(seed)
    return first, np.roll(first, (1, -2, 1), (0, 1, 2)) ^ (organ(seed + 100) & organ(seed + 200))


@pytest.mark.parametrize("seed", range(3))
def test_overlap(seed: int) -> None:
    prediction, reference = both(seed)
    arguments: dict[str, Any] = {"y_pred": one_hot(prediction), "y": one_hot(reference), "include_background": True}
    true, false, _, missed = (float(number) for number in get_confusion_matrix(**arguments).ravel())
    assert dice(prediction, reference) == pytest.approx(float(compute_dice(**arguments)), rel=PRECISION)
    assert precision(prediction, reference) == pytest.approx(true / (true + false), rel=PRECISION)
    assert recall(prediction, reference) == pytest.approx(true / (true + missed), rel=PRECISION)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", range(3))
def test_surface_distances(seed: int, spacing: tuple[float, float, float]) -> None:
    prediction, reference = both(seed)
    arguments: dict[str, Any] = {
        "y_pred": one_hot(prediction), "y": one_hot(reference), "include_background": True, "spacing": spacing,
    }  # fmt: skip
    found = surface_distances(prediction, reference, spacing)
    mean = float(compute_average_surface_distance(**arguments, symmetric=True))
    assert found.mean == pytest.approx(mean, rel=PRECISION)
    for percentile in (95, 100):
        expected = float(compute_hausdorff_distance(**arguments, percentile=percentile))
        assert found.hausdorff(percentile) == pytest.approx(expected, rel=PRECISION)
    # No sum of these edges lies on the tolerances, where MONAI's float32 would decide.
    for tolerance in (0.55, 1.9, 4.3):
        expected = float(compute_surface_dice(**arguments, class_thresholds=[tolerance]))
        assert found.dice(tolerance) == pytest.approx(expected, rel=PRECISION)


@pytest.mark.parametrize(("found", "wanted"), [(False, True), (True, False), (False, False)])
def test_surface_dice_of_empty_masks_is_monais_and_distances_are_nan_where_monais_are_infinite(
    found: bool, wanted: bool
) -> None:
    prediction, reference = organ(0) & found, organ(1) & wanted
    arguments: dict[str, Any] = {
        "y_pred": one_hot(prediction), "y": one_hot(reference), "include_background": True, "spacing": (1.0, 1.0, 1.0),
    }  # fmt: skip
    ours = surface_distances(prediction, reference, (1.0, 1.0, 1.0))
    surface = float(compute_surface_dice(**arguments, class_thresholds=[2.0]))
    assert ours.dice(2.0) == pytest.approx(surface, nan_ok=True)
    theirs = float(compute_average_surface_distance(**arguments, symmetric=True))
    assert not math.isfinite(theirs)
    assert math.isnan(ours.mean)


def test_surface_dice_by_area_differs_little_from_ours() -> None:
    # What `use_subvoxels` (as DeepMind's surface-distance) gives: the documented difference of definition.
    prediction, reference = both(0)
    ours = surface_distances(prediction, reference, (2.0, 1.0, 1.0)).dice(1.5)
    arguments: dict[str, Any] = {"include_background": True, "spacing": (2.0, 1.0, 1.0), "use_subvoxels": True}
    theirs = float(compute_surface_dice(one_hot(prediction), one_hot(reference), [1.5], **arguments))
    assert ours != pytest.approx(theirs, abs=1e-4)
    assert ours == pytest.approx(theirs, abs=0.1)
