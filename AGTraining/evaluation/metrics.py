"""How well a segmentation agrees with a reference, in the papers' measures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy import ndimage


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Dice similarity coefficient (the papers' "DSC") of two masks of one shape, in [0, 1].

    NaN when both are empty: there was nothing to find, and reports count such cases instead of averaging them.
    0 when only one is empty. Raises ValueError for masks of different shapes.
    """
    a, b = _masks(a, b)
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 2.0 * np.count_nonzero(a & b) / total if total else float("nan")


def dice_per_label(prediction: np.ndarray, reference: np.ndarray, labels: Iterable[int]) -> dict[int, float]:
    """`dice` of each of the labels of two label maps of one shape."""
    return {label: dice(prediction == label, reference == label) for label in labels}


def volume_ml(mask: np.ndarray, voxel_volume_ml: float) -> float:
    """Volume of a mask in ml (`Volume.voxel_volume_ml` is that of one voxel); 0 when it is empty."""
    return float(np.count_nonzero(mask)) * voxel_volume_ml


def mean_surface_distance(a: np.ndarray, b: np.ndarray, spacing: Sequence[float]) -> float:
    """Symmetric mean surface-to-surface distance in mm (the papers' "S2S").

    a, b: masks of one shape (K, J, I); spacing in mm along those axes (`Volume.spacing` is along I, J, K).
    The surface of a mask are its voxels with a face neighbor outside. The mean is over the voxels of both surfaces,
    each with its distance to the nearest voxel of the other surface.
    NaN when either mask is empty: a missing organ has no distance, and reports count it.
    Raises ValueError for masks of different shapes or a spacing that does not fit them.
    """
    a, b = _masks(a, b)
    if len(spacing) != a.ndim or any(not step > 0 for step in spacing):
        raise ValueError(f"spacing {tuple(spacing)} does not fit masks of shape {a.shape}: one positive length an axis")
    if not a.any() or not b.any():
        return float("nan")
    # Distances outside the masks' common box are not needed, and a scan is much larger than an organ.
    box = ndimage.find_objects((a | b).astype(np.uint8))[0]
    surfaces = [_surface(mask[box]) for mask in (a, b)]
    distances = [
        ndimage.distance_transform_edt(~other, sampling=spacing)[surface]
        for surface, other in (surfaces, reversed(surfaces))
    ]
    return float(np.concatenate(distances).mean())


def _surface(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask)


def _masks(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if a.shape != b.shape:
        raise ValueError(
            f"masks of shapes {a.shape} and {b.shape} cannot be compared; resample one to the other's grid"
        )
    return np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
