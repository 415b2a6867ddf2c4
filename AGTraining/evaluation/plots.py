"""Box plots of scores and of differences, and Bland-Altman plots of volumes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from AGTraining.evaluation import page
from AGTraining.evaluation.results import Evaluation, OrganDescription
from AGTraining.evaluation.scores import METRIC, OrganScores, State
from AGTraining.evaluation.significance import Comparison, compared_label

BOXES = ("dsc", "precision", "recall", "s2s_mm", "hd95_mm", "surface_dice")
SHARES = {"dsc", "precision", "recall", "surface_dice"}
COLUMNS = 3
ORGAN_INCHES = 0.75
WIDEST_INCHES = 15.0
LEVEL_NAMES_UP_TO = 3
GRAY = "#6b7480"
# Of differences of normal distribution 95 % lie within this many SD: the limits of agreement.
AGREEMENT_SD = 1.96


def box_plots(evaluation: Evaluation) -> Figure:
    """A panel for each measure, a box for each organ: quartiles, whiskers to 1.5 × their distance; a dot a case."""
    figure, panels = _panels(BOXES, len(evaluation.organs))
    for key, axes in zip(BOXES, panels, strict=True):
        values = [np.array([getattr(row, key) for row in evaluation.rows(o.name)]) for o in evaluation.organs]
        _boxes(axes, values, [organ.name for organ in evaluation.organs], list(map(_color, evaluation.organs)))
        axes.set_title(METRIC[key].label, fontsize=10, parse_math=False)
        if key in SHARES:
            axes.set_ylim(-0.03, 1.03)
        else:
            axes.set_ylim(bottom=-0.03 * axes.get_ylim()[1])
    return figure


def difference_plots(comparison: Comparison, colors: dict[str, tuple[float, float, float]]) -> Figure:
    """A panel for each measure, a box for each organ: second − first, a dot for each pair; zero is no difference."""
    metrics = list(dict.fromkeys(test.metric for test in comparison.tests))
    organs = list(dict.fromkeys(test.organ for test in comparison.tests))
    figure, panels = _panels(metrics, len(organs))
    for key, axes in zip(metrics, panels, strict=True):
        values = [comparison.differences[organ, key] for organ in organs]
        _boxes(axes, values, organs, [colors[organ] for organ in organs])
        axes.axhline(0, color=GRAY, linewidth=1, zorder=0)
        better = "above" if METRIC[key].better == "higher" else "below"
        axes.set_title(f"{compared_label(key)}: {better} 0 is better", fontsize=10, parse_math=False)
    return figure


def bland_altman(evaluation: Evaluation) -> Figure:
    """A panel for each organ: prediction − reference over the mean of both, in ml (Bland and Altman 1986).

    Lines: the mean difference, and the limits of agreement at ± 1.96 SD. Organs found or labelled in neither have no
    dot; those in one only are crosses.
    """
    count = len(evaluation.organs)
    columns = min(4, max(count, 1))
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(3.1 * columns + 0.4, 3.0 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[count:]:
        axes.set_axis_off()
    for organ, axes in zip(evaluation.organs, panels, strict=False):
        rows_of_organ = [row for row in evaluation.rows(organ.name) if row.state is not State.EMPTY]
        _agreement(axes, rows_of_organ, _color(organ))
        axes.set_title(organ.name, fontsize=10, parse_math=False)
        axes.set_xlabel("mean of both volumes (ml)", fontsize=8)
    for axes in panels[::columns]:
        axes.set_ylabel("prediction − reference (ml)", fontsize=8)
    return figure


def _agreement(axes: Axes, rows: Sequence[OrganScores], color: tuple[float, float, float]) -> None:
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    if not rows:
        axes.text(0.5, 0.5, "no volumes", ha="center", va="center", transform=axes.transAxes, color=GRAY)
        return
    means = np.array([(row.predicted_ml + row.reference_ml) / 2 for row in rows])
    differences = np.array([row.volume_error_ml for row in rows])
    found = np.array([row.state is State.SCORED for row in rows])
    axes.scatter(means[found], differences[found], s=22, color=color, edgecolor="#1c2126", linewidth=0.4, zorder=3)
    axes.scatter(means[~found], differences[~found], s=30, color="#b3261e", marker="x", zorder=3)
    lines = [(float(differences.mean()), "solid", "mean")]
    if len(rows) > 1:
        reach = AGREEMENT_SD * float(differences.std(ddof=1))
        lines += [
            (lines[0][0] + sign * reach, "dashed", f"mean {word} 1.96 SD") for sign, word in ((1, "+"), (-1, "−"))
        ]
    axes.axhline(0, color="#c3c9d0", linewidth=1, zorder=1)
    for value, style, text in lines:
        axes.axhline(value, color=GRAY, linewidth=1, linestyle=style, zorder=2)
        axes.annotate(
            f"{text}: {page.number(value, 1)}", (1, value), xycoords=("axes fraction", "data"), fontsize=7,
            color="#3c444d", ha="right", va="bottom", xytext=(-2, 1), textcoords="offset points",
        )  # fmt: skip
    axes.margins(x=0.15, y=0.2)


def _panels(metrics: Sequence[str], organs: int) -> tuple[Figure, list[Axes]]:
    width = max(3.4, ORGAN_INCHES * organs + 0.8)
    columns = min(COLUMNS, len(metrics), max(1, int(WIDEST_INCHES / width)))
    rows = math.ceil(len(metrics) / columns)
    figure = Figure(figsize=(width * columns, 3.2 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(metrics) :]:
        axes.set_axis_off()
    return figure, list(panels[: len(metrics)])


def _boxes(
    axes: Axes, values: Sequence[np.ndarray], names: Sequence[str], colors: Sequence[tuple[float, float, float]]
) -> None:
    scatter = np.random.default_rng(0)
    for place, (cases, color) in enumerate(zip(values, colors, strict=True), 1):
        defined = cases[np.isfinite(cases)]
        if not defined.size:
            axes.text(place, 0.5, "–", ha="center", transform=axes.get_xaxis_transform(), color=GRAY)
            continue
        axes.boxplot(
            defined, positions=[place], widths=0.55, showfliers=False, patch_artist=True, manage_ticks=False,
            boxprops={"facecolor": (*color, 0.45), "edgecolor": GRAY}, medianprops={"color": "#1c2126"},
            whiskerprops={"color": GRAY}, capprops={"color": GRAY},
        )  # fmt: skip
        offsets = scatter.uniform(-0.14, 0.14, defined.size)
        axes.scatter(place + offsets, defined, s=9, color="#1c2126", alpha=0.6, linewidth=0, zorder=3)
    axes.set_xticks(range(1, len(names) + 1), names, parse_math=False)
    if len(names) > LEVEL_NAMES_UP_TO:
        for text in axes.get_xticklabels():
            text.set(rotation=30, ha="right", rotation_mode="anchor")
    axes.set_xlim(0.4, len(names) + 0.6)
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", alpha=0.25)


def _color(organ: OrganDescription) -> tuple[float, float, float]:
    red, green, blue = (part / 255 for part in organ.color)
    return red, green, blue
