"""An evaluation, and its files: `evaluation.json` holds all of it, `scores.csv` a row for each case and organ."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import AGTraining
from AGTraining.errors import ConfigurationError
from AGTraining.evaluation.organs import Organ
from AGTraining.evaluation.scores import METRICS, NAN, OrganScores, State, Summary, summarise

FORMAT = "AGTraining evaluation"
FORMAT_VERSION = 1
JSON_FILE = "evaluation.json"
CSV_FILE = "scores.csv"


@dataclass(frozen=True)
class Failure:
    """A case without scores, and why: a sentence."""

    case: str
    error: str


@dataclass(frozen=True)
class OrganDescription(Organ):
    """An organ of an evaluation with its color: RGB, 0 to 255."""

    color: tuple[int, int, int]


@dataclass(frozen=True)
class Evaluation:
    """What came out. dataset, predictor: names; scores: a row for each case and organ; messages: for the reader."""

    dataset: str
    predictor: str
    tolerance_mm: float
    organs: tuple[OrganDescription, ...]
    scores: tuple[OrganScores, ...]
    failures: tuple[Failure, ...] = ()
    messages: tuple[str, ...] = ()

    @property
    def cases(self) -> list[str]:
        """Names of the cases that have scores."""
        return list(dict.fromkeys(score.case for score in self.scores))

    def rows(self, organ: str) -> list[OrganScores]:
        """The scores of an organ, without the cases whose label of it is incomplete."""
        return [score for score in self.scores if score.organ == organ and score.state is not State.INCOMPLETE]

    def summary(self, organ: str, metric: str) -> Summary:
        """A measure (a key of `METRIC`) of an organ over the cases."""
        return summarise(getattr(score, metric) for score in self.rows(organ))

    def mean_of_organs(self, metric: str) -> float:
        """The mean of the organs' means, each organ counting alike; NaN when no organ has one."""
        return summarise(self.summary(organ.name, metric).mean for organ in self.organs).mean

    def counts(self, organ: str) -> Counter[State]:
        """How many cases there are of each state."""
        return Counter(score.state for score in self.scores if score.organ == organ)


def write_evaluation(evaluation: Evaluation, folder: Path) -> tuple[Path, Path]:
    """Writes `evaluation.json` and `scores.csv`; returns their paths. NaN is null in JSON and empty in CSV.

    Raises OSError when they cannot be written.
    """
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "version": AGTraining.__version__,
        **asdict(evaluation),
        "summary": {
            organ.name: {
                "cases": {str(state): number for state, number in evaluation.counts(organ.name).items()},
                **{metric.key: asdict(evaluation.summary(organ.name, metric.key)) for metric in METRICS},
            }
            for organ in evaluation.organs
        },
        "mean_of_organs": {metric.key: evaluation.mean_of_organs(metric.key) for metric in METRICS},
    }
    names = [part.name for part in fields(OrganScores)]
    return (
        write_json(document, folder / JSON_FILE),
        write_csv(names, ([getattr(row, name) for name in names] for row in evaluation.scores), folder / CSV_FILE),
    )


def read_evaluation(path: str | Path) -> Evaluation:
    """Reads an `evaluation.json`, or that of a folder. Raises ConfigurationError where it is none."""
    path = Path(path)
    if path.is_dir():
        path = path / JSON_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT or document["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format {document['format']} {document['format_version']}")
        return Evaluation(
            str(document["dataset"]),
            str(document["predictor"]),
            float(document["tolerance_mm"]),
            tuple(
                OrganDescription(
                    str(organ["name"]), tuple(organ["predicted"]), tuple(organ["labels"]), tuple(organ["color"])
                )
                for organ in document["organs"]
            ),
            tuple(_row(row) for row in document["scores"]),
            tuple(Failure(str(failure["case"]), str(failure["error"])) for failure in document["failures"]),
            tuple(map(str, document["messages"])),
        )
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be read ({error.strerror}); name a folder that 'evaluate' has written."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"{path}: not an evaluation of this version ({type(error).__name__}: {error}); run 'evaluate' again."
        ) from error


def _row(row: Mapping[str, Any]) -> OrganScores:
    texts = ("case", "organ", "state")
    numbers: dict[str, Any] = {
        part.name: NAN if row[part.name] is None else float(row[part.name])
        for part in fields(OrganScores)
        if part.name not in texts
    }
    return OrganScores(str(row["case"]), str(row["organ"]), State(row["state"]), **numbers)


def write_json(document: Any, path: Path) -> Path:
    """Writes JSON with null for NaN, whole or not at all; returns the path. Raises OSError."""
    return write_text(json.dumps(_plain(document), indent=1, ensure_ascii=False, allow_nan=False) + "\n", path)


def write_csv(head: Sequence[str], rows: Iterable[Sequence[Any]], path: Path) -> Path:
    """Writes a table with nothing for NaN and six digits, whole or not at all; returns the path. Raises OSError."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return write_text(text.getvalue(), path)


def write_text(text: str, path: Path) -> Path:
    """Writes under a temporary name that is then renamed; returns the path. Raises OSError."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
    return path


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any) -> Any:
    return ("" if math.isnan(value) else f"{value:.6g}") if isinstance(value, float) else value
