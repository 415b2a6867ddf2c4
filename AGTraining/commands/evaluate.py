"""How well a model, or a folder of predictions, agrees with the references of a data set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from AGTraining.arguments import expanded_path, positive_mm, positive_voxels
from AGTraining.errors import InputError
from AGTraining.terminal import print_error, progress_bar

if TYPE_CHECKING:
    from AGTraining.data.dataset import DatasetDescription
    from AGTraining.evaluation.predictions import Predictions

PREDICTIONS = "predictions"


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    """Adds the verb and its arguments."""
    parser = verbs.add_parser("evaluate", parents=[common], help="score a model or predictions against references")
    parser.description = (
        "Scores predictions case by case and organ by organ: DSC, precision, recall, surface distances and volumes. "
        "Writes evaluation.json, scores.csv and report.html."
    )
    parser.add_argument("dataset", type=expanded_path, metavar="DATASET", help="dataset.json, or its folder")
    parser.add_argument("--out", required=True, type=expanded_path, metavar="DIR", help="folder for the results")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--predictions",
        type=expanded_path,
        metavar="DIR",
        help="folder of label maps or .seg.nrrd, named like cases",
    )
    source.add_argument(
        "--model", type=expanded_path, metavar="FILE", help="model bundle to run (default: the bundled starter model)"
    )
    parser.add_argument(
        "--organ", action="append", type=organ_choice, metavar="NAME[=LABEL+LABEL]",
        help="score this organ only (may be repeated), and the labels that make it up where names differ",
    )  # fmt: skip
    parser.add_argument("--split", type=expanded_path, metavar="FILE", help="splits.json: score one part of it only")
    parser.add_argument("--fold", type=int, default=0, metavar="N", help="fold of the split (default 0)")
    parser.add_argument(
        "--part", choices=("training", "validation"), default="validation", help="of the fold (default validation)"
    )
    parser.add_argument(
        "--tolerance", type=positive_mm, default=2.0, metavar="MM", help="of the normalised surface Dice (default 2)"
    )
    parser.add_argument(
        "--worst", type=int, default=1, metavar="N", help="cases of each organ that are pictured (default 1)"
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    parser.add_argument("--mirror", action="store_true", help="average with the mirrored scan: slower, a little better")
    parser.add_argument(
        "--tile", nargs=3, type=positive_voxels, metavar=("K", "J", "I"), help="tile size in voxels of the model's grid"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace results of an earlier evaluation")
    parser.set_defaults(verb=run)


def organ_choice(text: str) -> tuple[str, tuple[str, ...]]:
    """`kidney=kidney+tumor` as the organ's name and its labels. Raises ArgumentTypeError."""
    name, equals, labels = text.partition("=")
    parts = tuple(part.strip() for part in labels.split("+")) if equals else ()
    if not name.strip() or not all(parts):
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME or NAME=LABEL+LABEL")
    return name.strip(), parts


def run(parsed: argparse.Namespace) -> int:
    """Scores all cases; 1 when a case could not be scored."""
    from AGTraining.data.sources import read_source
    from AGTraining.evaluation.evaluate import evaluate
    from AGTraining.evaluation.report import summary_rows, write_report
    from AGTraining.evaluation.results import JSON_FILE, write_evaluation
    from AGTraining.evaluation.scores import METRICS
    from AGTraining.training.config import SourceSettings

    dataset = read_source(
        SourceSettings(dataset=parsed.dataset, split=parsed.split, fold=parsed.fold, part=parsed.part)
    )
    if (parsed.out / JSON_FILE).exists() and not parsed.overwrite:
        raise InputError(f"{parsed.out}: an evaluation is already there; choose another folder, or --overwrite.")
    predictions = _predictions(parsed, dataset)
    _require_folder(parsed.out)
    with progress_bar("evaluate") as progress:
        evaluation = evaluate(
            dataset,
            predictions,
            tolerance_mm=parsed.tolerance,
            chosen=dict(parsed.organ or ()),
            progress=progress,
            on_failure=lambda case, error: print_error(error, parsed.debug),
        )
        progress(1.0, "report")
    files = write_evaluation(evaluation, parsed.out)
    report = write_report(evaluation, dataset, predictions, parsed.out, parsed.worst)
    print_table(["organ", "cases", *(metric.label for metric in METRICS)], summary_rows(evaluation))
    for message in evaluation.messages:
        print(f"note: {message}")
    print("\n".join(str(path) for path in (*files, report)))
    return int(bool(evaluation.failures))


def print_table(head: list[str], rows: list[list[str]]) -> None:
    """Columns under each other, the first one flush left."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        print("  ".join((row[0].ljust(widths[0]), *cells)).rstrip())


def _predictions(parsed: argparse.Namespace, dataset: DatasetDescription) -> Predictions:
    from AGTraining import bundle
    from AGTraining.evaluation.predictions import FolderPredictions, ModelPredictions
    from AGTraining.inference.device import choose_device
    from AGTraining.inference.result import SegmentOptions

    if parsed.predictions is not None:
        return FolderPredictions(parsed.predictions, dataset)
    choose_device(parsed.device)
    options = SegmentOptions(
        device=parsed.device, tile_size=tuple(parsed.tile) if parsed.tile else None, mirror=parsed.mirror
    )
    return ModelPredictions(bundle.load(parsed.model or bundle.default_path()), options, parsed.out / PREDICTIONS)


def _require_folder(folder: Path) -> None:
    """Makes it, before hours of work whose results would find no place."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise InputError(f"{folder}: cannot hold the results ({error.strerror}); choose another folder.") from error
