"""Where in a frame the attention lies: a box, without back-propagation.

The method of the appendix of Schlemper et al. 2019 (weakly supervised localization): the attention maps are blurred,
low activations are cut off, connected components are found, the component that overlaps at each scale is taken, and the
box is that around it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from AGTraining.imaging.box import Box
from AGTraining.inference.plane_result import LocaliseOptions

# Below this, as a share of the largest value, differences are those of rounding.
FLAT = 1e-5
# Diagonal neighbors belong together, as blurred maps have them.
NEIGHBORS = np.ones((3, 3), dtype=bool)
DEFAULT = LocaliseOptions()


def localise(
    attention: Mapping[str, np.ndarray], size: tuple[int, int], options: LocaliseOptions = DEFAULT
) -> Box | None:
    """The box around what the attention maps of a frame agree on, in pixels of the network's input.

    attention: maps (h, w) by name, each on its own grid, all of the same input. size: rows and columns of that input.
    None when there are no maps, or they are flat (the same everywhere, or not finite): then they point to nothing.
    """
    maps = [values for values in attention.values() if not _is_flat(values)]
    if not maps:
        return None
    # All components are compared on the finest grid.
    maps.sort(key=lambda values: values.size, reverse=True)
    grid = maps[0].shape
    chosen = _overlapping([_components(values, size, grid, options) for values in maps])
    inside = np.logical_or.reduce(chosen) if options.around == "all" else np.logical_and.reduce(chosen)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return None
    box = Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    return box.scaled(size[1] / grid[1], size[0] / grid[0])


def _is_flat(values: np.ndarray) -> bool:
    low, high = float(values.min()), float(values.max())
    return not high - low > FLAT * max(abs(low), abs(high)) or not np.isfinite(high - low)


def _components(
    values: np.ndarray, size: tuple[int, int], grid: tuple[int, ...], options: LocaliseOptions
) -> np.ndarray:
    """Numbers of the connected components above the threshold (0: none of them), on the common grid."""
    sigma = [options.sigma * size[0] * count / whole for count, whole in zip(values.shape, size, strict=True)]
    blurred = ndimage.gaussian_filter(values.astype(np.float32, copy=False), sigma, mode="nearest")
    low, high = float(blurred.min()), float(blurred.max())
    numbers, _ = ndimage.label(blurred >= low + options.threshold * (high - low), NEIGHBORS)
    if values.shape == grid:
        return numbers
    rows, columns = ((np.arange(count) * coarse) // count for count, coarse in zip(grid, values.shape, strict=True))
    return numbers[rows[:, None], columns]


def _overlapping(scales: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Masks of the components, one a scale, that overlap: the pair of the first two scales with the most pixels in
    common, then of each further scale the component with the most in common with these.

    A scale without any overlap has none; with one scale alone it is its largest component.
    """
    first = scales[0]
    if len(scales) == 1:
        return [first == np.bincount(first[first > 0]).argmax()]
    columns = int(scales[1].max()) + 1
    pairs = np.bincount((first * columns + scales[1])[(first > 0) & (scales[1] > 0)], minlength=1)
    if not pairs.any():
        return _overlapping(scales[:1])
    a, b = divmod(int(pairs.argmax()), columns)
    chosen = [first == a, scales[1] == b]
    for further in scales[2:]:
        common = np.bincount(further[np.logical_or.reduce(chosen) & (further > 0)], minlength=1)
        if common.any():
            chosen.append(further == common.argmax())
    return chosen
