"""What the reports of all tasks are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

ATTENTION_MAP = "inferno"
INCHES = 1.9
BLUE = "#2b5d8a"

History = Sequence[dict[str, Any]]


def best_record(history: History) -> dict[str, Any] | None:
    """The record of the best validation, the first of equals; None without any."""
    return max((record for record in history if record.get("scores")), key=mean_of, default=None)


def last_record(history: History) -> dict[str, Any] | None:
    """The record of the last validation; None without any."""
    return next((record for record in reversed(history) if record.get("scores")), None)


def mean_of(record: dict[str, Any]) -> float:
    """The mean of a validation's scores."""
    return float(np.mean(list(record["scores"].values())))


def score_text(value: float | None) -> str:
    """A score in a table; a dash where there is none."""
    return "–" if value is None else f"{value:.3f}"


def plot_over_epochs(axes: Axes, history: History, key: str) -> None:
    """A number of each epoch's record as a curve."""
    axes.plot([record["epoch"] for record in history], [record[key] for record in history], color=BLUE)
    finish_axes(axes, key.replace("_", " "))


def finish_axes(axes: Axes, title: str) -> None:
    """Title, a label for the epochs, and a grid."""
    axes.set(title=title, xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)


def add_legend(axes: Axes, **options: Any) -> None:
    """A legend of the lines that have names, whatever signs these have."""
    if axes.lines:
        for text in axes.legend(**options).get_texts():
            text.set_parse_math(False)


def show_image(axes: Axes, image: np.ndarray) -> None:
    """A picture in gray, without its few brightest pixels setting the scale."""
    low, high = np.percentile(image, (1, 99.5))
    axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-3), interpolation="bilinear")
    without_ticks(axes)


def without_ticks(axes: Axes) -> None:
    """Pictures have no scale of numbers."""
    axes.set_xticks([])
    axes.set_yticks([])
