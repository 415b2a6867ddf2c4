"""Cutting a volume into tiles and putting their results together again."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from torch import Tensor
from torch.nn import functional as F


def pad_to_multiple(x: Tensor, divisor: int, value: float | None = None) -> tuple[Tensor, tuple[slice, slice, slice]]:
    """Pads (N, C, D, H, W) at its far ends to multiples of `divisor`.

    value: what is put there; None repeats the edge. Returns the padded tensor and the slices that crop a result of
    that size back: `result[(..., *crop)]`.
    """
    size = x.shape[2:]
    missing = [(-n) % divisor for n in size]
    crop = (slice(0, size[0]), slice(0, size[1]), slice(0, size[2]))
    if not any(missing):
        return x, crop
    padding = (0, missing[2], 0, missing[1], 0, missing[0])
    padded = F.pad(x, padding, mode="replicate") if value is None else F.pad(x, padding, value=value)
    return padded, crop


def tile_starts(size: int, tile: int, overlap: float, divisor: int) -> list[int]:
    """First voxels of tiles that cover `size` with at least `overlap` (a share of the tile), at multiples of `divisor`.

    size and tile are multiples of divisor. Multiples keep the coarser levels of all tiles on one common grid.
    """
    if tile >= size:
        return [0]
    stride = max(divisor, int(tile * (1 - overlap)) // divisor * divisor)
    count = -(-(size - tile) // stride) + 1
    last = size - tile
    return sorted({round(last * n / (count - 1) / divisor) * divisor for n in range(count)})


def tile_slices(
    size: Sequence[int], tile: Sequence[int], overlap: float, divisor: int
) -> list[tuple[slice, slice, slice]]:
    """All tiles of a volume, as slices along K, J, I."""
    starts = [tile_starts(n, t, overlap, divisor) for n, t in zip(size, tile, strict=True)]
    return [
        (slice(a, a + tile[0]), slice(b, b + tile[1]), slice(c, c + tile[2])) for a, b, c in itertools.product(*starts)
    ]


def gaussian_window(tile: Sequence[int], sigma: float = 0.125) -> np.ndarray:
    """Weight of each voxel of a tile, (K, J, I) float32, highest in its middle and never 0.

    sigma: standard deviation as a share of the tile (nnU-Net's 1/8).
    """
    axes = []
    for n in tile:
        x = (np.arange(n) - (n - 1) / 2) / (sigma * n)
        axes.append(np.exp(-0.5 * x**2))
    window = axes[0][:, None, None] * axes[1][None, :, None] * axes[2][None, None, :]
    return np.asarray(np.maximum(window, 1e-3), dtype=np.float32)
