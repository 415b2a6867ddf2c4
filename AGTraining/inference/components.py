"""Cleaning up a label map."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy import ndimage


def keep_largest_components(labels: np.ndarray, minimum_voxels: float = 0.0) -> None:
    """Keeps of each label its largest connected part (6 neighbours), in place; smaller than the minimum: none.

    labels: (K, J, I) uint8. Only the bounding box of each label is looked at.
    """
    for value, box in enumerate(ndimage.find_objects(labels), 1):
        if box is None:
            continue
        region = labels[box]
        mask = region == value
        components = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(mask.view(np.uint8))))
        sizes = np.bincount(components.ravel())
        sizes[0] = 0
        keep = int(sizes.argmax())
        region[mask & (components != keep)] = 0
        if sizes[keep] < minimum_voxels:
            region[region == value] = 0


def body_box(hounsfield: np.ndarray, spacing: np.ndarray, margin_mm: float = 10.0) -> tuple[slice, slice, slice]:
    """The box (slices along K, J, I) around the patient's body with a margin; all slices along K.

    hounsfield: (K, J, I); spacing: mm along i, j, k. Looks for the largest connected part above −500 HU in a coarse
    copy after an erosion, which parts the table from the body. The whole image when there is no such body (no CT).
    """
    everything = tuple(slice(0, n) for n in hounsfield.shape)
    step = tuple(max(1, int(4 / s)) for s in reversed(spacing))
    coarse = hounsfield[:: step[0], :: step[1], :: step[2]] > -500
    core = ndimage.binary_erosion(coarse, structure=np.ones((1, 3, 3)), border_value=1)
    components, count = ndimage.label(core)
    if count == 0:
        return everything  # type: ignore[return-value]
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    if sizes.max() < 0.02 * coarse.size:
        return everything  # type: ignore[return-value]
    box = ndimage.find_objects((components == sizes.argmax()).astype(np.uint8))[0]
    result = [slice(0, hounsfield.shape[0])]
    for axis in (1, 2):
        margin = int(np.ceil(margin_mm / spacing[2 - axis])) + step[axis]
        start = max(0, box[axis].start * step[axis] - margin)
        stop = min(hounsfield.shape[axis], box[axis].stop * step[axis] + margin)
        result.append(slice(start, stop))
    return result[0], result[1], result[2]
