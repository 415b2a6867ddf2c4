"""Our figures of the tables of planes beside the paper's."""

from __future__ import annotations

import json
import math
from functools import cache

import torch

from AGTraining.bundle import NETWORKS
from AGTraining.evaluation.plane_results import PlaneEvaluation
from AGTraining.experiments.comparison import Line, TableComparison
from AGTraining.experiments.plane_tables import LABELS, LOCALISATION, PLANE_ROWS, PlaneRow, PlaneTable
from AGTraining.experiments.plane_workplace import PlaneRowResult, PlaneWorkplace
from AGTraining.experiments.runs import EXPERIMENTS
from AGTraining.experiments.tables import UNKNOWN
from AGTraining.flops import Cost, inference_seconds, network_cost
from AGTraining.inference.device import choose_device
from AGTraining.training.config import read_config
from AGTraining.training.planes_config import PlanesConfig

DIGITS = 3
# Small networks: more turns, or the ratios would be those of noise.
REPEATS = 15


def compare_plane_table(table: PlaneTable, place: PlaneWorkplace) -> TableComparison:
    """Runs (or collects) a table's rows, counts and times their networks, and sets it all beside the paper's figures.

    Parameters and FLOPs are those of the configurations as they stand in their files, with the paper's 14 classes. The
    networks of all rows are timed in turns, on one frame.
    """
    results = tuple(place.result(row) for row in table.rows)
    names = dict.fromkeys([*(row.reference for row in table.rows if row.reference), *(row.name for row in table.rows)])
    configs = {name: place.config(PLANE_ROWS[name]) for name in names}
    size = next(iter(configs.values())).frame.size
    place.say(f"{table.name}: times {len(configs)} networks")
    seconds = inference_seconds(
        {
            name: NETWORKS[config.network.name](num_classes=len(config.classes), **config.network.arguments)
            for name, config in configs.items()
        },
        size,
        choose_device(place.device),
        REPEATS,
    )
    lines: list[Line] = []
    for result in results:
        lines += _scored(result, table)
        lines += _costs(result.row, plane_row_cost(result.row), seconds)
    return TableComparison(table, tuple(lines), results, tuple(size), seconds)


def plane_row_cost(row: PlaneRow) -> Cost:
    """Parameters and FLOPs of a row's network for one frame of the size in its configuration."""
    config = read_config(EXPERIMENTS / f"{row.name}.yaml", any_task=True)
    assert isinstance(config, PlanesConfig)
    arguments = {"num_classes": len(config.classes), **config.network.arguments}
    return _cost(config.network.name, json.dumps(arguments), config.frame.size)


@cache
def _cost(network: str, arguments: str, size: tuple[int, int]) -> Cost:
    return network_cost(network, json.loads(arguments), size)


def plane_notes(comparison: TableComparison, place: PlaneWorkplace) -> list[str]:
    """What a reader of the table must know."""
    rows, columns = comparison.size
    texts = [
        f"Times are of one frame of {rows} × {columns} on this machine (device {place.device}, "
        f"{torch.get_num_threads()} threads), against the Sononet of the same width; precision, recall and F1 of a row "
        "are means over the classes."
    ]
    if place.change is not None:
        texts.append(
            "Ours are of synthetic frames, tiny networks and a few steps: they show that all runs, not how good it is."
        )
    elif not any(source.hdf5 for source in place.config(PLANE_ROWS[next(iter(PLANE_ROWS))]).training):
        texts.append("Ours are of FETAL_PLANES_DB and its six classes, the paper's of 14 classes that are not public.")
    unfinished = [result.title for result in comparison.results if 0 < result.done < result.wanted]
    if unfinished:
        texts.append(f"Not all runs are done of: {', '.join(unfinished)}.")
    if any(line.reported and math.isnan(line.paper) for line in comparison.lines):
        texts.append(
            "Unknown figures stand in the paper, but were not at hand (AGTraining/experiments/plane_tables.py)."
        )
    return texts


def _scored(result: PlaneRowResult, table: PlaneTable) -> list[Line]:
    row, found = result.row, result.evaluation
    if not table.by_class:
        return [_line(row, measure, LABELS[measure], *_overall(found, measure)) for measure in table.measures]
    # Without a run nobody knows which classes the data have.
    classes = [] if found is None else found.scores.classes
    return [
        _line(row, f"{item.name} {measure}", f"{item.name} {LABELS[measure]}", getattr(item, measure))
        for item in classes
        for measure in table.measures
    ] or [_line(row, measure, LABELS[measure], math.nan) for measure in table.measures]


def _overall(evaluation: PlaneEvaluation | None, measure: str) -> tuple[float, float]:
    """The value and, of the IOU, its SD; NaN where there is none, as for boxes of a network without attention."""
    if evaluation is None:
        return math.nan, math.nan
    if measure == "accuracy":
        return evaluation.scores.accuracy, math.nan
    if measure not in LOCALISATION:
        return evaluation.scores.macro(measure), math.nan
    scores = evaluation.localisation()
    if not scores:
        return math.nan, math.nan
    value: float = getattr(scores[-1], measure.replace(" ", "_"))
    return value, scores[-1].iou_sd if measure == "iou" else math.nan


def _line(row: PlaneRow, measure: str, label: str, ours: float, sd: float = math.nan) -> Line:
    figure = row.figures.get(measure, UNKNOWN)
    paper, paper_sd = (math.nan if value is None else value for value in (figure.mean, figure.sd))
    return Line(row.title, label, ours, sd, paper, paper_sd, DIGITS)


def _costs(row: PlaneRow, cost: Cost, seconds: dict[str, float]) -> list[Line]:
    nan = math.nan
    parameters = nan if row.parameters_m is None else row.parameters_m
    lines = [
        Line(row.title, "parameters (M)", cost.parameters / 1e6, nan, parameters, nan, 2, row.parameters_m is not None),
        Line(row.title, "GFLOP", cost.flops / 1e9, nan, nan, nan, 2, False),
    ]
    if row.reference is not None:
        ratio, paper = seconds[row.name] / seconds[row.reference], row.time_ratio
        title = f"forward time / {PLANE_ROWS[row.reference].title}"
        lines.append(Line(row.title, title, ratio, nan, nan if paper is None else paper, nan, 2, paper is not None))
    return lines
