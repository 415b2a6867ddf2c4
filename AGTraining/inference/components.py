"""Cleaning up a label map."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

Box = tuple[slice, slice, slice]


def label_boxes(labels: np.ndarray) -> dict[int, Box]:
    """The bounding box (slices along K, J, I) of each value of a uint8 label map that occurs in it, 0 left out."""
    return {value: box for value, box in enumerate(ndimage.find_objects(labels), 1) if box is not None}


def keep_largest_components(labels: np.ndarray, boxes: dict[int, Box], minimum_voxels: float = 0.0) -> dict[int, Box]:
    """Keeps of each label its largest connected part (6 neighbors), in place; smaller than the minimum: none.

    labels: (K, J, I) uint8; boxes: where its values are (`label_boxes`). Returns where they are now.
    """
    kept = {}
    for value, box in boxes.items():
        region = labels[box]
        mask = region == value
        components = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(mask.view(np.uint8))))
        sizes = np.bincount(components.ravel())
        sizes[0] = 0
        largest = components == sizes.argmax()
        if sizes.max() < minimum_voxels:
            largest[:] = False
        region[mask & ~largest] = 0
        for inner in ndimage.find_objects(largest.view(np.uint8)):
            k, j, i = (slice(o.start + n.start, o.start + n.stop) for o, n in zip(box, inner, strict=True))
            kept[value] = (k, j, i)
    return kept


def body_box(hounsfield: np.ndarray, spacing: np.ndarray, margin_mm: float = 10.0) -> Box:
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
