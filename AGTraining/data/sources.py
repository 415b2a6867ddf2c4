"""Where a run's cases come from: data sets, parts of their splits, and phantoms that are made for the run."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from AGTraining.data.dataset import DatasetDescription, read_dataset
from AGTraining.data.importers.phantoms import make_phantom_dataset
from AGTraining.data.splits import check_splits, read_splits
from AGTraining.errors import ConfigurationError
from AGTraining.training.config import PhantomSettings, SourceSettings, TrainingConfig


def with_phantoms(config: TrainingConfig, folder: Path) -> TrainingConfig:
    """The configuration with data sets in place of phantoms; those that are not yet in the folder are made."""

    def made(source: SourceSettings) -> SourceSettings:
        if source.phantoms is None:
            return source
        return source.model_copy(update={"dataset": phantom_dataset(source.phantoms, folder), "phantoms": None})

    changes = {"training": list(map(made, config.training)), "validation": list(map(made, config.validation))}
    return config.model_copy(update=changes)


def phantom_dataset(phantoms: PhantomSettings, folder: Path) -> Path:
    """The dataset.json of some phantoms below the folder; they are made where they are not there as a whole."""
    stop = phantoms.first + phantoms.count
    target = folder / f"{phantoms.first}-{stop - 1}-{phantoms.spacing_mm:g}mm"
    if not (target / "dataset.json").exists():
        temporary = folder / f".{target.name}.{os.getpid()}.part"
        try:
            make_phantom_dataset(temporary, range(phantoms.first, stop), phantoms.spacing_mm)
            os.replace(temporary, target)
        except OSError:
            # Another run has made it meanwhile.
            if not (target / "dataset.json").exists():
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target / "dataset.json"


def read_source(source: SourceSettings) -> DatasetDescription:
    """A source's data set with the cases of its part of the split, or with all.

    Raises ConfigurationError as `read_dataset` does, and when the split does not fit the data set.
    """
    if source.dataset is None:
        raise ConfigurationError("The phantoms of this source are not made yet; call with_phantoms first.")
    dataset = read_dataset(source.dataset)
    if source.split is None:
        return dataset
    splits = read_splits(source.split)
    if source.fold >= len(splits.folds):
        raise ConfigurationError(
            f"{source.split}: has {len(splits.folds)} folds, counted from 0; there is no fold {source.fold}."
        )
    for problem in check_splits(splits, dataset, source.split):
        raise ConfigurationError(problem)
    fold = splits.folds[source.fold]
    names = fold.validation if source.part == "validation" else fold.training
    if not names:
        raise ConfigurationError(f"{source.split}: fold {source.fold} has no case in this part; make the split anew.")
    cases = {case.name: case for case in dataset.cases}
    return replace(dataset, cases=tuple(cases[name] for name in names))
