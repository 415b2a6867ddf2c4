"""Pictures of how planes are told apart: the confusion matrix and the reliability of the probabilities."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from AGTraining.evaluation.plane_scores import PlaneScores

INK, GRAY, BLUE, RED = "#1c2126", "#6b7480", "#3b6fa5", "#b3261e"
# Above this share of a row's frames a cell is so dark that its number is white.
DARK = 0.55


def confusion_plot(scores: PlaneScores) -> Figure:
    """True classes in rows, predicted ones in columns: frames as numbers, their share of the row as color."""
    count = len(scores.classes)
    side = max(3.6, 0.42 * count + 2.2)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    totals = scores.confusion.sum(axis=1, keepdims=True)
    shares = np.where(totals > 0, scores.confusion / np.maximum(totals, 1), 0.0)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row in range(count):
        for column in range(count):
            number = int(scores.confusion[row, column])
            if number:
                color = "white" if shares[row, column] > DARK else INK
                axes.text(column, row, str(number), ha="center", va="center", color=color, fontsize=8)
    names = [item.name for item in scores.classes]
    axes.set_xticks(range(count), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=8, parse_math=False)
    counted = [f"{item.name} ({item.cases})" for item in scores.classes]
    axes.set_yticks(range(count), counted, fontsize=8, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true (frames)")
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#d5dadf", linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    figure.colorbar(image, ax=axes, shrink=0.75, label="share of the true class")
    return figure


def reliability_plot(scores: PlaneScores) -> Figure:
    """Accuracy over confidence, with how many predictions there are of each; on the diagonal a model is calibrated."""
    figure = Figure(figsize=(4.6, 4.8), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    filled = [item for item in scores.bins if item.count]
    width = scores.bins[0].high - scores.bins[0].low
    middles = [(item.low + item.high) / 2 for item in filled]
    upper.bar(middles, [item.accuracy for item in filled], width=0.94 * width, color=BLUE, alpha=0.75, label="accuracy")
    # What lies between both is what the calibration error sums up.
    upper.scatter(
        [item.confidence for item in filled], [item.accuracy for item in filled], s=14, color=INK, zorder=3,
        label="mean confidence",
    )  # fmt: skip
    upper.plot([0, 1], [0, 1], color=GRAY, linestyle="dashed", linewidth=1)
    upper.set_ylim(0, 1.03)
    upper.set_ylabel("accuracy")
    upper.set_title(f"ECE {scores.ece:.3f}", fontsize=10)
    upper.legend(loc="upper left", fontsize=8)
    lower.bar(middles, [item.count for item in filled], width=0.94 * width, color=GRAY)
    lower.set_xlim(0, 1)
    lower.set_xlabel("confidence")
    lower.set_ylabel("frames")
    for axes in (upper, lower):
        axes.grid(axis="y", alpha=0.25)
        axes.tick_params(labelsize=8)
    return figure
