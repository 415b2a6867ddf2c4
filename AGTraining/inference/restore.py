"""From probabilities on the model's grid to labels on the scan's own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from AGTraining.bundle import Bundle
from AGTraining.imaging.resample import Grid, GridSampler
from AGTraining.imaging.volume import Volume
from AGTraining.inference.laterality import left_side, midline
from AGTraining.inference.predict import Prediction

SLAB_SLICES = 8


def split_pairs(
    prediction: Prediction, bundle: Bundle, hounsfield: np.ndarray, grid: Grid
) -> tuple[list[np.ndarray], bool]:
    """Probabilities of the output labels, each (K, J, I): paired classes are split into right and left.

    Also returns whether the sides are certain: nothing to split, or the spine was seen.
    """
    channels: list[np.ndarray] = []
    certain = True
    winner: np.ndarray | None = None
    for index, organ in enumerate(bundle.info.classes):
        p = prediction.probabilities[index]
        if not organ.paired:
            channels.append(p)
            continue
        if winner is None:
            winner = winning_label(list(prediction.probabilities))
        mask = winner == index + 1
        middle, spine_seen = midline(hounsfield, grid, winner > 0)
        certain &= spine_seen or not mask.any()
        left = left_side(mask, middle, grid)
        channels += [np.where(left, np.float32(0), p), np.where(left, p, np.float32(0))]
    return channels, certain


def winning_label(channels: list[np.ndarray]) -> np.ndarray:
    """uint8 map of the most probable channel, 1 and up; 0 where the background (what the others leave) is."""
    best = np.ones(channels[0].shape, dtype=np.float32)
    for p in channels:
        best -= p
    labels = np.zeros(best.shape, dtype=np.uint8)
    for value, p in enumerate(channels, 1):
        better = p > best
        np.copyto(best, p, where=better)
        labels[better] = value
    return labels


def mean_confidence(channels: list[np.ndarray], winner: np.ndarray) -> list[float]:
    """Mean probability of each channel where it wins; NaN where it never does."""
    means = []
    for value, p in enumerate(channels, 1):
        inside = p[winner == value]
        means.append(float(inside.mean()) if inside.size else float("nan"))
    return means


def restore(
    channels: list[np.ndarray], winner: np.ndarray, grid: Grid, volume: Volume, step: Callable[[float], None]
) -> np.ndarray:
    """The label map (K, J, I) uint8 on the volume's grid: probabilities are resampled, then compared.

    Works through slabs of slices within the box that any organ can reach: where the background wins at all corners of
    a model voxel it also wins at every point between them.
    """
    labels = np.zeros(volume.array.shape, dtype=np.uint8)
    box = _reach(winner > 0, grid, volume)
    if box is None:
        return labels
    target = Grid.of(volume)
    samplers = [GridSampler(p, grid, target, fill=0.0) for p in channels]
    starts = range(box[0].start, box[0].stop, SLAB_SLICES)
    for number, start in enumerate(starts):
        slab = (slice(start, min(start + SLAB_SLICES, box[0].stop)), box[1], box[2])
        labels[slab] = winning_label([sampler.sample(slab) for sampler in samplers])
        step((number + 1) / len(starts))
    return labels


def _reach(foreground: np.ndarray, grid: Grid, volume: Volume) -> tuple[slice, slice, slice] | None:
    """The box of the volume's voxels that the foreground's box on the model's grid covers, with a voxel around it."""
    if not foreground.any():
        return None
    ends = []
    for axis in (2, 1, 0):
        line = np.flatnonzero(foreground.any(axis=tuple(a for a in range(3) if a != axis)))
        ends.append((line[0] - 1.0, line[-1] + 1.0))
    corners = np.array([[i, j, k, 1.0] for i in ends[0] for j in ends[1] for k in ends[2]])
    index = (corners @ (np.linalg.inv(volume.ijk_to_world) @ grid.ijk_to_world).T)[:, :3]
    low = np.floor(index.min(axis=0)).astype(int)
    high = np.ceil(index.max(axis=0)).astype(int) + 1
    box = [slice(max(0, int(a)), min(n, int(b))) for a, b, n in zip(low, high, volume.size, strict=True)]
    if any(s.start >= s.stop for s in box):
        return None
    return box[2], box[1], box[0]
