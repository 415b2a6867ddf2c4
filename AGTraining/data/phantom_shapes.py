"""Building blocks of the phantom: smooth random fields, signed distances, and a canvas to paint them on.

All lengths are mm. Signed distances are negative inside. Fields and shapes are functions of position, so the same
patient comes out on every grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

Array = np.ndarray
Slices = tuple[slice, slice, slice]

MAX_WARP_MM = 9.0


class SmoothField:
    """A random function of position with unit variance: cubic B-spline over random knots.

    center, extent: mm (x, y, z) of the box it is defined in (beyond it, the values of the border go on);
    knot_mm: distance of the knots, which sets the wavelength.
    """

    def __init__(
        self, rng: np.random.Generator, knot_mm: float, center: tuple[float, float, float], extent: float | Array
    ) -> None:
        size = np.broadcast_to(np.asarray(extent, dtype=np.float64), 3)
        counts = np.ceil(size / knot_mm).astype(int) + 3
        self.knot_mm = knot_mm
        self.origin = np.asarray(center) - (counts - 1) / 2.0 * knot_mm
        # 0.479 is the mean of the squared weights of a cubic B-spline: dividing by its power of 3 gives unit variance.
        self.knots = (rng.standard_normal(tuple(counts[::-1])) / 0.479**1.5).astype(np.float32)

    def _basis(self, axis: int, positions: Array) -> tuple[Array, slice]:
        count = self.knots.shape[2 - axis]
        t = np.clip((positions - self.origin[axis]) / self.knot_mm, 1.0, count - 2.001)
        first = np.floor(t).astype(int) - 1
        lo, hi = int(first.min()), int(first.max()) + 4
        f = t - np.floor(t)
        weights = np.stack([(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3], 1) / 6.0
        basis = np.zeros((len(t), hi - lo), dtype=np.float32)
        rows = np.arange(len(t))
        for n in range(4):
            basis[rows, first - lo + n] = weights[:, n]
        return basis, slice(lo, hi)

    def __call__(self, xs: Array, ys: Array, zs: Array) -> Array:
        """Values on the grid of the 1-D positions, (len(zs), len(ys), len(xs)) float32."""
        bx, cx = self._basis(0, xs)
        by, cy = self._basis(1, ys)
        bz, cz = self._basis(2, zs)
        knots = self.knots[cz, cy, cx]
        rows = np.ascontiguousarray(np.tensordot(knots, bx, (2, 1)))
        values = bz @ rows.reshape(len(knots), -1)
        values = np.ascontiguousarray(values.reshape(len(zs), knots.shape[1], len(xs)).transpose(1, 0, 2))
        values = by @ values.reshape(knots.shape[1], -1)
        return values.reshape(len(ys), len(zs), len(xs)).transpose(1, 0, 2)


@dataclass
class Tube:
    """A tube around a smooth curve through `points` (N, 3), with radii at these points."""

    points: Sequence[Sequence[float] | Array] | Array
    radii: Sequence[float] | Array
    steps: int = 4
    curve: Array = field(init=False)
    curve_radii: Array = field(init=False)

    def __post_init__(self) -> None:
        """Samples the Catmull-Rom curve through the points, `steps` pieces between neighbours."""
        p = np.column_stack([np.asarray(self.points, float), np.asarray(self.radii, float)])
        padded = np.vstack([2 * p[0] - p[1], p, 2 * p[-1] - p[-2]])
        t = np.linspace(0, 1, self.steps, endpoint=False)[:, None]
        pieces = []
        for a, b, c, d in zip(padded[:-3], padded[1:-2], padded[2:-1], padded[3:], strict=True):
            pieces.append(
                0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
            )
        curve = np.vstack([*pieces, p[-1:]])
        self.curve, self.curve_radii = (
            curve[:, :3].astype(np.float32),
            np.maximum(curve[:, 3], 0.5).astype(np.float32),
        )


class Canvas:
    """A slab of the image under construction: HU and labels, and each voxel's place in the template patient.

    xs, ys, zs: world positions (mm) of the voxels along the axes; the arrays are (K, J, I).
    x, y, z: template coordinates of every voxel; to_world: (4, 4) template → world, without the warp.
    soft_mm: width of the ramp that an edge is drawn with.
    """

    def __init__(
        self, xs: Array, ys: Array, zs: Array, to_world: Array, warp: list[SmoothField], soft_mm: float
    ) -> None:
        self.xs, self.ys, self.zs = xs, ys, zs
        self.to_world = to_world
        self.soft_mm = soft_mm
        inverse = np.linalg.inv(to_world)
        place = []
        for row, field_ in zip(inverse[:3], warp, strict=True):
            value = np.clip(field_(xs, ys, zs) * 3.2, -MAX_WARP_MM, MAX_WARP_MM)
            value += (row[0] * xs)[None, None, :].astype(np.float32)
            value += (row[1] * ys)[None, :, None].astype(np.float32)
            value += (row[2] * zs + row[3])[:, None, None].astype(np.float32)
            place.append(value)
        self.x, self.y, self.z = place
        shape = self.x.shape
        self.hu = np.full(shape, -1000.0, dtype=np.float32)
        self.labels = np.zeros(shape, dtype=np.uint8)
        self.texture = self.strands = self.hu

    def box(self, low: Sequence[float] | Array, high: Sequence[float] | Array, margin: float = 0.0) -> Slices | None:
        """Slices that surely hold a box given in template coordinates; None where it is outside of the slab."""
        pairs = [(low[n], high[n]) for n in range(3)]
        corners = np.array([[x, y, z, 1.0] for x in pairs[0] for y in pairs[1] for z in pairs[2]])
        world = (corners @ self.to_world.T)[:, :3]
        lo, hi = (world.min(axis=0) - margin - MAX_WARP_MM, world.max(axis=0) + margin + MAX_WARP_MM)
        slices = []
        for axis, positions in ((2, self.zs), (1, self.ys), (0, self.xs)):
            first, last = np.searchsorted(positions, (lo[axis], hi[axis]))
            if last <= first:
                return None
            slices.append(slice(int(first), int(last)))
        return slices[0], slices[1], slices[2]

    def place(self, where: Slices) -> tuple[Array, Array, Array]:
        """Template coordinates in the slices."""
        return self.x[where], self.y[where], self.z[where]

    def local(self, where: Slices, center: Array, frame: Array) -> tuple[Array, Array, Array]:
        """Coordinates in the slices along the columns of `frame`, from `center`."""
        d = [values - np.float32(at) for values, at in zip(self.place(where), center, strict=True)]
        m = frame.astype(np.float32)
        u, v, w = (d[0] * m[0, n] + d[1] * m[1, n] + d[2] * m[2, n] for n in range(3))
        return u, v, w

    def field(self, function: SmoothField, where: Slices) -> Array:
        """A smooth field's values in the slices."""
        return function(self.xs[where[2]], self.ys[where[1]], self.zs[where[0]])

    def paint(self, where: Slices, distance: Array, hu: float | Array, label: int | None = None) -> None:
        """Blends `hu` in where the distance is negative; sets the label there (None: leaves labels alone)."""
        weight = np.clip(0.5 - distance / np.float32(self.soft_mm), 0.0, 1.0)
        target = self.hu[where]
        target += weight * (hu - target)
        if label is not None:
            self.labels[where][distance < 0] = label

    def paint_all(self, distance: Array, hu: float | Array) -> None:
        """`paint` over the whole slab, without labels."""
        self.paint((slice(None), slice(None), slice(None)), distance, hu)

    def tube(self, tube: Tube, margin: float = 6.0) -> tuple[Slices, Array, Array] | None:
        """Slices, signed distance (large far away) and position along the curve (index of its samples)."""
        reach = tube.curve_radii.max() + margin
        where = self.box(tube.curve.min(axis=0), tube.curve.max(axis=0), reach)
        if where is None:
            return None
        shape = tuple(s.stop - s.start for s in where)
        distance = np.full(shape, 1e3, dtype=np.float32)
        along = np.zeros(shape, dtype=np.float32)
        for n in range(len(tube.curve) - 1):
            a, b = tube.curve[n], tube.curve[n + 1]
            ra, rb = tube.curve_radii[n : n + 2]
            part = self.box(np.minimum(a, b), np.maximum(a, b), max(ra, rb) + margin)
            if part is None:
                continue
            local = tuple(
                slice(max(s.start, w.start) - w.start, min(s.stop, w.stop) - w.start)
                for s, w in zip(part, where, strict=True)
            )
            x, y, z = self.place(part)
            ab = (b - a).astype(np.float32)
            dx, dy, dz = (x - np.float32(a[0]), y - np.float32(a[1]), z - np.float32(a[2]))
            t = np.clip((dx * ab[0] + dy * ab[1] + dz * ab[2]) / np.float32(max(float(ab @ ab), 1e-6)), 0, 1)
            dx -= t * ab[0]
            dy -= t * ab[1]
            dz -= t * ab[2]
            new = np.sqrt(dx * dx + dy * dy + dz * dz) - (np.float32(ra) + t * np.float32(rb - ra))
            old = distance[local]
            along[local] = np.where(new < old, t + n, along[local])
            np.minimum(old, new, out=old)
        return where, distance, along


def overlap(a: Slices, b: Slices) -> tuple[Slices, Slices, Slices] | None:
    """Where two boxes overlap: as slices of the slab, of the first, and of the second. None: nowhere."""
    parts = []
    for p, q in zip(a, b, strict=True):
        lo, hi = max(p.start, q.start), min(p.stop, q.stop)
        if hi <= lo:
            return None
        parts.append((slice(lo, hi), slice(lo - p.start, hi - p.start), slice(lo - q.start, hi - q.start)))
    slab, first, second = zip(*parts, strict=True)
    return slab, first, second


def ellipsoid(x: Array, y: Array, z: Array, radii: tuple[float, float, float]) -> Array:
    """Approximate signed distance to an axis-parallel ellipsoid around 0."""
    radii = (float(radii[0]), float(radii[1]), float(radii[2]))
    f = np.sqrt((x / radii[0]) ** 2 + (y / radii[1]) ** 2 + (z / radii[2]) ** 2)
    g = np.sqrt((x / radii[0] ** 2) ** 2 + (y / radii[1] ** 2) ** 2 + (z / radii[2] ** 2) ** 2)
    return np.asarray(f * (f - 1.0) / np.maximum(g, 1e-6))


def superellipse(x: Array, y: Array, a: float | Array, b: float | Array, power: float) -> Array:
    """Approximate signed distance to |x/a|^p + |y/b|^p = 1, along the ray from the center."""
    # exp and log are vectorised, power is not.
    u, v = np.log(np.abs(x / a) + 1e-6), np.log(np.abs(y / b) + 1e-6)
    f = np.exp(np.log(np.exp(u * power) + np.exp(v * power)) / power)
    r = np.sqrt(x * x + y * y)
    return np.asarray(np.where(f > 0.05, r - r / np.maximum(f, 0.05), -np.minimum(a, b)))


def smooth_max(a: Array, b: Array, k: float) -> Array:
    """The larger of two distances with the edge rounded over about k mm."""
    h = np.clip(0.5 + 0.5 * (a - b) / k, 0.0, 1.0)
    return np.asarray(b + (a - b) * h + k * h * (1.0 - h))


def rotation(axis: int, degrees: float) -> Array:
    """(3, 3) rotation about axis 0, 1 or 2."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(3)
    p, q = [(1, 2), (2, 0), (0, 1)][axis]
    matrix[p, p] = matrix[q, q] = c
    matrix[p, q], matrix[q, p] = -s, s
    return matrix
