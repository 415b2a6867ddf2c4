"""Is this volume a CT that can be segmented, and what should the user know of it?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from AGTraining.errors import InputError
from AGTraining.imaging.volume import Volume

SAMPLES_PER_AXIS = 64
AIR_HU = -200.0
SHORT_SCAN_MM = 60.0
COARSE_MM = 6.0
THICK_SLICE_MM = 10.0


class VolumeWarning(NamedTuple):
    """A sentence for the user, and a word for programs: what the warning is about.

    code: "short" or "coarse" scan, "spacing" that cannot be, voxels that are "not finite", "intensity" unlike a CT's.
    """

    code: str
    sentence: str


def check_volume(volume: Volume) -> tuple[str, ...]:
    """The sentences of `volume_warnings`."""
    return tuple(warning.sentence for warning in volume_warnings(volume))


def volume_warnings(volume: Volume, *, count_not_finite: bool = True) -> tuple[VolumeWarning, ...]:
    """Warnings on a volume that can be segmented but may give a poor result.

    Intensities are judged on at most 64 × 64 × 64 evenly spread voxels; only where those hold nothing finite, or a
    single value, all voxels are looked at. Voxels that are not finite count as air wherever the volume is used.
    count_not_finite: False looks for them in the sample only, which takes no time, and gives no number.
    Raises InputError for what cannot be segmented: no voxels, fewer than two voxels along an axis, complex or
    other non-numeric voxels, a single intensity, no finite voxel.
    """
    _require_voxels(volume)
    sample = _sample(volume.array)
    finite = sample[np.isfinite(sample)] if sample.dtype.kind == "f" else sample
    if finite.size == 0 or finite.min() == finite.max():
        finite = _require_contrast(volume)
    warnings = [
        *_geometry_warnings(volume),
        *(("not finite", message) for message in _finite_warnings(volume, sample, count_not_finite)),
        *(("intensity", message) for message in intensity_doubts(finite)),
    ]
    return tuple(VolumeWarning(code, f"{volume.name}: {message}") for code, message in warnings)


def _require_voxels(volume: Volume) -> None:
    name, text = volume.name, "×".join(str(n) for n in volume.size)
    if volume.array.size == 0:
        raise InputError(f"{name}: the image is empty ({text} voxels); load it again.")
    if volume.array.dtype.kind not in "iufb":
        raise InputError(f"{name}: its voxels are of type {volume.array.dtype}; a CT in Hounsfield units is needed.")
    if min(volume.size) < 2:
        raise InputError(f"{name}: a single slice ({text} voxels); a volume of several slices is needed.")


def _sample(array: np.ndarray) -> np.ndarray:
    """A view of evenly spread voxels, at most 64 along each axis."""
    steps = tuple(slice(None, None, max(1, -(-n // SAMPLES_PER_AXIS))) for n in array.shape)
    return array[steps]


def _require_contrast(volume: Volume) -> np.ndarray:
    """Some finite voxels of different values, from slices read one by one; InputError where there are none."""
    low, high = np.inf, -np.inf
    for plane in volume.array:
        values = plane[np.isfinite(plane)] if plane.dtype.kind == "f" else plane
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    if low > high:
        raise InputError(f"{volume.name}: none of its voxels is a finite number; load or convert the image again.")
    if low == high:
        raise InputError(f"{volume.name}: all its voxels have the value {low:g}; there is nothing to segment.")
    return np.array([low, high])


def _finite_warnings(volume: Volume, sample: np.ndarray, count_all: bool) -> list[str]:
    if sample.dtype.kind != "f":
        return []
    if not count_all:
        return [] if np.isfinite(sample).all() else ["voxels that are no finite numbers count as air."]
    # A sum is not finite where a voxel is not: one pass without a mask, then a count only where it is needed.
    count = 0
    for plane in volume.array:
        with np.errstate(over="ignore", invalid="ignore"):
            if not np.isfinite(plane.sum(dtype=np.float64)):
                count += int(plane.size - np.count_nonzero(np.isfinite(plane)))
    if count == 0:
        return []
    return ["1 voxel is no finite number and counts as air." if count == 1
            else f"{count} voxels are no finite numbers and count as air."]  # fmt: skip


def _geometry_warnings(volume: Volume) -> list[tuple[str, str]]:
    """Code and sentence of each."""
    warnings = []
    spacing = volume.spacing
    # Height along the patient's axis, whichever way the slices lie.
    height = float(np.abs(volume.ijk_to_world[2, :3]) @ np.asarray(volume.size))
    if height < SHORT_SCAN_MM:
        message = f"the scan covers only {height:.0f} mm from head to feet; organs may be cut off or missed."
        warnings.append(("short", message))
    if np.any(spacing > THICK_SLICE_MM):
        warnings.append(("coarse", f"its slices are {spacing.max():.0f} mm apart; the pancreas may be missed."))
    elif np.sort(spacing)[1] > COARSE_MM:
        size = " × ".join(f"{s:.1f}" for s in spacing)
        warnings.append(("coarse", f"its voxels are coarse ({size} mm); organs may be missed."))
    if float(spacing.min()) < 0.05:
        message = (
            f"its voxel spacing is {spacing.min():.3g} mm, which is very small for a CT; is its header in millimeters?"
        )
        warnings.append(("spacing", message))
    return warnings


def intensity_doubts(finite: np.ndarray) -> list[str]:
    """Why these voxels, finite and of any shape, may be no Hounsfield units; empty where they look like some."""
    low, high = float(finite.min()), float(finite.max())
    advice = "use the original CT in Hounsfield units"
    if finite.dtype.kind == "b" or (low >= 0 and high <= 20):
        return [f"its values lie between {low:g} and {high:g}, like a label map; {advice}."]
    if low >= 0 and high <= 255:
        return [f"its values lie between 0 and 255, as if it had been windowed for display; {advice}."]
    if low >= 0 and _looks_shifted(finite):
        return [f"its values look like Hounsfield units without their offset of -1024 (air at {low:g}); {advice}."]
    if low > AIR_HU:
        return [f"its values ({low:g} to {high:g}) hold no air and may not be Hounsfield units, as in MR; {advice}."]
    if high - low < 300 or high > 20000:
        return [f"its values ({low:g} to {high:g}) are not in the range of Hounsfield units; {advice}."]
    return []


def _looks_shifted(finite: np.ndarray) -> bool:
    """Whether both air near 0 and soft tissue near 1064 (= 40 HU + 1024) are common."""
    values = finite.reshape(-1)
    return bool(np.mean(values < 150) > 0.1 and np.mean((values > 950) & (values < 1200)) > 0.1)
