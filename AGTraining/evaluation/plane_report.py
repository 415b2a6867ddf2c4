"""`report.html` of an evaluation of planes, and the confusion matrix as a picture of its own."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

import AGTraining
from AGTraining.data.planes.decode import read_frame
from AGTraining.data.planes.labelled import LabelledFrame, count_patients
from AGTraining.errors import AGTrainingError
from AGTraining.evaluation import page
from AGTraining.evaluation.localisation import LocalisationScores
from AGTraining.evaluation.plane_plots import confusion_plot, reliability_plot
from AGTraining.evaluation.plane_results import FrameScore, PlaneEvaluation
from AGTraining.evaluation.plane_scores import MEASURES
from AGTraining.evaluation.report import REPORT
from AGTraining.evaluation.results import write_text

CONFUSION = "confusion.png"
CLASS_HEAD = ("plane", "frames", "named so", "precision", "recall", "F1")
LOCALISATION_HEAD = ("plane", "frames", "without a box", "IOU", "correctness", "relative correctness")
WORST = 8
PICTURE_WIDTH = 300
COLUMNS = 4


def write_plane_report(
    evaluation: PlaneEvaluation, frames: Sequence[LabelledFrame], folder: Path, worst: int = WORST
) -> tuple[Path, Path]:
    """Writes `report.html` and `confusion.png` into the folder; returns their paths.

    frames: those that were scored, for pictures of the `worst` surest mistakes. Raises OSError.
    """
    scores = evaluation.scores
    patients = count_patients(frames) or "unknown"
    confusion = confusion_plot(scores)
    picture = _write_picture(confusion, folder / CONFUSION)
    parts = [
        page.paragraph(
            f"{len(evaluation.rows)} frames of {patients} patients, {len(evaluation.classes)} classes. "
            f"AGTraining {AGTraining.__version__}."
        ),
        *map(page.note, messages(evaluation)),
        page.table(["", "value"], summary_rows(evaluation)),
        page.heading("Planes"),
        page.table(CLASS_HEAD, class_rows(evaluation)),
        page.heading("Confusion matrix"),
        page.picture(confusion, "Confusion matrix: true classes in rows, predicted ones in columns"),
        page.heading("Calibration"),
        page.paragraph(
            "How often the model is right where it is this sure. ECE: the mean distance of confidence and accuracy "
            "over 15 bins, weighted by their frames (Guo et al. 2017)."
        ),
        page.picture(reliability_plot(scores), "Reliability diagram: accuracy over confidence"),
    ]
    if rows := localisation_rows(evaluation.localisation()):
        parts += [
            page.heading("Localization"),
            page.paragraph(
                "Boxes from the attention maps against known ones: IOU as mean ± SD over frames; correctness: IOU > "
                "0.5; relative correctness: IOU > 0.5 × the best of the class. Frames without a box have IOU 0."
            ),
            page.table(LOCALISATION_HEAD, rows),
        ]
        if right := localisation_rows(evaluation.localisation(right_only=True)):
            parts += [
                page.paragraph("Of the frames whose plane was named rightly:"),
                page.table(LOCALISATION_HEAD, right),
            ]
    if mistakes := surest_mistakes(evaluation, worst):
        parts += [page.heading("Surest mistakes"), *_pictures(mistakes, frames)]
    if evaluation.failures:
        parts.append(page.heading("Frames without scores"))
        parts.append(page.table(["frame", "why"], [(failure.case, failure.error) for failure in evaluation.failures]))
    title = f"{evaluation.predictor} on {evaluation.dataset}"
    return write_text(page.document(title, parts), folder / REPORT), picture


def messages(evaluation: PlaneEvaluation) -> list[str]:
    """What the reader should know first; classes without frames among it."""
    missing = evaluation.scores.without_cases
    found = list(evaluation.messages)
    if missing:
        found.append(f"No frame shows {', '.join(missing)}: without scores, and not counted in the means.")
    return found


def summary_rows(evaluation: PlaneEvaluation) -> list[list[str]]:
    """Accuracy, macro means with and without the background, and calibration."""
    scores = evaluation.scores
    rows = [["accuracy", page.number(scores.accuracy, 3)]]
    for key, title in zip(MEASURES, ("macro precision", "macro recall", "macro F1"), strict=True):
        rows.append([title, page.number(scores.macro(key), 3)])
    if evaluation.background is not None:
        rows.append(["macro F1 without background", page.number(scores.macro("f1", background=False), 3)])
    rows.append(["mean confidence", page.number(scores.mean_confidence, 3)])
    rows.append(["calibration error (ECE)", page.number(scores.ece, 3)])
    return rows


def class_rows(evaluation: PlaneEvaluation) -> list[list[str]]:
    """For each class its frames, how often it was predicted, and precision, recall and F1; then their means."""
    scores = evaluation.scores
    rows = [
        [item.name, str(item.cases), str(item.predicted), *(page.number(getattr(item, key), 3) for key in MEASURES)]
        for item in scores.classes
    ]
    total = str(len(evaluation.rows))
    return [*rows, ["mean of classes", total, total, *(page.number(scores.macro(key), 3) for key in MEASURES)]]


def localisation_rows(scores: Sequence[LocalisationScores]) -> list[list[str]]:
    """For each class its frames, those without a box, IOU as mean ± SD, and both kinds of correctness."""
    return [
        [
            item.name,
            str(item.frames),
            str(item.missing),
            page.number(item.iou, 3) + ("" if math.isnan(item.iou_sd) else f" ± {page.number(item.iou_sd, 3)}"),
            page.number(item.correctness, 3),
            page.number(item.relative_correctness, 3),
        ]
        for item in scores
    ]


def surest_mistakes(evaluation: PlaneEvaluation, count: int) -> list[FrameScore]:
    """The wrong predictions of highest confidence."""
    wrong = [row for row in evaluation.rows if row.truth != row.predicted]
    return sorted(wrong, key=lambda row: -row.confidence)[:count]


def _pictures(rows: Sequence[FrameScore], frames: Sequence[LabelledFrame]) -> list[str]:
    # Folders of classes or of data sets may have files of one name.
    by_name = {(frame.name, frame.patient, frame.label): frame for frame in frames}
    figure = Figure(figsize=(12, 2.8 * math.ceil(len(rows) / COLUMNS)), layout="constrained")
    panels = figure.subplots(math.ceil(len(rows) / COLUMNS), COLUMNS, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    notes = []
    for row, axes in zip(rows, panels, strict=False):
        title = f"{row.frame}\n{row.truth}, named {row.predicted} ({row.confidence:.2f})"
        axes.set_title(title, fontsize=7, parse_math=False)
        try:
            axes.imshow(_shown(by_name[row.frame, row.patient, row.label], row), cmap="gray", vmin=0, vmax=255)
        except (AGTrainingError, KeyError) as error:
            # The scores stand without their pictures.
            notes.append(page.note(f"No picture of {row.frame}: {error}"))
    text = "The wrong predictions of highest confidence. White box: known, dashed: from the attention."
    return [page.paragraph(text), page.picture(figure, text), *notes]


def _shown(frame: LabelledFrame, row: FrameScore) -> Image.Image:
    image = Image.fromarray(read_frame(frame))
    draw = ImageDraw.Draw(image)
    if row.box is not None:
        draw.rectangle(row.box, outline=255, width=2)
    if row.found is not None:
        x0, y0, x1, y1 = row.found
        for start in range(int(x0), int(x1), 16):
            draw.line([(start, y0), (min(start + 8, x1), y0)], fill=200, width=2)
            draw.line([(start, y1), (min(start + 8, x1), y1)], fill=200, width=2)
        for start in range(int(y0), int(y1), 16):
            draw.line([(x0, start), (x0, min(start + 8, y1))], fill=200, width=2)
            draw.line([(x1, start), (x1, min(start + 8, y1))], fill=200, width=2)
    image.thumbnail((PICTURE_WIDTH, PICTURE_WIDTH))
    return image


def _write_picture(figure: Figure, path: Path) -> Path:
    FigureCanvasAgg(figure)
    temporary = path.with_name(f".{path.name}.part")
    figure.savefig(temporary, format="png", dpi=130)
    os.replace(temporary, path)
    return path
