"""The preview picture of a segmentation: three planes with organ contours, and the attention maps over them.

Planes lie along the patient's axes and are sampled straight from the volumes, so that scans of any orientation look
alike and no copy of a scan is made. Seen as radiologists do: the patient's right is on the left.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.patches import Patch
from scipy import ndimage

from AGTraining.imaging.volume import Volume
from AGTraining.inference.result import OrganStatistics

PIXEL_MM = 1.0
MAXIMUM_PIXELS = 512
MARGIN_MM = 80.0
WINDOW_HU = (-160.0, 240.0)
AIR_HU = -1024.0
BODY_HU = -300.0
BODY_MARGIN_MM = 12.0
LABEL_SAMPLES = 3_000_000
BACKGROUND = "#101418"
INK = "#e8eaed"
FAINT = "#8a929c"
REFERENCE = "#ffffff"
ATTENTION_MAP = "inferno"
HALO = [patheffects.withStroke(linewidth=2, foreground=BACKGROUND)]
ROW_INCHES = 3.6


@dataclass(frozen=True)
class View:
    """A plane along the patient's axes. across: its normal (0 = x, 1 = y, 2 = z); right, down: LPS axes of the picture
    with the sign of growing pixels; letters: left, right, top, bottom.
    """

    name: str
    across: int
    right: tuple[int, int]
    down: tuple[int, int]
    letters: tuple[str, str, str, str]


VIEWS = (
    View("axial", 2, (0, 1), (1, 1), ("R", "L", "A", "P")),
    View("coronal", 1, (0, 1), (2, -1), ("R", "L", "H", "F")),
    View("sagittal", 0, (1, 1), (2, -1), ("A", "P", "H", "F")),
)


@dataclass(frozen=True)
class Plane:
    """Where a view is cut. points: LPS mm (rows, columns, 3); width, height in mm; position of the cut in mm."""

    view: View
    points: np.ndarray
    width: float
    height: float
    position: float

    def sample(self, volume: Volume, order: int, fill: float) -> np.ndarray:
        """The volume's values at the plane's points (nearest for order 0, linear for 1), `fill` outside of it."""
        inverse = np.linalg.inv(volume.ijk_to_world)
        indices = np.moveaxis(self.points @ inverse[:3, :3].T + inverse[:3, 3], -1, 0)[::-1]
        output = volume.array.dtype if order == 0 else np.float32
        # 'grid-constant' fades into the fill beyond the last voxel's center; half a voxel of edge is clamped instead.
        limits = np.array(volume.array.shape, dtype=np.float64).reshape(3, 1, 1)
        inside = np.all((indices >= -0.5) & (indices <= limits - 0.5), axis=0)
        values = ndimage.map_coordinates(volume.array, indices, output=output, order=order, mode="nearest")
        return np.where(inside, values, np.asarray(fill, dtype=output))


def write_preview(
    path: Path, volume: Volume, labels: Volume, organs: Sequence[OrganStatistics], attention: Mapping[str, Volume]
) -> None:
    """Draws the preview and writes it as PNG.

    volume: the scan; labels: its label map on the same grid; attention: coefficients in [0, 1] by name, one row each.
    """
    figure = draw_preview(volume, labels, organs, attention)
    figure.savefig(path, dpi=100, facecolor=BACKGROUND, format="png")


def draw_preview(
    volume: Volume,
    labels: Volume,
    organs: Sequence[OrganStatistics],
    attention: Mapping[str, Volume],
    reference: Volume | None = None,
    margin_mm: float | None = None,
) -> Figure:
    """The preview as a matplotlib figure with its own Agg canvas (nothing is registered with pyplot).

    reference: a label map to compare with, of the same values, drawn in white. margin_mm: see `choose_planes`.
    """
    everything = labels if reference is None else labels.with_array(np.maximum(labels.array, reference.array))
    planes = choose_planes(volume, everything, margin_mm)
    ratios = [float(np.clip(plane.width / plane.height, 0.4, 2.5)) for plane in planes]
    rows = 1 + len(attention)
    figure = Figure(figsize=(ROW_INCHES * sum(ratios) + 2.6, ROW_INCHES * rows + 0.5), facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    grid = GridSpec(
        rows, 4, figure, width_ratios=[*ratios, 2.4 / ROW_INCHES], wspace=0.03, hspace=0.04,
        left=0.03, right=0.985, bottom=0.01, top=1 - 0.45 / (ROW_INCHES * rows + 0.5),
    )  # fmt: skip
    figure.suptitle(
        _title(volume.name), color=INK, fontsize=11, x=0.03, ha="left", y=1 - 0.12 / (ROW_INCHES * rows + 0.5),
        parse_math=False,
    )  # fmt: skip
    window = _window(volume, planes)
    for column, plane in enumerate(planes):
        gray = np.nan_to_num(plane.sample(volume, 1, AIR_HU), nan=AIR_HU, posinf=window[1], neginf=AIR_HU)
        mask = plane.sample(labels, 0, 0)
        axes = _panel(figure.add_subplot(grid[0, column]), plane, gray, window)
        if reference is not None:
            _contours(axes, plane.sample(reference, 0, 0), organs, width=1.4, color=REFERENCE)
        _contours(axes, mask, organs, width=1.4)
        for row, (name, coefficients) in enumerate(attention.items(), 1):
            axes = _panel(figure.add_subplot(grid[row, column]), plane, gray, window)
            overlay = np.ma.masked_invalid(plane.sample(coefficients, 1, np.nan))
            image = axes.imshow(overlay, cmap=ATTENTION_MAP, vmin=0, vmax=1, alpha=0.55, interpolation="bilinear")
            _contours(axes, mask, organs, width=0.7)
            if column == 0:
                axes.set_ylabel(_map_title(name), color=INK, fontsize=9, parse_math=False)
            if column == len(planes) - 1:
                _color_bar(figure, grid, row, image)
    _legend(figure.add_subplot(grid[0, 3]), organs, reference is not None)
    return figure


def choose_planes(volume: Volume, labels: Volume, margin_mm: float | None = None) -> list[Plane]:
    """Axial, coronal and sagittal plane that show the most of all organs, each organ counting alike.

    Without organs they cut the middle of the grid. They are cropped to the body, and long scans to the organs and
    80 mm above and below them; with margin_mm, to the organs and this margin on all sides.
    """
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * np.asarray(labels.size) - 0.5
    matrix = labels.ijk_to_world
    world = corners @ matrix[:3, :3].T + matrix[:3, 3]
    low, high = world.min(axis=0), world.max(axis=0)
    center = (low + high) / 2
    points, values = _label_points(labels)
    if len(points):
        step = 2.0
        for axis in range(3):
            edges = np.arange(low[axis], high[axis] + step, step)
            score = np.zeros(len(edges) - 1)
            for value in np.unique(values):
                count = np.histogram(points[values == value, axis], edges)[0]
                score += np.sqrt(count / max(count.max(), 1))
            # The middle of the best stretch, not its first slice.
            best = np.flatnonzero(score >= 0.95 * score.max())
            center[axis] = edges[int(best[np.argmin(np.abs(best - np.median(best)))])] + step / 2
        if margin_mm is not None:
            low = np.maximum(low, points.min(axis=0) - margin_mm)
            high = np.minimum(high, points.max(axis=0) + margin_mm)
            return [_plane(view, low, high, center) for view in VIEWS]
        low[2] = max(low[2], points[:, 2].min() - MARGIN_MM)
        high[2] = min(high[2], points[:, 2].max() + MARGIN_MM)
    _crop_to_body(volume, _plane(VIEWS[0], low, high, center), low, high)
    return [_plane(view, low, high, center) for view in VIEWS]


def _crop_to_body(volume: Volume, axial: Plane, low: np.ndarray, high: np.ndarray) -> None:
    """Moves the limits in x and y to the largest part of the axial plane that is not air, with a margin."""
    parts, count = ndimage.label(axial.sample(volume, 1, AIR_HU) > BODY_HU)
    if count == 0:
        return
    largest = int(np.argmax(np.bincount(parts.ravel())[1:]))
    rows, columns = ndimage.find_objects(parts)[largest]
    pixels = axial.points[rows, columns]
    low[:2] = np.maximum(low[:2], pixels[0, 0, :2] - BODY_MARGIN_MM)
    high[:2] = np.minimum(high[:2], pixels[-1, -1, :2] + BODY_MARGIN_MM)


def _label_points(labels: Volume) -> tuple[np.ndarray, np.ndarray]:
    """LPS mm (n, 3) and values of labeled voxels, thinned out in large scans."""
    stride = max(1, round((labels.array.size / LABEL_SAMPLES) ** (1 / 3)))
    thinned = labels.array[::stride, ::stride, ::stride]
    indices = np.nonzero(thinned)
    points = np.stack(indices[::-1], axis=-1) * float(stride)
    return points @ labels.ijk_to_world[:3, :3].T + labels.ijk_to_world[:3, 3], thinned[indices]


def _plane(view: View, low: np.ndarray, high: np.ndarray, center: np.ndarray) -> Plane:
    def along(axis: int, sign: int) -> np.ndarray:
        length = high[axis] - low[axis]
        count = int(np.clip(round(length / PIXEL_MM), 2, MAXIMUM_PIXELS))
        places = low[axis] + (np.arange(count) + 0.5) * length / count
        return places[::sign]

    columns, rows = along(*view.right), along(*view.down)
    points = np.empty((len(rows), len(columns), 3))
    points[..., view.across] = center[view.across]
    points[..., view.right[0]] = columns[None, :]
    points[..., view.down[0]] = rows[:, None]
    width, height = (float(high[axis] - low[axis]) for axis in (view.right[0], view.down[0]))
    return Plane(view, points, width, height, float(center[view.across]))


def _window(volume: Volume, planes: Sequence[Plane]) -> tuple[float, float]:
    """The soft tissue window; for values that are no Hounsfield units, what the planes hold."""
    values = planes[0].sample(volume, 1, np.nan)
    values = values[np.isfinite(values)]
    if values.size == 0 or values.min() < -200:
        return WINDOW_HU
    low, high = (float(v) for v in np.percentile(values, (1, 99)))
    return (low, high) if high > low else (low, low + 1.0)


def _panel(axes: Axes, plane: Plane, gray: np.ndarray, window: tuple[float, float]) -> Axes:
    """A plane's picture in mm-true aspect with its letters."""
    pixel = (plane.height / gray.shape[0]) / (plane.width / gray.shape[1])
    axes.imshow(gray, cmap="gray", vmin=window[0], vmax=window[1], interpolation="bilinear", aspect=pixel)
    axes.set_autoscale_on(False)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_facecolor(BACKGROUND)
    places = ((0.015, 0.5, "left", "center"), (0.985, 0.5, "right", "center"), (0.5, 0.985, "center", "top"),
              (0.5, 0.015, "center", "bottom"))  # fmt: skip
    for letter, (x, y, horizontal, vertical) in zip(plane.view.letters, places, strict=True):
        axes.text(
            x, y, letter, color=INK, fontsize=9, ha=horizontal, va=vertical, transform=axes.transAxes, path_effects=HALO
        )
    direction = (
        "L" if plane.position >= 0 else "R",
        "P" if plane.position >= 0 else "A",
        "H" if plane.position >= 0 else "F",
    )
    text = f"{plane.view.name}  {direction[plane.view.across]} {abs(plane.position):.0f} mm"
    axes.text(
        0.015, 0.985, text, color=INK, fontsize=8, ha="left", va="top", transform=axes.transAxes, path_effects=HALO
    )
    return axes


def _contours(
    axes: Axes, mask: np.ndarray, organs: Sequence[OrganStatistics], width: float, color: str | None = None
) -> None:
    for organ in organs:
        inside = mask == organ.label.value
        if inside.any() and not inside.all():
            # A border of background closes contours at the picture's edge.
            padded = np.pad(inside.astype(np.float32), 1)
            places = np.arange(-1, padded.shape[1] - 1), np.arange(-1, padded.shape[0] - 1)
            axes.contour(*places, padded, levels=[0.5], colors=[color or _color(organ)], linewidths=width)


def _color(organ: OrganStatistics) -> tuple[float, float, float]:
    r, g, b = (c / 255 for c in organ.label.color)
    return r, g, b


def _legend(axes: Axes, organs: Sequence[OrganStatistics], with_reference: bool) -> None:
    axes.set_axis_off()
    handles = [
        Patch(color=_color(organ), label=f"{organ.label.name}\n{organ.volume_ml:.1f} ml")
        if organ.found
        else Patch(facecolor="none", edgecolor=FAINT, label=f"{organ.label.name}\nnot found")
        for organ in organs
    ]
    if with_reference:
        handles.append(Patch(color=REFERENCE, label="reference"))
    legend = axes.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, 0.99),
        frameon=False,
        labelcolor=INK,
        fontsize=9,
        handlelength=1.0,
        labelspacing=0.9,
        borderaxespad=0,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _color_bar(figure: Figure, grid: GridSpec, row: int, image: object) -> None:
    """A color scale of the attention coefficients beside its row."""
    place = grid[row, 3].get_position(figure)
    axes = figure.add_axes((place.x0 + 0.01, place.y0 + 0.15 * place.height, 0.012, 0.7 * place.height))
    bar = figure.colorbar(image, cax=axes)  # type: ignore[arg-type]
    bar.set_label("attention coefficient α", color=INK, fontsize=8)
    bar.ax.tick_params(colors=INK, labelsize=8)


def _map_title(name: str) -> str:
    """`level2.gate1` in words."""
    return "attention, " + name.replace("level", "level ").replace(".gate", ", gate ")


def _title(name: str) -> str:
    """The file and its folder: where that lies is nobody's business who is shown the picture."""
    name = "/".join([part for part in re.split(r"[/\\]", name) if part][-2:])
    return name if len(name) <= 90 else "…" + name[-89:]
