"""The report's sections on a run of planes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from AGTraining.evaluation import page
from AGTraining.evaluation.plane_plots import confusion_plot
from AGTraining.evaluation.plane_scores import PlaneScores
from AGTraining.training.plane_history import PlaneSnapshot, read_plane_snapshots
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

if TYPE_CHECKING:
    from AGTraining.training.planes_config import PlanesConfig


def plane_sections(folder: Path, config: PlanesConfig, history: list[dict[str, Any]]) -> list[str]:
    """Summary, curves, table by class, confusion matrix and example frames, as HTML."""
    best, last = best_record(history), last_record(history)
    parts = [
        page.paragraph(_summary(config, history)),
        page.heading("Curves"),
        page.picture(_curves(config, history), "Loss, learning rate, accuracy and F1 over the epochs"),
        page.heading("By class"),
    ]
    if best is None or last is None:
        parts.append(page.paragraph("There was no validation."))
    else:
        scores = _scores(config, best)
        parts += [
            _table(scores, best, last),
            page.heading(f"Confusion matrix (epoch {best['epoch']})"),
            page.picture(confusion_plot(scores), "Frames by true and predicted class"),
        ]
    snapshots = read_plane_snapshots(folder)
    if snapshots:
        parts += [
            page.heading("Validation frames"),
            page.paragraph(
                "What the network said, and the attention coefficients of each block at chosen epochs, dark to bright "
                "from the least to the most of each map."
            ),
        ]
        for row, latest in enumerate(snapshots[max(snapshots)]):
            # A run that was resumed may show more frames than it did at first.
            seen = {epoch: items[row] for epoch, items in snapshots.items() if row < len(items)}
            parts.append(page.picture(_frames(seen), f"{latest.case}: {latest.target}"))
    return parts


def _summary(config: PlanesConfig, history: list[dict[str, Any]]) -> str:
    best = best_record(history)
    text = f"{config.network.name}, {len(history)} of {config.epochs} epochs, seed {config.seed}."
    if best is not None:
        accuracy = best["details"]["accuracy"]
        text += f" Best macro F1 {mean_of(best):.3f} in epoch {best['epoch']}, with an accuracy of {accuracy:.3f}."
    return text


def _curves(config: PlanesConfig, history: list[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(14, 3.4), layout="constrained")
    loss, rate, together, classes = figure.subplots(1, 4)
    plot_over_epochs(loss, history, "loss")
    plot_over_epochs(rate, history, "learning_rate")
    scored = [record for record in history if record.get("scores")]
    epochs = [record["epoch"] for record in scored]
    if scored:
        loss.plot(epochs, [record["details"]["loss"] for record in scored], marker=".", color="#b5622b")
        loss.legend(["training", "validation"])
        accuracy = [record["details"]["accuracy"] for record in scored]
        together.plot(epochs, accuracy, marker=".", label="accuracy")
        together.plot(epochs, [mean_of(record) for record in scored], marker=".", label="macro F1")
    for item in config.classes:
        own = [record for record in scored if item.name in record["scores"]]
        if own:
            values = [record["scores"][item.name] for record in own]
            classes.plot([record["epoch"] for record in own], values, marker=".", label=item.name)
    if config.fused_from_epoch and len(history) > config.fused_from_epoch:
        for axes in (loss, together, classes):
            axes.axvline(config.fused_from_epoch + 0.5, color="gray", linestyle="dotted")
    for axes, title in ((together, "accuracy and macro F1"), (classes, "F1 by class")):
        axes.set_ylim(0, 1)
        finish_axes(axes, title)
        add_legend(axes, fontsize=6)
    return figure


def _scores(config: PlanesConfig, record: dict[str, Any]) -> PlaneScores:
    """The scores that belong to a record's confusion matrix."""
    confusion = np.array(record["details"]["confusion"])
    true, predicted = (np.repeat(numbers, confusion.ravel()) for numbers in np.indices(confusion.shape).reshape(2, -1))
    return PlaneScores(true, predicted, np.ones(len(true)), [item.name for item in config.classes])


def _table(scores: PlaneScores, best: dict[str, Any], last: dict[str, Any]) -> str:
    rows = [
        (
            item.name,
            str(item.cases),
            *(page.number(value, 3) for value in (item.precision, item.recall, item.f1)),
            score_text(last["scores"].get(item.name)),
        )
        for item in scores.classes
    ]
    means = (page.number(scores.macro(measure), 3) for measure in ("precision", "recall", "f1"))
    rows.append(("mean", str(scores.confusion.sum()), *means, score_text(mean_of(last))))
    head = (
        "class",
        "frames",
        "precision",
        "recall",
        f"F1 (best, epoch {best['epoch']})",
        f"F1 (epoch {last['epoch']})",
    )
    return page.table(head, rows) + page.paragraph("– : no validation frame shows it.")


def _frames(by_epoch: dict[int, PlaneSnapshot]) -> Figure:
    """A row a block, a column an epoch; the frame itself comes first. One row without blocks that attend."""
    latest = by_epoch[max(by_epoch)]
    blocks = sorted(latest.attention)
    rows, columns = max(1, len(blocks)), len(by_epoch) + 1
    figure = Figure(figsize=(INCHES * 1.3 * columns, INCHES * rows + 0.5), layout="constrained")
    figure.suptitle(f"{latest.case}: {latest.target}", fontsize=9, parse_math=False)
    grid = figure.subplots(rows, columns, squeeze=False)
    for row in range(rows):
        show_image(grid[row, 0], latest.image)
        if blocks:
            grid[row, 0].set_ylabel(blocks[row], fontsize=8)
        for axes, (epoch, snapshot) in zip(grid[row, 1:], by_epoch.items(), strict=True):
            without_ticks(axes)
            if blocks:
                alpha = snapshot.attention[blocks[row]]
                axes.imshow(
                    alpha, cmap=ATTENTION_MAP, interpolation="bilinear", vmin=alpha.min(), vmax=alpha.max() or 1
                )
            else:
                show_image(axes, snapshot.image)
            if row == 0:
                said = f"epoch {epoch}: {snapshot.predicted} {snapshot.confidence:.2f}"
                axes.set_title(said, fontsize=7, parse_math=False)
    return figure
