"""`report.html` of an evaluation: tables as in the papers, plots, and pictures of the worst cases; one file."""

from __future__ import annotations

import math
from pathlib import Path

import AGTraining
from AGTraining.data.dataset import DatasetDescription
from AGTraining.errors import AGTrainingError
from AGTraining.evaluation import page
from AGTraining.evaluation.plots import bland_altman, box_plots
from AGTraining.evaluation.predictions import Predictions
from AGTraining.evaluation.results import Evaluation, write_text
from AGTraining.evaluation.scores import METRIC, METRICS, OrganScores, State
from AGTraining.evaluation.worst_cases import draw_case, worst_rows

REPORT = "report.html"
WORST = 1


def write_report(
    evaluation: Evaluation, dataset: DatasetDescription, predictions: Predictions, folder: Path, worst: int = WORST
) -> Path:
    """Writes the report into the folder; returns its path. worst: how many cases of each organ are pictured.

    Raises OSError when it cannot be written.
    """
    title = f"{evaluation.predictor} on {evaluation.dataset}"
    parts = [
        page.paragraph(
            f"{len(evaluation.cases)} cases, {len(evaluation.organs)} organs. Mean ± SD over cases (SD of the sample); "
            f"surface Dice within {evaluation.tolerance_mm:g} mm. AGTraining {AGTraining.__version__}."
        ),
        *map(page.note, evaluation.messages),
        page.table(["organ", "cases", *(metric.label for metric in METRICS)], summary_rows(evaluation)),
        page.heading("Cases that have no value"),
        page.paragraph(
            "Where a measure is not defined, the case does not count in its mean: an organ that was not found has DSC "
            "0, but no distance. Organs whose label is incomplete in a case are left out altogether."
        ),
        page.table(["organ", *(str(state) for state in State)], _count_rows(evaluation)),
        page.heading("Scores"),
        page.picture(box_plots(evaluation), "Box plots of the scores of each organ"),
        page.heading("Volumes"),
        page.paragraph("Bland-Altman plots; crosses: the organ is in one of prediction and reference only."),
        page.picture(bland_altman(evaluation), "Bland-Altman plots of the volumes of each organ"),
    ]
    if worst:
        parts.append(page.heading("Worst cases"))
        parts.append(
            page.paragraph("In color: the prediction. White: the reference. The patient's right is on the left.")
        )
        parts += _worst(evaluation, dataset, predictions, worst)
    if evaluation.failures:
        parts.append(page.heading("Cases without scores"))
        parts.append(page.table(["case", "why"], [(failure.case, failure.error) for failure in evaluation.failures]))
    parts.append(page.heading("All cases"))
    parts.append(page.table(["case", "organ", "", *(metric.label for metric in METRICS)], map(_row, evaluation.scores)))
    return write_text(page.document(title, parts), folder / REPORT)


def summary_rows(evaluation: Evaluation) -> list[list[str]]:
    """For each organ its name, number of cases, and mean ± SD of each of `METRICS`; then the mean of the organs."""
    rows = []
    for organ in evaluation.organs:
        cells = [organ.name, str(len(evaluation.rows(organ.name)))]
        for metric in METRICS:
            summary = evaluation.summary(organ.name, metric.key)
            text = page.number(summary.mean, metric.digits)
            if not math.isnan(summary.sd):
                text += f" ± {page.number(summary.sd, metric.digits)}"
            if summary.undefined and summary.count:
                text += f" (n={summary.count})"
            cells.append(text)
        rows.append(cells)
    if len(evaluation.organs) > 1:
        means = (page.number(evaluation.mean_of_organs(metric.key), metric.digits) for metric in METRICS)
        rows.append(["mean of organs", "", *means])
    return rows


def _count_rows(evaluation: Evaluation) -> list[list[str]]:
    return [
        [organ.name, *(str(evaluation.counts(organ.name)[state]) for state in State)] for organ in evaluation.organs
    ]


def _row(score: OrganScores) -> list[str]:
    state = "" if score.state is State.SCORED else str(score.state)
    return [
        score.case,
        score.organ,
        state,
        *(page.number(getattr(score, key), metric.digits) for key, metric in METRIC.items()),
    ]


def _worst(evaluation: Evaluation, dataset: DatasetDescription, predictions: Predictions, count: int) -> list[str]:
    cases = {case.name: case for case in dataset.cases}
    parts = []
    for organ in evaluation.organs:
        for row in worst_rows(evaluation, organ.name, count):
            text = (
                f"{row.case}: {organ.name}, DSC {page.number(row.dsc, 3)}, S2S {page.number(row.s2s_mm, 2)} mm, "
                f"{row.predicted_ml:.1f} ml instead of {row.reference_ml:.1f} ml"
            )
            parts.append(page.paragraph(text))
            try:
                parts.append(page.picture(draw_case(cases[row.case], dataset, predictions, organ, row), text))
            except (AGTrainingError, MemoryError) as error:
                # The scores stand without their picture, as when an image is broken whose label map is not.
                parts.append(page.note(f"No picture: {error}"))
    return parts
