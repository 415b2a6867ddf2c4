"""Left and right of paired organs, told apart by the patient's geometry."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from AGTraining.imaging.resample import Grid

# Kidneys of a horseshoe, or a leak across the spine, are cut at the midline; a kidney that merely bends over it is not.
STRADDLING_SHARE = 0.25
STRADDLING_ML = 10.0
SPINE_REACH_MM = 60.0


def midline(hounsfield: np.ndarray, grid: Grid, organs: np.ndarray | None = None) -> tuple[np.ndarray, bool]:
    """The x (LPS, mm) of the patient's midline at each axial slice, (K,), and whether the spine gave it.

    hounsfield: (K, J, I) on a canonical grid. organs: (K, J, I) bool, what is known not to be bone (enhanced kidneys
    are as bright). The spine where its bone can be seen (within 60 mm of the body's middle, in the posterior half),
    else the middle of the body; smoothed over 30 mm, so that scoliosis is followed.
    """
    x = grid.ijk_to_world[0, 3] + grid.ijk_to_world[0, 0] * np.arange(hounsfield.shape[2])
    slices = hounsfield.shape[0]
    middle = np.full(slices, np.nan)
    spine = np.full(slices, np.nan)
    for k in range(slices):
        body = hounsfield[k] > -300
        columns, rows = np.flatnonzero(body.sum(0) > 2), np.flatnonzero(body.sum(1) > 2)
        if columns.size < 2 or rows.size < 2:
            continue
        middle[k] = (x[columns[0]] + x[columns[-1]]) / 2
        posterior = (rows[0] + rows[-1]) // 2
        near = np.abs(x - middle[k]) <= SPINE_REACH_MM
        bone = hounsfield[k, posterior:] > 200
        if organs is not None:
            bone &= ~ndimage.binary_dilation(organs[k, posterior:], iterations=2)
        bone = bone[:, near].sum(0)
        # A vertebra shows some square centimetres of bone; less is calcification or contrast.
        if bone.sum() * grid.spacing[0] * grid.spacing[1] > 200:
            spine[k] = np.average(x[near], weights=bone)
    centre = (x[0] + x[-1]) / 2
    # Where the spine is seen in some slices, the body's middle (which cut-off fields of view shift) is not needed.
    seen = bool(np.isfinite(spine).sum() >= 3)
    best = spine if seen else middle
    known = np.flatnonzero(np.isfinite(best))
    if known.size == 0:
        return np.full(slices, centre), False
    filled = np.interp(np.arange(slices), known, best[known])
    window = max(1, int(30 / grid.spacing[2]) | 1)
    return np.asarray(ndimage.median_filter(filled, size=window, mode="nearest")), seen


def left_side(mask: np.ndarray, midline_x: np.ndarray, grid: Grid) -> np.ndarray:
    """Which voxels of the grid belong to the left organ of a pair, (K, J, I) bool.

    mask: (K, J, I) bool, the paired class. A connected part belongs as a whole (with 3 voxels around it) to the side
    that holds most of it, unless it lies across the midline; everywhere else the midline decides. Left is +x in LPS.
    """
    x = grid.ijk_to_world[0, 3] + grid.ijk_to_world[0, 0] * np.arange(mask.shape[2])
    left = np.broadcast_to((x[None, :] > midline_x[:, None])[:, None, :], mask.shape).copy()
    if not mask.any():
        return left
    components = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8))))
    voxel_ml = float(np.prod(grid.spacing)) / 1000
    by_side = left.copy()
    for number, box in enumerate(ndimage.find_objects(components), 1):
        part = components[box] == number
        count, on_left = int(part.sum()), int((part & by_side[box]).sum())
        minority = min(on_left, count - on_left)
        if minority > STRADDLING_SHARE * count and minority * voxel_ml > STRADDLING_ML:
            continue
        wide = tuple(slice(max(0, s.start - 3), s.stop + 3) for s in box)
        around = ndimage.binary_dilation(components[wide] == number, iterations=3)
        around &= (components[wide] == number) | (components[wide] == 0)
        left[wide][around] = on_left * 2 >= count
    return left
