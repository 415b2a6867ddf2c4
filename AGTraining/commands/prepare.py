"""Data sets onto the model's grid, ahead of a training."""

from __future__ import annotations

import argparse

from AGTraining.arguments import expanded_path, positive_count
from AGTraining.terminal import progress_bar


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    """Adds the verb and its arguments."""
    parser = verbs.add_parser(
        "prepare", parents=[common], help="bring data sets to the model's grid, ahead of training"
    )
    parser.description = (
        "Checks and resamples all cases of a training configuration, and keeps them where the training looks for them. "
        "Stopped at any time, it goes on where it was."
    )
    parser.add_argument("config", type=expanded_path, metavar="CONFIG.yaml", help="training configuration")
    parser.add_argument(
        "--out", type=expanded_path, metavar="DIR", help="folder to keep them in (default: the configuration's)"
    )
    parser.add_argument("--data", type=expanded_path, metavar="DIR", help="where the configuration's data sets lie")
    parser.add_argument(
        "--workers", type=positive_count, metavar="N", help="processes (default: one a core, at most 4)"
    )
    parser.set_defaults(verb=run)


def run(parsed: argparse.Namespace) -> int:
    """Prepares training and validation cases; says where they lie."""
    from AGTraining.data.prepare import prepare_sources, prepared_folder, require_apart, require_labels
    from AGTraining.data.sources import with_phantoms
    from AGTraining.training.config import read_config

    config = read_config(parsed.config, parsed.data)
    config = with_phantoms(config, config.output.parent / "phantoms")
    folder = parsed.out or prepared_folder(config)
    require_labels(config.training, config.trained_classes)
    require_apart(config.training, config.validation, folder)
    with progress_bar("prepare") as progress:
        cases = prepare_sources([*config.training, *config.validation], config, folder, parsed.workers, progress)
    size = sum(file.stat().st_size for case in cases if case.folder for file in case.folder.iterdir())
    print(f"{folder}: {len(cases)} cases, {size / 1024**3:.2f} GiB")
    return 0
