"""How well boxes lie on structures (Schlemper et al. 2019, weakly supervised localization): IOU and correctness."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from AGTraining.imaging.box import Box

# A box is right above this IOU, and relatively right above this part of its class's best IOU.
CORRECT = 0.5


@dataclass(frozen=True)
class Localisation:
    """A frame with a known box. plane: its class; found: the box that was given, None: none was."""

    plane: str
    box: Box
    found: Box | None

    @property
    def iou(self) -> float:
        """Intersection over union; 0 where no box was given."""
        return 0.0 if self.found is None else self.box.iou(self.found)


@dataclass(frozen=True)
class LocalisationScores:
    """Boxes of a class, or of all. IOU: mean, SD of the sample (NaN for one frame) and best; shares from 0 to 1.

    missing: frames for which no box was given; they count with IOU 0.
    correctness: the share of frames with IOU > 0.5. relative_correctness: with IOU > 0.5 × the best of their class.
    """

    name: str
    frames: int
    missing: int
    iou: float
    iou_sd: float
    best: float
    correctness: float
    relative_correctness: float


def localisation_scores(frames: Sequence[Localisation], name: str = "all") -> tuple[LocalisationScores, ...]:
    """The scores of each class, in the order of their first frames, and, of several classes, of all frames as `name`.

    Empty without frames.
    """
    groups: dict[str, list[Localisation]] = defaultdict(list)
    for frame in frames:
        groups[frame.plane].append(frame)
    best = {plane: max(frame.iou for frame in group) for plane, group in groups.items()}
    rows = [_scores(plane, group, best) for plane, group in groups.items()]
    if len(rows) > 1:
        rows.append(_scores(name, frames, best))
    return tuple(rows)


def _scores(name: str, frames: Sequence[Localisation], best: dict[str, float]) -> LocalisationScores:
    ious = np.array([frame.iou for frame in frames])
    # A class whose boxes all miss has none that is relatively right.
    relative = [frame.iou > CORRECT * best[frame.plane] for frame in frames]
    return LocalisationScores(
        name,
        len(frames),
        sum(frame.found is None for frame in frames),
        float(ious.mean()),
        float(ious.std(ddof=1)) if len(ious) > 1 else math.nan,
        float(ious.max()),
        float((ious > CORRECT).mean()),
        float(np.mean(relative)),
    )
