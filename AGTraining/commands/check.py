"""Everything that is wrong with a data set, at once."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from AGTraining.arguments import expanded_path, positive_count
from AGTraining.terminal import progress_bar

if TYPE_CHECKING:
    from AGTraining.data.check import Findings
    from AGTraining.training.planes_config import PlanesConfig


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    """Adds the verb and its arguments."""
    parser = verbs.add_parser("check", parents=[common], help="say all that is wrong with data sets")
    parser.description = (
        "Reads every image and label map: missing files, grids that do not fit, unknown labels, NaN, intensities that "
        "are no Hounsfield units, patients in training and validation. Of frames of ultrasound: files, labels, boxes, "
        "patients. Exit code 1 where there is a problem."
    )
    parser.add_argument(
        "inputs", nargs="+", type=expanded_path, metavar="DATASET",
        help="dataset.json or its folder; a table (.csv), HDF5 file or folder of classes for frames; or a training "
        "configuration (.yaml) for all data sets that it names",
    )  # fmt: skip
    parser.add_argument("--split", type=expanded_path, metavar="FILE", help="splits.json of the data set, to check too")
    parser.add_argument("--data", type=expanded_path, metavar="DIR", help="where a configuration's data sets lie")
    parser.add_argument("--workers", type=positive_count, default=1, metavar="N", help="processes (default 1)")
    parser.set_defaults(verb=run)


def run(parsed: argparse.Namespace) -> int:
    """Prints problems on stderr, warnings and a summary on stdout."""
    from AGTraining.data.check import Findings, check_all
    from AGTraining.data.dataset import read_description
    from AGTraining.data.planes.sources import holds_frames
    from AGTraining.data.splits import check_splits, read_splits
    from AGTraining.errors import ConfigurationError

    findings = Findings()
    datasets: list[Path] = []
    for path in parsed.inputs:
        if path.suffix.lower() in (".yaml", ".yml"):
            found, named = _check_config(path, parsed.data, parsed.workers)
            findings.add(found)
            datasets += named
        elif holds_frames(path):
            findings.add(_check_frames(path, parsed.split, parsed.workers))
        else:
            datasets.append(path)
    datasets = list(dict.fromkeys(datasets))
    if parsed.split is not None:
        try:
            splits = read_splits(parsed.split)
            for path in datasets:
                findings.problems += check_splits(splits, read_description(path)[0], parsed.split)
        except ConfigurationError as error:
            findings.problems.append(str(error))
    with progress_bar("check") as progress:
        findings.add(check_all(datasets, parsed.workers, progress))
    for warning in findings.warnings:
        print(f"note: {warning}")
    sys.stdout.flush()
    problems = list(dict.fromkeys(findings.problems))
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr, flush=True)
    # A configuration of phantoms alone names no data set.
    names = ", ".join(map(str, datasets or parsed.inputs))
    print(f"{names}: {len(problems)} problem{'s' * (len(problems) != 1)}" if problems else f"{names}: no problem found")
    return int(bool(problems))


def _check_frames(path: Path, split: Path | None, workers: int) -> Findings:
    """What is wrong with a data set of frames by itself: whose labels they are shows a configuration."""
    from AGTraining.data.planes.check import check_pictures, read_plane_sources
    from AGTraining.data.planes.patients import check_plane_splits
    from AGTraining.data.planes.sources import source_of
    from AGTraining.data.splits import read_splits
    from AGTraining.errors import ConfigurationError

    datasets, findings = read_plane_sources([source_of(path)], "training")
    if split is not None:
        try:
            splits = read_splits(split)
            for dataset in datasets:
                findings.problems += check_plane_splits(splits, dataset, split)
        except ConfigurationError as error:
            findings.problems.append(str(error))
    with progress_bar("check") as progress:
        findings.add(check_pictures(datasets, workers, progress))
    for dataset in datasets:
        print(f"{dataset.path}: {len(dataset.frames)} frames of {dataset.patients or 'unknown'} patients")
        for label, count in dataset.labels.items():
            print(f"  {label}: {count}")
    return findings


def _check_config(path: Path, data: Path | None, workers: int) -> tuple[Findings, list[Path]]:
    """What is wrong with a configuration's choice of data, and the data sets of volumes that it names, which are
    still to be checked (phantoms need no check).
    """
    from AGTraining.data.check import Findings, check_apart
    from AGTraining.data.prepare import require_labels
    from AGTraining.data.sources import read_source
    from AGTraining.errors import ConfigurationError
    from AGTraining.training.config import TrainingConfig, read_config
    from AGTraining.training.planes_config import PlanesConfig

    config = read_config(path, data, any_task=True)
    if isinstance(config, PlanesConfig):
        return _check_planes_config(config, workers), []
    assert isinstance(config, TrainingConfig)
    findings = Findings()
    parts = [[source for source in part if source.dataset] for part in (config.training, config.validation)]
    try:
        if len(parts[0]) == len(config.training):
            require_labels(parts[0], config.trained_classes)
        findings.add(check_apart(list(map(read_source, parts[0])), list(map(read_source, parts[1]))))
    except ConfigurationError as error:
        findings.problems.append(f"{path}: {error}")
    return findings, [source.dataset for part in parts for source in part if source.dataset]


def _check_planes_config(config: PlanesConfig, workers: int) -> Findings:
    from AGTraining.data.planes.check import check_pictures, check_planes

    training, validation = (
        [source for source in sources if source.phantoms is None] for sources in (config.training, config.validation)
    )
    # Phantoms, which are not made for this, may show any class.
    phantoms = len(training) < len(config.training)
    required = [needed and not phantoms for needed in config.need_frames]
    trained, validated, findings = check_planes(training, validation, config.targets, required)
    with progress_bar("check") as progress:
        findings.add(check_pictures([*trained, *validated], workers, progress))
    return findings
