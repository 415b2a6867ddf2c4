"""`report.html` of a run: curves, DSC by organ, and what the network saw; one file that needs no other."""

from __future__ import annotations

import html
import os
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from AGTraining.evaluation import page
from AGTraining.training.attention_history import Snapshot, read_snapshots
from AGTraining.training.config import TrainingConfig

REPORT = "report.html"
ATTENTION_MAP = "inferno"
INCHES = 1.9


def write_report(folder: Path, config: TrainingConfig, history: list[dict[str, Any]]) -> Path:
    """Writes the report of a run, as far as it is, into the run's folder; returns its path."""
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
    settings = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    parts += [page.heading("Configuration"), f"<pre>{html.escape(settings)}</pre>"]
    path = folder / REPORT
    temporary = folder / f".{REPORT}.part"
    temporary.write_text(page.document(config.name, parts), encoding="utf-8")
    os.replace(temporary, path)
    return path


def _summary(config: TrainingConfig, history: list[dict[str, Any]]) -> str:
    best = _best(history)
    text = f"{config.network.name}, {len(history)} of {config.epochs} epochs, seed {config.seed}."
    if best is not None:
        text += f" Best mean DSC {_mean(best):.3f} in epoch {best['epoch']}."
    return text


def _best(history: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The record of the best validation, the first of equals; None without any."""
    return max((record for record in history if record.get("dsc")), key=_mean, default=None)


def _mean(record: dict[str, Any]) -> float:
    return float(np.mean(list(record["dsc"].values())))


def _table(config: TrainingConfig, history: list[dict[str, Any]]) -> str:
    best = _best(history)
    if best is None:
        return page.paragraph("There was no validation.")
    last = next(record for record in reversed(history) if record.get("dsc"))
    names = [item.name for item in config.classes]
    rows = [(name, *(_number(record["dsc"].get(name)) for record in (best, last))) for name in names]
    rows.append(("mean", _number(_mean(best)), _number(_mean(last))))
    head = ("organ", f"best (epoch {best['epoch']})", f"last (epoch {last['epoch']})")
    return page.table(head, rows) + page.paragraph("– : not labelled in any validation case, or left out.")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _curves(config: TrainingConfig, history: list[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    loss, rate, score = figure.subplots(1, 3)
    epochs = [record["epoch"] for record in history]
    for axes, key in ((loss, "loss"), (rate, "learning_rate")):
        axes.plot(epochs, [record[key] for record in history], color="#2b5d8a")
        axes.set(title=key.replace("_", " "), xlabel="epoch")
        axes.grid(alpha=0.3)
    for item in config.classes:
        scored = [record for record in history if item.name in record.get("dsc", {})]
        if scored:
            values = [record["dsc"][item.name] for record in scored]
            colour = np.array(item.color) / 255
            score.plot([record["epoch"] for record in scored], values, marker=".", label=item.name, color=colour)
    score.set(title="DSC", xlabel="epoch", ylim=(0, 1))
    score.grid(alpha=0.3)
    if score.lines:
        for text in score.legend().get_texts():
            text.set_parse_math(False)
    return figure


def _slices(snapshots: list[Snapshot], colours: dict[int, np.ndarray]) -> Figure:
    figure = Figure(figsize=(11, 5.0), layout="constrained")
    for axes, snapshot in zip(figure.subplots(1, len(snapshots), squeeze=False)[0], snapshots, strict=True):
        _show(axes, snapshot.image)
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
        _show(grid[row, 0], latest.image)
        grid[row, 0].set_ylabel(gate, fontsize=8)
        for axes, (epoch, snapshot) in zip(grid[row, 1:], by_epoch.items(), strict=True):
            axes.imshow(snapshot.attention[gate], cmap=ATTENTION_MAP, vmin=0, vmax=1, interpolation="bilinear")
            _bare(axes)
            if row == 0:
                axes.set_title(f"epoch {epoch}", fontsize=8)
    return figure


def _show(axes: Axes, image: np.ndarray) -> None:
    low, high = np.percentile(image, (1, 99.5))
    axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-3), interpolation="bilinear")
    _bare(axes)


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
