"""Scans with sheared slices, which no image file can hold, on a grid that one can."""

from __future__ import annotations

import numpy as np

from AGTraining.imaging.resample import canonical_grid, resample
from AGTraining.imaging.volume import Volume

AIR_HU = -1024.0


def is_sheared(volume: Volume) -> bool:
    """Whether the grid's axes are not perpendicular, so that `Volume.to_sitk` and image files cannot hold it."""
    direction = volume.ijk_to_world[:3, :3] / volume.spacing
    return bool(np.abs(direction.T @ direction - np.eye(3)).max() > 1e-3)


def upright(volume: Volume) -> Volume:
    """The scan on a grid along the patient's axes that covers it, with the spacing of the axes nearest to those.

    Linear interpolation; integers stay of their type; outside of the scan is air (-1024 HU, or the type's lowest).
    """
    spacing = np.zeros(3)
    # Each patient axis takes the spacing of the grid axis that runs along it most.
    remaining = np.abs(volume.ijk_to_world[:3, :3] / volume.spacing)
    for _ in range(3):
        world, index = np.unravel_index(int(np.argmax(remaining)), remaining.shape)
        spacing[world] = volume.spacing[index]
        remaining[world, :] = remaining[:, index] = -1.0
    grid = canonical_grid(volume, spacing.tolist())
    kind = volume.array.dtype
    if kind.kind not in "iu":
        return Volume(resample(volume, grid, fill=AIR_HU), grid.ijk_to_world, volume.name)
    limits = np.iinfo(kind)
    array = resample(volume, grid, fill=max(AIR_HU, limits.min))
    np.rint(array, out=array)
    np.clip(array, limits.min, limits.max, out=array)
    return Volume(array.astype(kind), grid.ijk_to_world, volume.name)
