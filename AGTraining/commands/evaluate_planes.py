"""How well a model names standard planes, and where it looks."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from AGTraining.arguments import expanded_path
from AGTraining.commands.evaluate import print_table
from AGTraining.errors import InputError
from AGTraining.terminal import print_error, progress_bar

if TYPE_CHECKING:
    from AGTraining.data.planes.labelled import PlaneDataset
    from AGTraining.data.planes.settings import PlaneSourceSettings


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    """Adds the verb and its arguments."""
    parser = verbs.add_parser(
        "evaluate-planes", parents=[common], help="score a model of standard planes on labelled frames"
    )
    parser.description = (
        "Names the plane of each labelled frame and scores it: accuracy, precision, recall, F1, confusion matrix, "
        "calibration, and, where boxes are known, localization. Writes evaluation.json, frames.csv, confusion.png and "
        "report.html."
    )
    parser.add_argument(
        "dataset", type=expanded_path, metavar="DATA",
        help="table (FETAL_PLANES_DB_data.csv, labels.csv), HDF5 file, folder with a subfolder for each class, or a "
        "training configuration (.yaml) for the frames that it validates on",
    )  # fmt: skip
    parser.add_argument(
        "--model",
        type=expanded_path,
        metavar="FILE",
        help="model bundle of planes (default: the bundled starter model)",
    )
    parser.add_argument("--out", required=True, type=expanded_path, metavar="DIR", help="folder for the results")
    parser.add_argument("--images", type=expanded_path, metavar="DIR", help="where the files of a table lie")
    parser.add_argument("--data", type=expanded_path, metavar="DIR", help="where a configuration's data sets lie")
    parser.add_argument(
        "--official", action="append", metavar="PART", help="part of the data set's own split, as in test (repeatable)"
    )
    parser.add_argument("--split", type=expanded_path, metavar="FILE", help="splits.json: score one part of it only")
    parser.add_argument("--fold", type=int, default=0, metavar="N", help="fold of the split (default 0)")
    parser.add_argument(
        "--part", choices=("training", "validation"), default="validation", help="of the fold (default validation)"
    )
    parser.add_argument(
        "--label", action="append", type=equation, default=[], metavar="LABEL=CLASS[+CLASS]",
        help="what is right for a label whose name is not that of a class; of several the most probable counts",
    )  # fmt: skip
    parser.add_argument(
        "--merge", action="append", type=equation, default=[], metavar="NAME=CLASS+CLASS",
        help="count classes of the model as one; their probabilities are summed",
    )  # fmt: skip
    parser.add_argument("--unnamed", metavar="LABEL", help="label of all frames that have none")
    parser.add_argument(
        "--leave-out", action="append", default=[], metavar="LABEL", help="frames with this label are not scored"
    )
    parser.add_argument("--worst", type=int, default=8, metavar="N", help="mistakes that are pictured (default 8)")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    parser.add_argument("--overwrite", action="store_true", help="replace results of an earlier evaluation")
    parser.set_defaults(verb=run)


def equation(text: str) -> tuple[str, tuple[str, ...]]:
    """`Fetal brain=Brain (Tv.)+Brain (Cb.)` as a name and the names behind it. Raises ArgumentTypeError."""
    name, _, rest = text.partition("=")
    parts = tuple(part.strip() for part in rest.split("+"))
    if not name.strip() or not all(parts):
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=CLASS or NAME=CLASS+CLASS")
    return name.strip(), parts


def run(parsed: argparse.Namespace) -> int:
    """Scores all frames; 1 when a frame could not be scored."""
    from AGTraining import bundle
    from AGTraining.evaluation.plane_report import (
        CLASS_HEAD,
        LOCALISATION_HEAD,
        class_rows,
        localisation_rows,
        messages,
        summary_rows,
        write_plane_report,
    )
    from AGTraining.evaluation.plane_results import write_plane_evaluation
    from AGTraining.evaluation.planes import Answers, evaluate_planes
    from AGTraining.evaluation.results import JSON_FILE
    from AGTraining.inference.plane_result import PlaneOptions
    from AGTraining.inference.planes import PlaneDetector

    model = bundle.load_planes(parsed.model or bundle.default_path("planes"))
    if (parsed.out / JSON_FILE).exists() and not parsed.overwrite:
        raise InputError(f"{parsed.out}: an evaluation is already there; choose another folder, or --overwrite.")
    datasets, labels = _datasets(parsed, model.info.names)
    frames = [frame for dataset in datasets for frame in dataset.frames]
    answers = Answers(model.info.names, labels | dict(parsed.label), dict(parsed.merge))
    detector = PlaneDetector(model, PlaneOptions(device=parsed.device))
    parsed.out.mkdir(parents=True, exist_ok=True)
    with progress_bar("evaluate") as progress:
        evaluation = evaluate_planes(
            frames,
            detector,
            ", ".join(dict.fromkeys(dataset.name for dataset in datasets)),
            answers,
            progress,
            lambda frame, error: print_error(error, parsed.debug),
        )
        progress(1.0, "report")
    files = write_plane_evaluation(evaluation, parsed.out)
    reports = write_plane_report(evaluation, frames, parsed.out, parsed.worst)
    print_table(list(CLASS_HEAD), class_rows(evaluation))
    print("\n" + ", ".join(f"{name} {value}" for name, value in summary_rows(evaluation)))
    if rows := localisation_rows(evaluation.localisation()):
        print()
        print_table(list(LOCALISATION_HEAD), rows)
    for message in messages(evaluation):
        print(f"note: {message}")
    print("\n".join(str(path) for path in (*files, *reports)))
    return int(bool(evaluation.failures))


def _datasets(parsed: argparse.Namespace, classes: Sequence[str]) -> tuple[list[PlaneDataset], dict[str, list[str]]]:
    """What is scored, and which classes are right for its labels as far as a configuration says so.

    Raises ConfigurationError with all that cannot be read.
    """
    from AGTraining.data.planes.check import read_plane_sources
    from AGTraining.data.planes.settings import PatientSplitSettings
    from AGTraining.data.planes.sources import source_of

    if parsed.dataset.suffix.lower() in (".yaml", ".yml"):
        for option in ("split", "images"):
            if getattr(parsed, option) is not None:
                raise InputError(f"{parsed.dataset}: says itself what --{option} says; leave --{option} out.")
        sources, labels = _of_configuration(parsed.dataset, parsed.data, classes)
    else:
        changes: dict[str, object] = {"images": parsed.images}
        if parsed.split is not None:
            changes["split"] = PatientSplitSettings(file=parsed.split, fold=parsed.fold, part=parsed.part)
        sources, labels = [source_of(parsed.dataset).model_copy(update=changes)], {}
    changes = {"labelled": True}
    if parsed.unnamed is not None:
        changes["label"] = parsed.unnamed
    if parsed.official is not None:
        changes["official"] = parsed.official
    sources = [
        source.model_copy(update={**changes, "left_out": [*source.left_out, *parsed.leave_out]}) for source in sources
    ]
    datasets, findings = read_plane_sources(sources, "validation")
    findings.require_none()
    return datasets, labels


def _of_configuration(
    path: Path, data: Path | None, classes: Sequence[str]
) -> tuple[list[PlaneSourceSettings], dict[str, list[str]]]:
    from AGTraining.data.planes.sources import with_plane_phantoms
    from AGTraining.training.config import read_config
    from AGTraining.training.planes_config import PlanesConfig

    config = read_config(path, data, any_task=True)
    if not isinstance(config, PlanesConfig) or not config.validation:
        raise InputError(f"{path}: validates on no frames; name the data set itself.")
    labels = {label: [item.name] for item in config.classes for label in item.labels if item.name in classes}
    labels |= {label: group.of for group in config.groups for label in group.labels or [group.name]}
    return with_plane_phantoms(config.validation, config.output.parent / "phantoms"), labels
