"""Where the sonographic image lies in a frame: without texts, gray scale bars, margins and the curve of an ECG."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from AGTraining.imaging.box import Box

# The search runs on a picture of about this many rows and columns: fine enough for edges to 1 % of the frame.
SEARCH_SIZE = 240
# Brighter than this share of the frame's bright gray (its 99th percentile) is no black margin.
DARK = 0.03
# Texts, scale bars and thin curves are narrower than this share of the frame's longer side; tissue is not.
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
    small = _block_means(image, step)
    low, high = float(small.min()), float(np.percentile(small, 99))
    if not high > low:
        return whole
    mask = small > low + DARK * (high - low)
    thin = max(1, round(THIN * max(small.shape) / 2))
    mask = _opened(mask, thin)
    labels, count = ndimage.label(mask)
    if count == 0:
        return whole
    areas = np.bincount(labels.ravel())[1:]
    kept = np.flatnonzero(areas >= SMALL * areas.max()) + 1
    places = [place for n, place in enumerate(ndimage.find_objects(labels), 1) if n in kept]
    y0, y1 = min(p[0].start for p in places), max(p[0].stop for p in places)
    x0, x1 = min(p[1].start for p in places), max(p[1].stop for p in places)
    return Box(float(x0 * step), float(y0 * step), float(min(x1 * step, columns)), float(min(y1 * step, rows)))


def _block_means(image: np.ndarray, step: int) -> np.ndarray:
    """Means of step×step pixels, float32; the last rows and columns that fill no block form smaller ones."""
    rows = np.add.reduceat(image.astype(np.float32), np.arange(0, image.shape[0], step), axis=0)
    sums = np.add.reduceat(rows, np.arange(0, image.shape[1], step), axis=1)
    heights = np.diff(np.append(np.arange(0, image.shape[0], step), image.shape[0]))
    widths = np.diff(np.append(np.arange(0, image.shape[1], step), image.shape[1]))
    return np.asarray(sums / (heights[:, None] * widths[None, :]), np.float32)


def _opened(mask: np.ndarray, radius: int) -> np.ndarray:
    """Without what is narrower than 2·radius + 1 in either direction; beyond the frame counts as inside."""
    size = 2 * radius + 1
    padded = np.pad(mask, size, constant_values=False)
    eroded = ndimage.minimum_filter(padded.view(np.uint8), size=size)
    return ndimage.maximum_filter(eroded, size=size)[size:-size, size:-size].astype(bool)
