"""Who is trained on and who is validated on."""

from __future__ import annotations

import argparse

from AGTraining.arguments import expanded_path, positive_count, seed


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    """Adds the verb and its arguments."""
    parser = verbs.add_parser("split", parents=[common], help="choose who is trained on and who is validated on")
    parser.description = (
        "Writes a splits.json that a training configuration names as a source's 'split'. Cases of one patient stay "
        "together; the same seed gives the same split on every machine."
    )
    parser.add_argument("dataset", type=expanded_path, metavar="DATASET", help="dataset.json or its folder")
    ways = parser.add_mutually_exclusive_group(required=True)
    ways.add_argument("--folds", type=positive_count, metavar="N", help="folds for cross-validation, as in 5")
    ways.add_argument("--validation", type=positive_count, metavar="N", help="cases to validate on, as in 21 of CT-82")
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
    from AGTraining.data.dataset import read_dataset
    from AGTraining.data.splits import make_folds, make_split, write_splits
    from AGTraining.errors import ConfigurationError

    dataset = read_dataset(parsed.dataset)
    path = parsed.out or dataset.path.with_name("splits.json")
    if path.exists() and not parsed.overwrite:
        raise ConfigurationError(f"{path}: is there already; name another with --out, or give --overwrite.")
    if parsed.folds is not None:
        if parsed.training is not None:
            raise ConfigurationError("--training goes with --validation, not with --folds.")
        splits = make_folds(dataset, parsed.folds, parsed.seed)
    else:
        splits = make_split(dataset, parsed.validation, parsed.training, parsed.seed)
    write_splits(splits, path)
    print(path)
    for number, fold in enumerate(splits.folds):
        print(f"  fold {number}: {len(fold.training)} training, {len(fold.validation)} validation")
    return 0
