"""How well a segmentation agrees with a reference, in the papers' measures and those that reviewers ask for.

Empty masks have a defined outcome: what does not exist is NaN, which reports count instead of averaging it.

|                      | both empty | nothing found | nothing to find |
|----------------------|------------|---------------|-----------------|
| DSC                  | NaN        | 0             | 0               |
| precision            | NaN        | NaN           | 0               |
| recall               | NaN        | 0             | NaN             |
| surface Dice         | NaN        | 0             | 0               |
| S2S, HD95            | NaN        | NaN           | NaN             |
| volume error in ml   | 0          | − reference   | + prediction    |
| volume error in %    | NaN        | −100          | NaN             |

The surface of a mask are its voxels with a face neighbor outside (beyond the image's edge is outside), each one a point
at its center. This is MONAI's surface, and the numbers are MONAI's, except:

- HD95 is the larger one of the two directed 95th percentiles, as in MONAI; others (medpy, and so many papers) take the
  percentile of both directions together, which is smaller where one surface has far outliers.
- Surface Dice counts voxels, as MONAI does unless told `use_subvoxels`. DeepMind's surface-distance weighs elements of
  a surface between the voxels by their area. On organs both agree to about 0.01 where the tolerance is larger than a
  voxel; below that only voxels that coincide count here, and ours is lower, by 0.1 and more.
- Where one of two masks is empty MONAI gives an infinite S2S and HD95; here it is NaN and a count.
- MONAI has float32 numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

# Lengths are sums of decimal fractions: 3 × 0.7 mm must count as within 2.1 mm.
ROUNDING_MM = 1e-6


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Dice similarity coefficient (the papers' "DSC") of two masks of one shape, in [0, 1].

    NaN when both are empty: there was nothing to find, and reports count such cases instead of averaging them.
    0 when only one is empty. Raises ValueError for masks of different shapes.
    """
    a, b = _masks(a, b)
    return _ratio(2 * np.count_nonzero(a & b), np.count_nonzero(a) + np.count_nonzero(b))


def dice_per_label(prediction: np.ndarray, reference: np.ndarray, labels: Iterable[int]) -> dict[int, float]:
    """`dice` of each of the labels of two label maps of one shape."""
    return {label: dice(prediction == label, reference == label) for label in labels}


def precision(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Share of the prediction's voxels that are right, in [0, 1]; NaN when nothing was predicted.

    Raises ValueError for masks of different shapes.
    """
    prediction, reference = _masks(prediction, reference)
    return _ratio(np.count_nonzero(prediction & reference), np.count_nonzero(prediction))


def recall(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Share of the reference's voxels that were found, in [0, 1]; NaN when there was nothing to find.

    Raises ValueError for masks of different shapes.
    """
    return precision(reference, prediction)


def volume_ml(mask: np.ndarray, voxel_volume_ml: float) -> float:
    """Volume of a mask in ml (`Volume.voxel_volume_ml` is that of one voxel); 0 when it is empty."""
    return float(np.count_nonzero(mask)) * voxel_volume_ml


def volume_error_percent(predicted_ml: float, reference_ml: float) -> float:
    """Volume of the prediction minus that of the reference, in percent of the latter; NaN when that is 0."""
    return 100 * ((predicted_ml - reference_ml) / reference_ml) if reference_ml else float("nan")


@dataclass(frozen=True)
class SurfaceDistances:
    """From each surface voxel of one mask to the nearest one of the other, in mm.

    forward: (n,) from the first mask's surface; backward: (m,) from the second's. Without an entry where the mask they
    start at is empty, infinite where the other one is.
    """

    forward: np.ndarray
    backward: np.ndarray

    @property
    def mean(self) -> float:
        """Mean over the voxels of both surfaces (the papers' "S2S"), mm; NaN when either mask is empty."""
        if self._one_is_empty:
            return float("nan")
        return float(self.forward.sum() + self.backward.sum()) / (self.forward.size + self.backward.size)

    def hausdorff(self, percentile: float = 95.0) -> float:
        """The larger one of the two directed percentiles, mm (100: the Hausdorff distance itself).

        NaN when either mask is empty.
        """
        if self._one_is_empty:
            return float("nan")
        return float(max(np.percentile(self.forward, percentile), np.percentile(self.backward, percentile)))

    def dice(self, tolerance_mm: float) -> float:
        """Normalised surface Dice: the share of both surfaces' voxels not farther than the tolerance from the other.

        Nikolov et al. 2021 (arXiv 1809.04430), over voxels. 0 when one mask is empty, NaN when both are.
        """
        limit = tolerance_mm + ROUNDING_MM
        near = np.count_nonzero(self.forward <= limit) + np.count_nonzero(self.backward <= limit)
        return _ratio(near, self.forward.size + self.backward.size)

    @property
    def _one_is_empty(self) -> bool:
        return not self.forward.size or not self.backward.size


def surface_distances(a: np.ndarray, b: np.ndarray, spacing: Sequence[float]) -> SurfaceDistances:
    """The distances between the surfaces of two masks.

    a, b: masks of one shape (K, J, I); spacing in mm along those axes (`Volume.spacing` is along I, J, K).
    Raises ValueError for masks of different shapes or a spacing that does not fit them.
    """
    a, b = _masks(a, b)
    if len(spacing) != a.ndim or any(not step > 0 for step in spacing):
        raise ValueError(f"spacing {tuple(spacing)} does not fit masks of shape {a.shape}: one positive length an axis")
    # A tree of surface voxels, not a map of distances: one stray voxel at the other end of a scan costs nothing.
    first, second = (_surface_voxels(mask) * np.asarray(spacing, dtype=np.float64) for mask in (a, b))
    return SurfaceDistances(_to_nearest(first, second), _to_nearest(second, first))


def mean_surface_distance(a: np.ndarray, b: np.ndarray, spacing: Sequence[float]) -> float:
    """Symmetric mean surface-to-surface distance in mm (the papers' "S2S").

    a, b: masks of one shape (K, J, I); spacing in mm along those axes (`Volume.spacing` is along I, J, K).
    NaN when either mask is empty: a missing organ has no distance, and reports count it.
    Raises ValueError for masks of different shapes or a spacing that does not fit them.
    """
    return surface_distances(a, b, spacing).mean


def _surface_voxels(mask: np.ndarray) -> np.ndarray:
    """Indices (n, 3) of the surface's voxels."""
    if not mask.any():
        return np.empty((0, mask.ndim), dtype=np.intp)
    box = ndimage.find_objects(mask.view(np.uint8))[0]
    region = mask[box]
    return np.argwhere(region & ~ndimage.binary_erosion(region)) + [part.start for part in box]


def _to_nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    if not len(points) or not len(others):
        return np.full(len(points), np.inf)
    return np.asarray(KDTree(others, leafsize=32).query(points)[0])


def _ratio(part: np.integer | int, whole: np.integer | int) -> float:
    return int(part) / int(whole) if whole else float("nan")


def _masks(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if a.shape != b.shape:
        raise ValueError(
            f"masks of shapes {a.shape} and {b.shape} cannot be compared; resample one to the other's grid"
        )
    return np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
