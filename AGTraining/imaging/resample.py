"""Sampling a volume on another grid, once forward and once back, for any affine geometry.

All grids are related through the patient's LPS coordinates. The source is handed to ITK in its own index space
and the affine goes into the transform, so that sheared grids need no special case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from AGTraining.imaging.volume import Volume


@dataclass(frozen=True)
class Grid:
    """Where to sample: shape in voxels (K, J, I) and the affine (i, j, k) → LPS mm."""

    shape: tuple[int, int, int]
    ijk_to_world: np.ndarray

    @property
    def spacing(self) -> np.ndarray:
        """Voxel edge lengths in mm along (i, j, k)."""
        return np.asarray(np.linalg.norm(self.ijk_to_world[:3, :3], axis=0))

    @classmethod
    def of(cls, volume: Volume) -> Grid:
        """The grid of a volume."""
        k, j, i = volume.array.shape
        return cls((k, j, i), volume.ijk_to_world)


def canonical_grid(source: Volume | Grid, spacing: Sequence[float]) -> Grid:
    """The grid along the patient's axes (i to the left, j to the back, k to the head) that covers the source.

    spacing: mm along x, y, z. The grid is centred on the source and contains the outer faces of its voxels.
    """
    grid = Grid.of(source) if isinstance(source, Volume) else source
    k, j, i = grid.shape
    ends = np.array([[-0.5, n - 0.5] for n in (i, j, k)])
    corners = np.array([[x, y, z, 1.0] for x in ends[0] for y in ends[1] for z in ends[2]])
    world = (corners @ grid.ijk_to_world.T)[:, :3]
    low, high = world.min(axis=0), world.max(axis=0)
    step = np.asarray(spacing, dtype=np.float64)
    # A tenth of a thousandth of a voxel is rounding, not extent.
    count = np.maximum(np.ceil((high - low) / step - 1e-4), 1).astype(int)
    matrix = np.diag([*step, 1.0])
    matrix[:3, 3] = (low + high) / 2 - step * (count - 1) / 2
    return Grid((int(count[2]), int(count[1]), int(count[0])), matrix)


def resample(source: Volume, grid: Grid, fill: float = -1024.0, nearest: bool = False) -> np.ndarray:
    """The source's values at the grid's points, (K, J, I): float32, or with `nearest` the source's own type.

    Linear interpolation. Where the grid is coarser than the source by a factor of two or more along one of the
    source's axes, whole blocks of voxels are averaged first: thin slices lose noise instead of aliasing it.
    Points outside the source get `fill`.
    """
    image = _index_space_image(source.array)
    if not nearest:
        image = _average_blocks(image, float(grid.spacing.min()) / source.spacing)
    resampler = _resampler(nearest, fill)
    resampler.SetOutputPixelType(image.GetPixelID() if nearest else sitk.sitkFloat32)
    resampler.SetSize([int(n) for n in reversed(grid.shape)])
    # Output points are the grid's indices; the transform takes them to the source's indices.
    resampler.SetTransform(_affine(np.linalg.inv(source.ijk_to_world) @ grid.ijk_to_world))
    return np.asarray(sitk.GetArrayFromImage(resampler.Execute(image)))


def resample_labels(labels: Volume, grid: Grid, values: Sequence[Sequence[int]]) -> np.ndarray:
    """Class map (K, J, I) uint8 on the grid: class n+1 is made of the label values in `values[n]`, the rest is 0.

    Each class is sampled as a fraction of the voxel and the largest fraction wins: no staircase, no lost thin parts.
    """
    best = np.full(grid.shape, -1.0, dtype=np.float32)
    result = np.zeros(grid.shape, dtype=np.uint8)
    foreground = [value for group in values for value in group]
    for index, group in enumerate([None, *values]):
        if group is None:
            mask = ~np.isin(labels.array, foreground)
        else:
            mask = np.isin(labels.array, group)
        # 0…100 in int16 keeps the averaging of blocks in a small type.
        fraction = resample(labels.with_array(mask.astype(np.int16) * 100), grid, fill=100.0 if group is None else 0.0)
        better = fraction > best
        best[better] = fraction[better]
        result[better] = index
    return result


class GridSampler:
    """Samples one array on the model's grid at the points of another volume's grid, box by box.

    Made once for each class map: the image is handed to ITK once, then any number of boxes are sampled.
    """

    def __init__(self, array: np.ndarray, source: Grid, target: Grid, fill: float) -> None:
        self._image = _index_space_image(array)
        self._index_map = np.linalg.inv(source.ijk_to_world) @ target.ijk_to_world
        self._resampler = _resampler(nearest=False, fill=fill)
        self._resampler.SetOutputPixelType(sitk.sitkFloat32)

    def sample(self, box: tuple[slice, slice, slice]) -> np.ndarray:
        """Values on the target's voxels in `box` (slices along K, J, I with start and stop), float32."""
        start = np.array([box[2].start, box[1].start, box[0].start], dtype=np.float64)
        shift = np.eye(4)
        shift[:3, 3] = start
        self._resampler.SetSize([s.stop - s.start for s in reversed(box)])
        self._resampler.SetTransform(_affine(self._index_map @ shift))
        return np.asarray(sitk.GetArrayFromImage(self._resampler.Execute(self._image)))


def _index_space_image(array: np.ndarray) -> sitk.Image:
    """The array as an ITK image whose physical points are its indices."""
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype == bool:
        array = array.astype(np.uint8)
    elif array.dtype.kind not in "iu" and array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32)
    return sitk.GetImageFromArray(array)


def _average_blocks(image: sitk.Image, step: np.ndarray) -> sitk.Image:
    """Means over blocks of floor(step) voxels along each axis; the last, incomplete block is filled by its edge."""
    factors = [int(max(1, min(np.floor(s + 1e-6), n))) for s, n in zip(step, image.GetSize(), strict=True)]
    if all(f == 1 for f in factors):
        return image
    missing = [(-n) % f for n, f in zip(image.GetSize(), factors, strict=True)]
    if any(missing):
        image = sitk.ZeroFluxNeumannPad(image, [0, 0, 0], missing)
    return sitk.BinShrink(image, factors)


def _resampler(nearest: bool, fill: float) -> sitk.ResampleImageFilter:
    resampler = sitk.ResampleImageFilter()
    resampler.SetInterpolator(sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear)
    resampler.SetDefaultPixelValue(float(fill))
    return resampler


def _affine(matrix: np.ndarray) -> sitk.AffineTransform:
    transform = sitk.AffineTransform(3)
    transform.SetMatrix([float(v) for v in matrix[:3, :3].ravel()])
    transform.SetTranslation([float(v) for v in matrix[:3, 3]])
    return transform
