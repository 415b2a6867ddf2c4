"""Data sets onto the model's grid, ahead of a training."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from AGTraining.arguments import expanded_path, positive_count
from AGTraining.terminal import progress_bar

if TYPE_CHECKING:
    from AGTraining.training.config import TrainingConfig
    from AGTraining.training.run_config import RunConfig


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    """Adds the verb and its arguments."""
    parser = verbs.add_parser(
        "prepare", parents=[common], help="bring data sets to the model's grid, ahead of training"
    )
    parser.description = (
        "Checks and resamples all cases or frames of a training configuration, and keeps them where the training looks "
        "for them. "
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
    from AGTraining.training.config import TrainingConfig, read_config

    config = read_config(parsed.config, parsed.data, any_task=True)
    if not isinstance(config, TrainingConfig):
        return _prepare_planes(config, parsed)
    return _prepare_scans(config, parsed)


def _prepare_scans(config: TrainingConfig, parsed: argparse.Namespace) -> int:
    from AGTraining.data.prepare import prepare_sources, prepared_folder, require_apart, require_labels
    from AGTraining.data.sources import with_phantoms

    config = with_phantoms(config, config.output.parent / "phantoms")
    folder = parsed.out or prepared_folder(config)
    require_labels(config.training, config.trained_classes)
    require_apart(config.training, config.validation, folder)
    with progress_bar("prepare") as progress:
        cases = prepare_sources([*config.training, *config.validation], config, folder, parsed.workers, progress)
    size = sum(file.stat().st_size for case in cases if case.folder for file in case.folder.iterdir())
    print(f"{folder}: {len(cases)} cases, {size / 1024**3:.2f} GiB")
    return 0


def _prepare_planes(config: RunConfig, parsed: argparse.Namespace) -> int:
    from AGTraining.data.planes.store import store_frames
    from AGTraining.training.plane_data import all_frames, prepared_frames, read_parts, with_plane_phantoms_of
    from AGTraining.training.planes_config import PlanesConfig

    assert isinstance(config, PlanesConfig)
    config = with_plane_phantoms_of(config)
    folder = parsed.out or prepared_frames(config)
    parts = [all_frames(datasets) for datasets in read_parts(config, warn=True)]
    for name, frames in zip(("training", "validation"), parts, strict=True):
        with progress_bar(name) as progress:
            store_frames(frames, config.frame, folder, workers=parsed.workers or 1, progress=progress)
    print(f"{folder}: {sum(map(len, parts))} frames")
    return 0
