"""Who is trained on and who is validated on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from AGTraining.arguments import expanded_path, positive_count, positive_share, seed

if TYPE_CHECKING:
    from AGTraining.data.splits import Splits


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    """Adds the verb and its arguments."""
    parser = verbs.add_parser("split", parents=[common], help="choose who is trained on and who is validated on")
    parser.description = (
        "Writes a splits.json that a training configuration names as a source's 'split'. Cases of one patient stay "
        "together; the same seed gives the same split on every machine. Of frames of ultrasound the patients are "
        "listed, and each part has its share of every plane as nearly as patients allow."
    )
    parser.add_argument(
        "dataset", type=expanded_path, metavar="DATASET",
        help="dataset.json or its folder, or of frames a table (.csv) or folder of classes",
    )  # fmt: skip
    ways = parser.add_mutually_exclusive_group(required=True)
    ways.add_argument("--folds", type=positive_count, metavar="N", help="folds for cross-validation, as in 5")
    ways.add_argument("--validation", type=positive_count, metavar="N", help="cases to validate on, as in 21 of CT-82")
    ways.add_argument("--share", type=positive_share, metavar="X", help="of frames to validate on, as in 0.2")
    parser.add_argument(
        "--training", type=positive_count, metavar="N", help="cases to train on (default: all that are left)"
    )
    parser.add_argument("--seed", type=seed, default=0, help="which of all possible splits (default 0)")
    parser.add_argument(
        "--out", type=expanded_path, metavar="FILE", help="file to write (default: splits.json beside the dataset.json)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a split that is there")
    parser.set_defaults(verb=run)


def run(parsed: argparse.Namespace) -> int:
    """Writes the split and prints how many cases each part has."""
    from AGTraining.data.planes.sources import holds_frames
    from AGTraining.data.splits import write_splits
    from AGTraining.errors import ConfigurationError

    if parsed.training is not None and parsed.validation is None:
        raise ConfigurationError("--training goes with --validation alone.")
    frames = holds_frames(parsed.dataset)
    splits, beside = _of_frames(parsed) if frames else _of_volumes(parsed)
    path = parsed.out or beside
    if path.exists() and not parsed.overwrite:
        raise ConfigurationError(f"{path}: is there already; name another with --out, or give --overwrite.")
    write_splits(splits, path)
    print(path)
    what = " patients" if frames else ""
    for number, fold in enumerate(splits.folds):
        print(f"  fold {number}: {len(fold.training)}{what} training, {len(fold.validation)}{what} validation")
    return 0


def _of_volumes(parsed: argparse.Namespace) -> tuple[Splits, Path]:
    """The split, and where it belongs."""
    from AGTraining.data.dataset import read_dataset
    from AGTraining.data.splits import make_folds, make_split
    from AGTraining.errors import ConfigurationError

    if parsed.share is not None:
        raise ConfigurationError("--share is for data sets of frames; name how many cases with --validation.")
    dataset = read_dataset(parsed.dataset)
    if parsed.folds is not None:
        splits = make_folds(dataset, parsed.folds, parsed.seed)
    else:
        splits = make_split(dataset, parsed.validation, parsed.training, parsed.seed)
    return splits, dataset.path.with_name("splits.json")


def _of_frames(parsed: argparse.Namespace) -> tuple[Splits, Path]:
    from AGTraining.data.planes.patients import make_plane_folds, make_plane_split
    from AGTraining.data.planes.sources import read_plane_source, source_of
    from AGTraining.errors import ConfigurationError

    if parsed.validation is not None:
        raise ConfigurationError("--validation counts cases of volumes; of frames name their part with --share.")
    dataset = read_plane_source(source_of(parsed.dataset))
    if parsed.folds is not None:
        splits = make_plane_folds(dataset, parsed.folds, parsed.seed)
    else:
        splits = make_plane_split(dataset, parsed.share, parsed.seed)
    return splits, dataset.path / "splits.json" if dataset.path.is_dir() else dataset.path.with_name("splits.json")
