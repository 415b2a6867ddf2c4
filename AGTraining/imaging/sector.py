"""Where the sonographic image lies in a frame: without texts, scales, bars, panels and margins of the scanner."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from AGTraining.imaging.box import Box

# The search runs on a picture of about this many rows and columns: fine enough for edges to 1 % of the frame.
SEARCH_SIZE = 240
# Brighter than this share of the frame's bright gray (its 99th percentile) is no black margin.
DARK = 0.02
# Bars and panels are drawn: their neighboring pixels along a row are the same. Speckle differs by more than this share.
FLAT = 0.0006
# Texts, scales and thin curves are narrower than this share of the frame's longer side; tissue is not.
THIN = 0.028
# Parts that are smaller than this share of the largest one are no tissue.
SMALL = 0.04


def find_sector(image: np.ndarray) -> Box:
    """The bounding box of the scan sector of a gray frame (rows, columns), in its pixels.

    The whole frame where nothing is found (a black or constant frame). Dark fluid inside the sector belongs to it, and
    black corners beside a curved sector belong to its box.
    """
    rows, columns = image.shape
    whole = Box(0.0, 0.0, float(columns), float(rows))
    step = max(1, round(max(rows, columns) / SEARCH_SIZE))
    if min(rows, columns) < 2 * step:
        return whole
    # A row of each block is enough, and saves most of the work.
    lines = image[step // 2 :: step].astype(np.float32)
    if image.dtype.kind == "f":
        np.nan_to_num(lines, copy=False, posinf=0.0, neginf=0.0)
    small = _means(lines, step)
    low, high = float(small.min()), float(np.percentile(small, 99))
    if not high > low:
        return whole
    texture = _means(np.abs(np.diff(lines, axis=1, append=lines[:, -1:])), step)
    texture = ndimage.uniform_filter(texture, size=3)
    mask = (small > low + DARK * (high - low)) & (texture > FLAT * (high - low))
    labels, count = ndimage.label(_opened(mask, max(1, round(THIN * max(small.shape) / 2))))
    if count == 0:
        return whole
    areas = np.bincount(labels.ravel())[1:]
    places = [
        place for area, place in zip(areas, ndimage.find_objects(labels), strict=True) if area >= SMALL * areas.max()
    ]
    y0, y1 = min(p[0].start for p in places), max(p[0].stop for p in places)
    x0, x1 = min(p[1].start for p in places), max(p[1].stop for p in places)
    # Where the last block is reached, so is the last pixel.
    bottom = rows if y1 == small.shape[0] else y1 * step
    right = columns if x1 == small.shape[1] else x1 * step
    return Box(float(x0 * step), float(y0 * step), float(right), float(bottom))


def _means(lines: np.ndarray, step: int) -> np.ndarray:
    """Means of `step` neighboring columns; the last columns that fill no block are left out."""
    count = lines.shape[1] // step
    total = lines[:, : count * step : step].copy()
    for first in range(1, step):
        total += lines[:, first : count * step : step]
    return np.asarray(total / step)


def _opened(mask: np.ndarray, radius: int) -> np.ndarray:
    """Without what is narrower than 2·radius + 1 in either direction."""
    size = 2 * radius + 1
    eroded = ndimage.minimum_filter(mask.view(np.uint8), size=size, mode="constant")
    return np.asarray(ndimage.maximum_filter(eroded, size=size, mode="constant") > 0)
