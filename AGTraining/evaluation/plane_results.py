"""An evaluation of planes and its files: `evaluation.json` holds all of it, `frames.csv` a row for each frame."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import AGTraining
from AGTraining.errors import ConfigurationError
from AGTraining.evaluation.localisation import Localisation, LocalisationScores, localisation_scores
from AGTraining.evaluation.plane_scores import MEASURES, NAN, PlaneScores
from AGTraining.evaluation.results import JSON_FILE, Failure, write_csv, write_json
from AGTraining.imaging.box import Box

FORMAT = "AGTraining planes evaluation"
FORMAT_VERSION = 1
FRAMES_FILE = "frames.csv"
Edges = tuple[float, float, float, float]


@dataclass(frozen=True)
class FrameScore:
    """A frame. label: of the data set; truth, predicted: classes; confidence: the probability of `predicted`.

    probabilities: in the order of the classes. box, found: edges of the known box and of the model's, in pixels.
    """

    frame: str
    patient: str
    label: str
    truth: str
    predicted: str
    confidence: float
    probabilities: tuple[float, ...]
    box: Edges | None = None
    found: Edges | None = None

    @property
    def iou(self) -> float:
        """Of the boxes; NaN where none is known, 0 where the model gives none."""
        if self.box is None:
            return NAN
        return Localisation(self.truth, Box(*self.box), None if self.found is None else Box(*self.found)).iou


@dataclass(frozen=True)
class PlaneEvaluation:
    """What came out. dataset, predictor: names; classes: names; background: the one that is no standard plane.

    localised: whether the model gives boxes at all.
    """

    dataset: str
    predictor: str
    classes: tuple[str, ...]
    background: str | None
    rows: tuple[FrameScore, ...]
    localised: bool = False
    failures: tuple[Failure, ...] = ()
    messages: tuple[str, ...] = ()

    @cached_property
    def scores(self) -> PlaneScores:
        """Accuracy, precision, recall, F1 and calibration."""
        number = {name: n for n, name in enumerate(self.classes)}
        return PlaneScores(
            np.array([number[row.truth] for row in self.rows], dtype=np.int64),
            np.array([number[row.predicted] for row in self.rows], dtype=np.int64),
            np.array([row.confidence for row in self.rows], dtype=np.float64),
            self.classes,
            None if self.background is None else number[self.background],
        )

    def localisation(self, right_only: bool = False) -> tuple[LocalisationScores, ...]:
        """Of the frames whose box is known; right_only: of those whose plane was named rightly."""
        if not self.localised:
            return ()
        return localisation_scores(
            [
                Localisation(row.truth, Box(*row.box), None if row.found is None else Box(*row.found))
                for row in self.rows
                if row.box is not None and (not right_only or row.truth == row.predicted)
            ]
        )


def write_plane_evaluation(evaluation: PlaneEvaluation, folder: Path) -> tuple[Path, Path]:
    """Writes `evaluation.json` and `frames.csv`; returns their paths. Raises OSError when they cannot be written."""
    scores = evaluation.scores
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "version": AGTraining.__version__,
        **asdict(evaluation),
        "summary": {
            "frames": len(evaluation.rows),
            "accuracy": scores.accuracy,
            **{f"macro_{key}": scores.macro(key) for key in MEASURES},
            **{f"macro_{key}_of_planes": scores.macro(key, background=False) for key in MEASURES},
            "ece": scores.ece,
            "mean_confidence": scores.mean_confidence,
            "classes": {
                item.name: asdict(item) | {key: getattr(item, key) for key in MEASURES} for item in scores.classes
            },
            "without_cases": scores.without_cases,
            "confusion": scores.confusion.tolist(),
            "reliability": [asdict(item) for item in scores.bins],
            "localisation": [asdict(item) for item in evaluation.localisation()],
            "localisation_where_right": [asdict(item) for item in evaluation.localisation(right_only=True)],
        },
    }
    edges = ("x0", "y0", "x1", "y1")
    head = [
        "frame", "patient", "label", "truth", "predicted", "right", "confidence", "iou",
        *(f"{which}_{edge}" for which in ("box", "found") for edge in edges),
        *(f"p {name}" for name in evaluation.classes),
    ]  # fmt: skip
    nothing = (NAN,) * len(edges)
    rows = (
        [
            row.frame, row.patient, row.label, row.truth, row.predicted, int(row.truth == row.predicted),
            row.confidence, row.iou, *(row.box or nothing), *(row.found or nothing), *row.probabilities,
        ]
        for row in evaluation.rows
    )  # fmt: skip
    return write_json(document, folder / JSON_FILE), write_csv(head, rows, folder / FRAMES_FILE)


def read_plane_evaluation(path: str | Path) -> PlaneEvaluation:
    """Reads what `write_plane_evaluation` wrote, by its file or folder. Raises ConfigurationError where it is none."""
    path = Path(path)
    if path.is_dir():
        path = path / JSON_FILE
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT or document["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format {document['format']} {document['format_version']}")
        return PlaneEvaluation(
            str(document["dataset"]),
            str(document["predictor"]),
            tuple(document["classes"]),
            document["background"],
            tuple(_row(row) for row in document["rows"]),
            bool(document["localised"]),
            tuple(Failure(str(failure["case"]), str(failure["error"])) for failure in document["failures"]),
            tuple(map(str, document["messages"])),
        )
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be read ({error.strerror}); name a folder that 'evaluate-planes' has written."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"{path}: not an evaluation of planes of this version ({type(error).__name__}: {error}); run "
            "'evaluate-planes' again."
        ) from error


def _row(row: Mapping[str, Any]) -> FrameScore:
    return FrameScore(
        str(row["frame"]),
        str(row["patient"]),
        str(row["label"]),
        str(row["truth"]),
        str(row["predicted"]),
        float(row["confidence"]),
        tuple(map(float, row["probabilities"])),
        _edges(row["box"]),
        _edges(row["found"]),
    )


def _edges(values: Sequence[Any] | None) -> Edges | None:
    if values is None:
        return None
    x0, y0, x1, y1 = map(float, values)
    return x0, y0, x1, y1
