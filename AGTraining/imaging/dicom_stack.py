"""A stack of DICOM slices: which of them belong together, are all there, and where do they lie."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from AGTraining.errors import InputError

# Tags by which several passes over the same place in one series can be told apart, in the order they are tried.
PASS_TAGS = {"acquisition": "0020|0012", "temporal position": "0020|0100", "acquisition time": "0008|0032"}
AXIAL_COSINE = 0.7
EXPORT = "export the whole series again"


@dataclass(frozen=True)
class Slice:
    """The header of one DICOM image. position, row, column: LPS mm; spacing: mm along (i, j)."""

    path: Path
    series: str
    description: str
    instance: str
    computed_tomography: bool
    localizer: bool
    passes: tuple[str, ...]
    size: tuple[int, ...]
    pixel_type: int
    spacing: tuple[float, float]
    thickness: float
    position: np.ndarray
    row: np.ndarray
    column: np.ndarray

    @property
    def key(self) -> tuple[object, ...]:
        """The same for copies of a file alone: some anonymizers give all slices the same instance UID."""
        return self.instance, self.series, self.passes, *self.position, *self.row, *self.column

    @property
    def normal(self) -> np.ndarray:
        """Unit vector across the slice."""
        normal = np.cross(self.row, self.column)
        return np.asarray(normal / np.linalg.norm(normal))

    @property
    def multi_frame(self) -> bool:
        """Whether the file holds a whole volume (enhanced DICOM)."""
        return len(self.size) > 2 and self.size[2] > 1

    @property
    def rank(self) -> tuple[bool, bool]:
        """CT before others, axial before other planes."""
        return self.computed_tomography and not self.localizer, bool(abs(self.normal[2]) > AXIAL_COSINE)

    def stacks_with(self, other: Slice) -> bool:
        """Whether both can be slices of one volume: same series, size, spacing and plane."""
        return (
            (self.series, self.size, self.localizer) == (other.series, other.size, other.localizer)
            and np.allclose(self.spacing, other.spacing, rtol=1e-3)
            and np.allclose((*self.row, *self.column), (*other.row, *other.column), atol=5e-3)
        )


def heights_mm(stack: Sequence[Slice]) -> np.ndarray:
    """Positions in mm along the first slice's normal."""
    return np.array([s.position for s in stack]) @ stack[0].normal


def single_pass(path: Path, stack: list[Slice]) -> tuple[list[Slice], list[str]]:
    """One slice for each position: where a series passes several times (phases), its largest pass.

    stack: ordered along its normal. Raises InputError when the header does not tell the passes apart.
    """
    heights = heights_mm(stack)
    places = 1 + int(np.sum(_distances(heights) > 0))
    if places == len(stack):
        return stack, []
    for index, tag in enumerate(PASS_TAGS):
        passes: dict[str, list[Slice]] = defaultdict(list)
        for item in stack:
            passes[item.passes[index]].append(item)
        best = max(passes.values(), key=len)
        unique = bool(np.all(_distances(heights_mm(best)) > 0)) if len(best) > 1 else True
        if len(passes) > 1 and unique and len(best) >= 0.5 * places:
            value = best[0].passes[index]
            return best, [
                f"{path}: '{best[0].description}' covers the same place {len(passes)} times (several phases); "
                f"{tag} {value} with {len(best)} slices was taken."
            ]
    raise InputError(
        f"{path}: '{stack[0].description}' has {len(stack)} slices at {places} positions, and its headers do not tell "
        "which belong together; export one phase on its own."
    )


def _distances(heights: np.ndarray) -> np.ndarray:
    """Distances between neighbors in mm; below 0.01 mm they count as 0: the same place."""
    gaps = np.diff(heights)
    return np.where(gaps < 0.01, 0.0, gaps)


def require_even(path: Path, stack: Sequence[Slice]) -> list[str]:
    """Raises InputError where slices are missing; a message where they lie a little unevenly."""
    heights = heights_mm(stack)
    gaps = np.diff(heights)
    step = float(np.median(gaps))
    missing = np.flatnonzero(gaps > 1.5 * step)
    if missing.size:
        first = int(missing[0])
        # The patient's z is what viewers show; oblique stacks have no such name for it.
        ends = [stack[first].position[2], stack[first + 1].position[2]]
        lost = sum(round(float(gaps[m]) / step) - 1 for m in missing)
        slices = "1 slice is" if lost == 1 else f"about {lost} slices are"
        where = f"between z = {ends[0]:.1f} and {ends[1]:.1f} mm" + (" and elsewhere" if missing.size > 1 else "")
        raise InputError(
            f"{path}: {slices} missing {where} (the others lie {step:.4g} mm apart), so that organs beyond would be "
            f"measured in the wrong place; {EXPORT}."
        )
    even = np.linspace(heights[0], heights[-1], len(heights))
    deviation = float(np.abs(heights - even).max())
    if deviation > 0.5 * step:
        raise InputError(
            f"{path}: its slices lie {gaps.min():.4g} to {gaps.max():.4g} mm apart; evenly spaced slices are needed, "
            "so choose another reconstruction of the scan."
        )
    if deviation > 0.1 * step + 0.05:
        return [f"{path}: its slices lie {gaps.min():.4g} to {gaps.max():.4g} mm apart and are placed evenly, at most "
                f"{deviation:.1f} mm from where they were taken."]  # fmt: skip
    return []


def stack_matrix(path: Path, stack: Sequence[Slice]) -> tuple[np.ndarray, list[str]]:
    """The affine (i, j, k) → LPS mm from the slices' positions; sheared where the gantry was tilted."""
    first = stack[0]
    if not all(s > 0 for s in first.spacing):
        raise InputError(f"{path}: its headers give a pixel spacing of zero; {EXPORT}.")
    positions = np.array([s.position for s in stack])
    step = (positions[-1] - positions[0]) / (len(stack) - 1)
    along = float(step @ first.normal)
    sideways = step - along * first.normal
    drift = positions - positions[0]
    drift = drift - np.outer(drift @ first.normal, step / along)
    if np.abs(drift).max() > 1.0:
        raise InputError(
            f"{path}: its slices are shifted sideways against each other by up to {np.abs(drift).max():.0f} mm; "
            f"name the folder of one reconstruction, or {EXPORT}."
        )
    messages = []
    if np.linalg.norm(sideways) > 1e-3 * along:
        angle = np.degrees(np.arctan2(np.linalg.norm(sideways), along))
        messages.append(f"{path}: its slices are tilted (gantry) by {angle:.1f}°; they are kept in place.")
    else:
        step = along * first.normal
    matrix = np.eye(4)
    matrix[:3, 0] = first.row / np.linalg.norm(first.row) * first.spacing[0]
    matrix[:3, 1] = first.column / np.linalg.norm(first.column) * first.spacing[1]
    matrix[:3, 2] = step
    matrix[:3, 3] = first.position
    return matrix, messages
