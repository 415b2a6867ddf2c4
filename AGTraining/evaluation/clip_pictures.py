"""Pictures of a clip: how probable each plane is over time, and the best frame of a plane with box and attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from AGTraining.evaluation.preview import ATTENTION_MAP, BACKGROUND, FAINT, INK
from AGTraining.imaging.box import Box
from AGTraining.imaging.frame_sequence import display
from AGTraining.inference.plane_result import ClipFrame, ClipResult

# Planes that are never more probable are not drawn: fourteen curves at zero hide the ones that matter.
DRAWN_FROM = 0.2
BACKGROUND_COLOR = "#8a929c"
BOX_COLOR = "#4fc3f7"
PANEL_INCHES = 4.2

Color = tuple[float, float, float, float] | str


def draw_confidence(result: ClipResult) -> Figure:
    """The probability of each plane over time, or over the frames where the clip has no times.

    Below it, frame by frame, the plane that is named; dots mark the best frame of each plane.
    """
    figure = Figure(figsize=(9.6, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    curves, strip = figure.subplots(2, 1, sharex=True, height_ratios=(10, 1))
    places, label = _places(result)
    probabilities = np.array([frame.result.probabilities for frame in result.frames])
    colors = _colors(result)
    best = result.best_frames()
    named = {frame.result.plane for frame in result.frames}
    for number, name in enumerate(result.classes):
        if name not in named and probabilities[:, number].max() < DRAWN_FROM:
            continue
        is_plane = name != result.background
        curves.plot(
            places, probabilities[:, number], color=colors[name], label=name,
            linewidth=1.8 if is_plane else 1.2, linestyle="-" if is_plane else "--",
            marker="o" if len(places) == 1 else None, zorder=2 if is_plane else 1,
        )  # fmt: skip
        if name in best:
            place = places[result.frames.index(best[name])]
            curves.plot([place], [best[name].result.confidence], "o", color=colors[name], markeredgecolor="black")
    curves.set_ylim(-0.02, 1.02)
    curves.set_ylabel("probability")
    curves.grid(color="#d9dde2", linewidth=0.6)
    curves.set_title(_short(result.name), fontsize=11, loc="left", parse_math=False)
    for text in curves.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9).get_texts():
        text.set_parse_math(False)
    numbers = [result.classes.index(frame.result.plane) for frame in result.frames]
    _draw_strip(strip, places, numbers, [colors[name] for name in result.classes])
    strip.set_xlabel(label)
    return figure


def draw_best_frame(
    image: np.ndarray,
    frame: ClipFrame,
    attention: Mapping[str, np.ndarray],
    spacing_mm: tuple[float, float] | None = None,
) -> Figure:
    """A frame with its box, and beside it the attention map of each scale over it, each relative to its own maximum.

    image: gray (rows, columns); attention: maps that span the crop of the frame's result, by name.
    """
    rows, columns = image.shape
    aspect = 1.0 if spacing_mm is None else spacing_mm[1] / spacing_mm[0]
    width = PANEL_INCHES * float(np.clip(columns / (rows * aspect), 0.5, 2.0))
    figure = Figure(figsize=(width * (1 + len(attention)), PANEL_INCHES + 0.5), facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 1 + len(attention), squeeze=False)[0]
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=PANEL_INCHES / (PANEL_INCHES + 0.5), wspace=0.02)
    time = "" if frame.seconds is None else f", {frame.seconds:.2f} s"
    figure.suptitle(
        f"{frame.result.plane}  {frame.result.confidence:.2f}   (frame {frame.index + 1}{time})",
        color=INK, fontsize=11, x=0.01, ha="left", parse_math=False,
    )  # fmt: skip
    for axes in panels:
        axes.imshow(display(image), cmap="gray", vmin=0, vmax=255, aspect=aspect, extent=(0, columns, rows, 0))
        axes.set_xlim(0, columns)
        axes.set_ylim(rows, 0)
        axes.set_axis_off()
        _draw_box(axes, frame.result.box)
    for axes, (name, values) in zip(panels[1:], attention.items(), strict=True):
        crop = frame.result.crop
        shown = np.asarray(values, dtype=np.float32) / max(float(np.max(values)), 1e-12)
        axes.imshow(
            shown, cmap=ATTENTION_MAP, vmin=0, vmax=1, alpha=0.55, aspect=aspect, interpolation="bilinear",
            extent=(crop.x0, crop.x1, crop.y1, crop.y0),
        )  # fmt: skip
        axes.set_xlim(0, columns)
        axes.set_ylim(rows, 0)
        axes.set_title(f"attention, {name.replace('block', 'block ')}", color=INK, fontsize=9, loc="left")
    if not attention:
        panels[0].text(
            0.015, 0.015, "this model has no attention", color=FAINT, fontsize=8, transform=panels[0].transAxes
        )
    return figure


def _places(result: ClipResult) -> tuple[np.ndarray, str]:
    """Where the frames lie on the axis, and its label: times only where each frame has one, and they rise."""
    seconds = [frame.seconds for frame in result.frames]
    if all(value is not None for value in seconds):
        times = np.array(seconds, dtype=np.float64)
        if len(times) > 1 and bool((np.diff(times) > 0).all()):
            return times, "time (s)"
    return np.array([frame.index + 1 for frame in result.frames], dtype=np.float64), "frame"


def _colors(result: ClipResult) -> dict[str, Color]:
    """A color for each class, the same in all clips of a model; the background is gray."""
    table = matplotlib.colormaps["tab20"]
    # The strong colors of the table first, then their pale partners; its grays are for the background.
    order = [n for n in (*range(0, 20, 2), *range(1, 20, 2)) if n not in (14, 15)]
    planes = [name for name in result.classes if name != result.background]
    colors: dict[str, Color] = {name: table(order[number % len(order)]) for number, name in enumerate(planes)}
    if result.background is not None:
        colors[result.background] = BACKGROUND_COLOR
    return colors


def _draw_strip(axes: Axes, places: np.ndarray, numbers: Sequence[int], colors: Sequence[Color]) -> None:
    """A cell for each frame in the color of the plane that is named."""
    middles = (places[1:] + places[:-1]) / 2
    first = 2 * places[0] - middles[0] if len(middles) else places[0] - 0.5
    last = 2 * places[-1] - middles[-1] if len(middles) else places[-1] + 0.5
    edges = np.concatenate([[first], middles, [last]])
    palette = ListedColormap(list(colors))
    axes.pcolormesh(edges, [0, 1], np.array([numbers]), cmap=palette, vmin=-0.5, vmax=len(colors) - 0.5)
    axes.set_yticks([])
    axes.set_ylabel("plane", rotation=0, ha="right", va="center", fontsize=9)


def _draw_box(axes: Axes, box: Box | None) -> None:
    if box is not None:
        axes.add_patch(
            Rectangle((box.x0, box.y0), box.width, box.height, fill=False, edgecolor=BOX_COLOR, linewidth=1.8)
        )


def _short(name: str) -> str:
    # Names of files may have bytes that are no text.
    name = name.encode("utf-8", "replace").decode("utf-8")
    return name if len(name) <= 90 else "…" + name[-89:]
