"""The report's sections on a run of segmentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from AGTraining.evaluation import page
from AGTraining.training.attention_history import Snapshot, read_snapshots
from AGTraining.training.config import TrainingConfig
from AGTraining.training.report_parts import (
    ATTENTION_MAP,
    INCHES,
    add_legend,
    best_record,
    finish_axes,
    last_record,
    mean_of,
    plot_over_epochs,
    score_text,
    show_image,
    without_ticks,
)


def segmentation_sections(folder: Path, config: TrainingConfig, history: list[dict[str, Any]]) -> list[str]:
    """Summary, curves, DSC by organ, validation slices and attention, as HTML."""
    snapshots = read_snapshots(folder)
    colours = {number: np.array(item.color) / 255 for number, item in enumerate(config.classes, 1)}
    parts = [
        page.paragraph(_summary(config, history)),
        page.heading("Curves"),
        page.picture(_curves(config, history), "Loss, learning rate and DSC over the epochs"),
        page.heading("DSC by organ"),
        _table(config, history),
    ]
    if snapshots:
        parts += [page.heading("Validation slices"), page.paragraph("Dashed: the reference. Solid: the network, after "
                  "the last of the epochs shown. The patient's right is on the left.")]  # fmt: skip
        parts.append(page.picture(_slices(snapshots[max(snapshots)], colours), "Slices with organ outlines"))
    for number, latest in enumerate(snapshots[max(snapshots)] if snapshots else ()):
        if latest.attention:
            # A run that was resumed may show more cases than it did at first.
            seen = {epoch: items[number] for epoch, items in snapshots.items() if number < len(items)}
            title = f"Attention: {latest.case}, slice {latest.k}"
            parts += [page.heading(title), page.paragraph("The coefficients of each gate at chosen epochs, "
                      "0 (dark) to 1 (bright).")]  # fmt: skip
            parts.append(page.picture(_attention(seen), title))
    return parts


def _summary(config: TrainingConfig, history: list[dict[str, Any]]) -> str:
    best = best_record(history)
    text = f"{config.network.name}, {len(history)} of {config.epochs} epochs, seed {config.seed}."
    if best is not None:
        text += f" Best mean DSC {mean_of(best):.3f} in epoch {best['epoch']}."
    return text


def _table(config: TrainingConfig, history: list[dict[str, Any]]) -> str:
    best, last = best_record(history), last_record(history)
    if best is None or last is None:
        return page.paragraph("There was no validation.")
    names = [item.name for item in config.classes]
    rows = [(name, *(score_text(record["scores"].get(name)) for record in (best, last))) for name in names]
    rows.append(("mean", score_text(mean_of(best)), score_text(mean_of(last))))
    head = ("organ", f"best (epoch {best['epoch']})", f"last (epoch {last['epoch']})")
    return page.table(head, rows) + page.paragraph("– : not labelled in any validation case, or left out.")


def _curves(config: TrainingConfig, history: list[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    loss, rate, score = figure.subplots(1, 3)
    plot_over_epochs(loss, history, "loss")
    plot_over_epochs(rate, history, "learning_rate")
    for item in config.classes:
        scored = [record for record in history if item.name in record.get("scores", {})]
        if scored:
            values = [record["scores"][item.name] for record in scored]
            colour = np.array(item.color) / 255
            score.plot([record["epoch"] for record in scored], values, marker=".", label=item.name, color=colour)
    score.set_ylim(0, 1)
    finish_axes(score, "DSC")
    add_legend(score)
    return figure


def _slices(snapshots: list[Snapshot], colours: dict[int, np.ndarray]) -> Figure:
    figure = Figure(figsize=(11, 5.0), layout="constrained")
    for axes, snapshot in zip(figure.subplots(1, len(snapshots), squeeze=False)[0], snapshots, strict=True):
        show_image(axes, snapshot.image)
        for value, colour in colours.items():
            for labels, line in ((snapshot.target, "dashed"), (snapshot.predicted, "solid")):
                mask = labels == value
                if mask.any():
                    axes.contour(mask, levels=[0.5], colors=[colour], linestyles=line, linewidths=1.2)
        axes.set_title(f"{snapshot.case}, slice {snapshot.k}", fontsize=9, parse_math=False)
    return figure


def _attention(by_epoch: dict[int, Snapshot]) -> Figure:
    """A row a gate, a column an epoch; the slice itself comes first."""
    gates = sorted(next(iter(by_epoch.values())).attention)
    rows, columns = len(gates), len(by_epoch) + 1
    figure = Figure(figsize=(INCHES * columns, INCHES * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for row, gate in enumerate(gates):
        latest = by_epoch[max(by_epoch)]
        show_image(grid[row, 0], latest.image)
        grid[row, 0].set_ylabel(gate, fontsize=8)
        for axes, (epoch, snapshot) in zip(grid[row, 1:], by_epoch.items(), strict=True):
            axes.imshow(snapshot.attention[gate], cmap=ATTENTION_MAP, vmin=0, vmax=1, interpolation="bilinear")
            without_ticks(axes)
            if row == 0:
                axes.set_title(f"epoch {epoch}", fontsize=8)
    return figure
