"""A procedural abdominal CT with labels: the bundled sample, the tests' patient, and a helper in training.

The patient is a function of the seed alone; spacing, field of view and orientation only choose where it is sampled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from AGTraining.data.phantom_organs import paint_patient
from AGTraining.data.phantom_patient import PHASES, Kidneys, Patient, Phase
from AGTraining.data.phantom_shapes import Canvas
from AGTraining.imaging.volume import Volume

_AXES = {"R": (0, -1), "L": (0, 1), "A": (1, -1), "P": (1, 1), "I": (2, -1), "S": (2, 1)}
_SLAB_VOXELS = 1_500_000


@dataclass(frozen=True)
class PhantomOptions:
    """What to make.

    seed: the patient. spacing: mm along the grid's axes i, j, k. size: voxels along i, j, k; field_of_view_mm:
    extent along the patient's axes (left–right, front–back, feet–head); give one of the two, or neither for the
    whole abdomen. phase: contrast phase (None: drawn). noise_hu: standard deviation in soft tissue (None: drawn;
    0: none). kidneys: which ones the patient has. orientation: the patient directions that i, j and k run to,
    "LPS" being DICOM's usual order; any of the 48. oral_contrast: whether the patient drank contrast before the scan.
    """

    seed: int = 0
    spacing: tuple[float, float, float] = (0.8, 0.8, 2.5)
    size: tuple[int, int, int] | None = None
    field_of_view_mm: tuple[float, float, float] | None = None
    phase: Phase | None = None
    noise_hu: float | None = None
    kidneys: Kidneys = "both"
    orientation: str = "LPS"
    oral_contrast: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError with a sentence on what is wrong."""
        if self.seed < 0:
            raise ValueError(f"The phantom's seed must not be negative, but is {self.seed}.")
        if len(self.spacing) != 3 or not all(np.isfinite(s) and s > 0 for s in self.spacing):
            raise ValueError(f"The phantom's spacing must be three positive lengths in mm, but is {self.spacing}.")
        if self.size is not None and self.field_of_view_mm is not None:
            raise ValueError("Give the phantom's size or its field of view, not both.")
        if self.size is not None and (len(self.size) != 3 or not all(int(n) == n and n >= 1 for n in self.size)):
            raise ValueError(f"The phantom's size must be three positive numbers of voxels, but is {self.size}.")
        fov = self.field_of_view_mm
        if fov is not None and (len(fov) != 3 or not all(np.isfinite(s) and s > 0 for s in fov)):
            raise ValueError(f"The phantom's field of view must be three positive lengths in mm, but is {fov}.")
        if self.phase is not None and self.phase not in PHASES:
            raise ValueError(f"The phantom's phase must be one of {', '.join(PHASES)}, but is {self.phase!r}.")
        if self.noise_hu is not None and not (np.isfinite(self.noise_hu) and self.noise_hu >= 0):
            raise ValueError(f"The phantom's noise must be 0 HU or more, but is {self.noise_hu}.")
        if self.kidneys not in ("both", "left", "right"):
            raise ValueError(f"The phantom's kidneys must be both, left or right, but are {self.kidneys!r}.")
        if sorted(_AXES[c][0] if c in _AXES else -1 for c in self.orientation) != [0, 1, 2]:
            raise ValueError(
                f"The phantom's orientation must name each patient axis once, such as LPS or RAS, "
                f"but is {self.orientation!r}."
            )


@dataclass(frozen=True)
class Phantom:
    """ct: int16 HU; labels: uint8 on the same grid (`phantom_patient.LABELS`); phase: the contrast phase."""

    ct: Volume
    labels: Volume
    phase: str


def make_phantom(options: PhantomOptions = PhantomOptions()) -> Phantom:
    """The labelled CT of the options' patient, on the options' grid."""
    draw = np.random.default_rng([options.seed, 77])
    phase = options.phase or PHASES[int(draw.choice(3, p=[0.2, 0.25, 0.55]))]
    patient = Patient(options.seed, phase, options.kidneys, options.oral_contrast)

    axes = [_AXES[c] for c in options.orientation]
    spacing = np.empty(3)
    for n, (axis, _) in enumerate(axes):
        spacing[axis] = options.spacing[n]
    half_width, half_depth, behind = patient.skin_mm
    origin = patient.to_world[:3, 3] + (0.0, behind + 12.0, 5.0)
    if options.size is None:
        extent = options.field_of_view_mm or (2 * half_width + 30, 2 * half_depth + 50, 250.0)
        count = np.maximum(np.ceil(np.asarray(extent) / spacing - 1e-6), 1).astype(int)
    else:
        count = np.empty(3, dtype=int)
        for n, (axis, _) in enumerate(axes):
            count[axis] = options.size[n]
    positions = [origin[a] + (np.arange(count[a]) - (count[a] - 1) / 2) * spacing[a] for a in range(3)]

    ct, labels = _render(patient, positions, spacing, options)
    order = [axis for axis, _ in axes]
    matrix = np.eye(4)
    matrix[:3, :3] = 0
    matrix[:3, 3] = [p[0] for p in positions]
    flips = []
    for n, (axis, sign) in enumerate(axes):
        matrix[axis, n] = sign * spacing[axis]
        if sign < 0:
            matrix[axis, 3] = positions[axis][-1]
        flips.append(slice(None, None, sign))
    name = f"phantom {options.seed}"

    def arrange(array: np.ndarray) -> np.ndarray:
        moved = array.transpose([2 - order[2], 2 - order[1], 2 - order[0]])
        return np.ascontiguousarray(moved[flips[2], flips[1], flips[0]])

    return Phantom(Volume(arrange(ct), matrix, name), Volume(arrange(labels), matrix, f"{name} labels"), phase)


def _render(
    patient: Patient, positions: list[np.ndarray], spacing: np.ndarray, options: PhantomOptions
) -> tuple[np.ndarray, np.ndarray]:
    """CT (int16) and labels (uint8), (z, y, x) ascending, painted in slabs so that memory stays bounded."""
    xs, ys, zs = positions
    shape = (len(zs), len(ys), len(xs))
    ct, labels = np.empty(shape, dtype=np.int16), np.empty(shape, dtype=np.uint8)
    noise = _Noise(patient, options, spacing)
    # Thick slices average what lies in them: three thin ones are painted for each.
    thick = spacing[2] >= 3.0 and spacing[2] >= 2.0 * min(spacing[0], spacing[1])
    within = np.array([-1, 0, 1]) * spacing[2] / 3 if thick else np.zeros(1)
    edge = float(np.prod(spacing / (1, 1, len(within)))) ** (1 / 3)
    blur = (patient.blur_mm / spacing[1], patient.blur_mm / spacing[0])
    depth = max(1, _SLAB_VOXELS // (shape[1] * shape[2] * len(within)))
    for first in range(0, len(zs), depth):
        part = slice(first, min(first + depth, len(zs)))
        canvas = Canvas(xs, ys, (zs[part, None] + within).ravel(), patient.to_world, patient.warp, max(1.3, 0.8 * edge))
        paint_patient(patient, canvas)
        _paint_table(patient, canvas)
        hu = canvas.hu.reshape(-1, len(within), *shape[1:]).mean(axis=1)
        labels[part] = canvas.labels[len(within) // 2 :: len(within)]
        for k, image in enumerate(hu, start=first):
            ct[k] = np.clip(np.rint(ndimage.gaussian_filter(image, blur) + noise.next_slice(image.shape)), -1024, 3000)
    return ct, labels


class _Noise:
    """CT noise slice by slice: correlated in the plane by the kernel, and a little between neighbouring slices."""

    def __init__(self, patient: Patient, options: PhantomOptions, spacing: np.ndarray) -> None:
        self.rng = np.random.default_rng([options.seed, 5])
        plane = float(np.sqrt(spacing[0] * spacing[1]))
        # Coarse pixels average fine noise.
        drawn = patient.noise_hu * min(1.0, (0.9 / plane) ** 0.6)
        self.hu = drawn if options.noise_hu is None else options.noise_hu
        self.sigma = (1.5 * patient.blur_mm / spacing[1], 1.5 * patient.blur_mm / spacing[0])
        self.carry = float(np.exp(-spacing[2] / 1.5))
        self.last: np.ndarray | None = None

    def next_slice(self, shape: tuple[int, ...]) -> np.ndarray:
        """The next slice's noise in HU, (y, x)."""
        if self.hu == 0:
            return np.zeros(shape, dtype=np.float32)
        white = self.rng.standard_normal(shape, dtype=np.float32)
        noise = ndimage.gaussian_filter(white, self.sigma)
        # Filtered back projection leaves little noise of low frequency.
        noise -= 0.7 * ndimage.gaussian_filter(white, [2.5 * s for s in self.sigma])
        noise *= self.hu / max(float(noise.std()), 1e-6)
        if self.last is not None:
            noise = self.carry * self.last + np.float32(np.sqrt(1 - self.carry**2)) * noise
        self.last = noise
        return noise


def _paint_table(patient: Patient, canvas: Canvas) -> None:
    """The CT's table: a curved shell under the patient, in world coordinates (it does not turn with the patient)."""
    _, half_depth, behind = patient.skin_mm
    back = float(patient.to_world[1, 3] + (behind + half_depth) * patient.to_world[1, 1]) + patient.table_gap
    x = (canvas.xs - patient.to_world[0, 3])[None, :]
    y = canvas.ys[:, None]
    radius = (320.0, 480.0, 2000.0)[patient.table_kind]
    depth = np.hypot(x, y - (back - radius)) - radius
    wide = np.abs(x) - 205
    shell = np.maximum(np.abs(depth - 2) - 1.2, wide)
    inside = np.maximum(np.abs(depth - 14) - 12, wide)
    for distance, hu in ((inside, -940.0), (shell, -250.0 + 120.0 * patient.table_kind)):
        weight = np.clip(0.5 - distance / canvas.soft_mm, 0, 1)[None].astype(np.float32)
        weight = np.where((canvas.hu < -700) & (canvas.y > 60), weight, 0)
        canvas.hu += weight * (hu - canvas.hu)
