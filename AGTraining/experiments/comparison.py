"""Our figures of a table beside the paper's."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from AGTraining.bundle import NETWORKS
from AGTraining.evaluation.results import write_csv, write_json
from AGTraining.evaluation.scores import METRIC, Summary
from AGTraining.experiments.plane_tables import PlaneTable
from AGTraining.experiments.runs import EXPERIMENTS
from AGTraining.experiments.tables import ROWS, UNKNOWN, Figure, Row, Table
from AGTraining.experiments.workplace import RowResult, Workplace
from AGTraining.flops import PAPER_SIZE, Cost, inference_seconds, network_cost
from AGTraining.inference.device import choose_device
from AGTraining.training.config import read_config
from AGTraining.training.initialise import network_arguments

HEAD = ("row", "measure", "ours", "paper", "difference")


@dataclass(frozen=True)
class Line:
    """A measure of a row: ours and the paper's (NaN: none). reported: whether
    the paper has such a figure at all.
    """

    row: str
    measure: str
    ours: float
    ours_sd: float
    paper: float
    paper_sd: float
    digits: int
    reported: bool = True

    @property
    def cells(self) -> list[str]:
        """As `HEAD`."""
        paper = _number(self.paper, self.paper_sd, self.digits)
        difference = self.ours - self.paper
        return [
            self.row,
            self.measure,
            _number(self.ours, self.ours_sd, self.digits) or "not done",
            paper or ("unknown" if self.reported else "not reported"),
            "" if math.isnan(difference) else f"{difference:+.{self.digits}f}",
        ]


class Done(Protocol):
    """What a row's runs gave, as far as all kinds of rows have it in common."""

    @property
    def name(self) -> str:
        """Of the row's configuration."""

    @property
    def title(self) -> str:
        """Of the row, as printed."""

    @property
    def done(self) -> int:
        """Runs that are done."""

    @property
    def wanted(self) -> int:
        """Runs that there should be."""


@dataclass(frozen=True)
class TableComparison:
    """A table's lines.

    results: of its rows, in order; size: of the image, (K, J, I) or (rows, columns), that `seconds` are of, by row.
    """

    table: Table | PlaneTable
    lines: tuple[Line, ...]
    results: tuple[Done, ...]
    size: tuple[int, ...]
    seconds: dict[str, float]

    @property
    def rows(self) -> list[list[str]]:
        """As `HEAD`; a row's title stands in its first line only."""
        cells = [line.cells for line in self.lines]
        titles = [line.row for line in self.lines]
        return [
            ["" if number and title == titles[number - 1] else title, *row[1:]]
            for number, (title, row) in enumerate(zip(titles, cells, strict=True))
        ]

    @property
    def missing(self) -> int:
        """How many runs are not done."""
        return sum(result.wanted - result.done for result in self.results)


def compare_table(table: Table, place: Workplace) -> TableComparison:
    """Runs (or collects) a table's rows, counts and times their networks, and sets it all beside the paper's figures.

    Parameters and FLOPs are those of the configurations as they stand in their files. The networks of all rows are
    timed in turns, on the size that the paper gives times for (in small: on a crop).
    """
    results = tuple(place.result(row) for row in table.rows)
    configs = {row.name: place.config(row) for row in (ROWS[table.reference], *table.rows)}
    size = PAPER_SIZE if place.change is None else configs[table.reference].crop
    place.say(f"{table.name}: times {len(configs)} networks")
    seconds = inference_seconds(
        {name: NETWORKS[config.network.name](**network_arguments(config)) for name, config in configs.items()},
        size,
        choose_device(place.device),
    )
    lines: list[Line] = []
    for result in results:
        lines += [_scored(result, measure) for measure in table.measures]
        ratio = seconds[result.row.name] / seconds[table.reference]
        lines += _costs(result.row, row_cost(result.row), ratio, ROWS[table.reference])
    return TableComparison(table, tuple(lines), results, tuple(size), seconds)


def row_cost(row: Row) -> Cost:
    """Parameters and FLOPs of a row's network, on the size that the paper gives times for."""
    config = read_config(EXPERIMENTS / f"{row.name}.yaml")
    return _cost(config.network.name, json.dumps(network_arguments(config)))


@cache
def _cost(network: str, arguments: str) -> Cost:
    """Rows share networks, and counting takes a second."""
    return network_cost(network, json.loads(arguments), PAPER_SIZE)


def write_rows(comparison: TableComparison, runs: Path) -> tuple[Path, Path]:
    """Writes `table1.csv` (and so on) as printed and `table1.json` in full; returns their paths. Raises OSError."""
    runs.mkdir(parents=True, exist_ok=True)
    name = comparison.table.name
    document = {
        "table": name,
        "title": comparison.table.title,
        "runs": {result.name: {"done": result.done, "wanted": result.wanted} for result in comparison.results},
        "lines": [line.__dict__ for line in comparison.lines],
        "size": list(comparison.size),
        "inference_seconds": comparison.seconds,
    }
    rows = [line.cells for line in comparison.lines]
    return write_csv(HEAD, rows, runs / f"{name}.csv"), write_json(document, runs / f"{name}.json")


def notes(comparison: TableComparison, place: Workplace) -> list[str]:
    """What a reader of the table must know."""
    paper, own = (" × ".join(map(str, reversed(size))) for size in (PAPER_SIZE, comparison.size))
    texts = [
        f"GFLOP are of one image of {paper} voxels, times of one of {own} on this machine (device {place.device})."
    ]
    if place.change is not None:
        texts.append(
            "Ours are of phantoms, tiny networks and a few steps: they show that all runs, not how good it is."
        )
    unfinished = [result.title for result in comparison.results if 0 < result.done < result.wanted]
    if unfinished:
        texts.append(f"Not all runs are done of: {', '.join(unfinished)}.")
    if any(line.reported and math.isnan(line.paper) for line in comparison.lines):
        texts.append("Unknown figures stand in the paper, but were not at hand (AGTraining/experiments/tables.py).")
    return texts


def _scored(result: RowResult, measure: str) -> Line:
    organ, key = measure.split()
    metric = METRIC[key]
    figure = result.row.figures.get(measure, UNKNOWN)
    ours = None if result.evaluation is None else result.evaluation.summary(organ, key)
    return _line(result.row, f"{organ} {metric.label}", ours, figure, metric.digits)


def _costs(row: Row, cost: Cost, ratio: float, reference: Row) -> list[Line]:
    paper_ratio = row.seconds / reference.seconds if row.seconds and reference.seconds else math.nan
    parameters = math.nan if row.parameters_m is None else row.parameters_m
    # Only tables 1 and 2 have parameters and times; no table has FLOPs.
    listed = row.parameters_m is not None
    return [
        Line(row.title, "parameters (M)", cost.parameters / 1e6, math.nan, parameters, math.nan, 2, listed),
        Line(row.title, "GFLOP", cost.flops / 1e9, math.nan, math.nan, math.nan, 1, False),
        Line(row.title, "inference time / U-Net", ratio, math.nan, paper_ratio, math.nan, 2, listed),
    ]


def _line(row: Row, measure: str, ours: Summary | None, figure: Figure, digits: int) -> Line:
    mean, sd = (math.nan, math.nan) if ours is None else (ours.mean, ours.sd)
    paper, paper_sd = (math.nan if value is None else value for value in (figure.mean, figure.sd))
    return Line(row.title, measure, mean, sd, paper, paper_sd, digits)


def _number(mean: float, sd: float, digits: int) -> str:
    if math.isnan(mean):
        return ""
    return f"{mean:.{digits}f}" + ("" if math.isnan(sd) else f" ± {sd:.{digits}f}")
