"""A configuration's run, from its data to scores of the cases that it did not see; done once, and then found again."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from AGTraining import bundle
from AGTraining.data.dataset import DatasetDescription
from AGTraining.data.fingerprint import content_hash
from AGTraining.data.prepare import prepared_folder
from AGTraining.data.sources import phantom_dataset, read_source
from AGTraining.errors import AGTrainingError, ConfigurationError, InputError
from AGTraining.evaluation.evaluate import evaluate
from AGTraining.evaluation.predictions import ModelPredictions
from AGTraining.evaluation.results import JSON_FILE, Evaluation, read_evaluation, write_evaluation, write_json
from AGTraining.evaluation.scores import OrganScores, State
from AGTraining.inference.result import SegmentOptions
from AGTraining.training.checkpoint import read_checkpoint
from AGTraining.training.config import SourceSettings, TrainingConfig, read_config
from AGTraining.training.provenance import contents_key, fixed_settings
from AGTraining.training.run import train
from AGTraining.training.run_config import RunConfig
from AGTraining.training.task import make_task
from AGTraining.training.trainer import LAST

Say = Callable[[str], None]

EXPERIMENTS = Path(__file__).resolve().parent
EVALUATION = "evaluation"
# In its folder: hashes of the model and the data that the evaluation is of.
TESTED = "tested.json"
# Settings that say where something lies; what it is follows from the run's name, and from its content where it is here.
PLACES: dict[str, Any] = {
    "output": True, "prepared": True, "training": True, "validation": True, "initial_weights": True,
    "teacher": {"bundle"},
}  # fmt: skip
PHANTOMS: dict[str, Any] = {part: {"__all__": {"phantoms"}} for part in ("training", "validation")}


def model_path(config: RunConfig) -> Path:
    """Where the run of this configuration leaves its model."""
    return config.output / f"{config.name}.safetensors"


def is_trained(config: RunConfig) -> bool:
    """Whether the run's folder holds the model of this configuration. False for a run that is under way.

    Where files lie does not count: runs may be collected on another machine. What is in the data's files counts where
    they are at hand.
    """
    if not model_path(config).is_file():
        return False
    try:
        kept = read_config(config.output / "config.yaml", any_task=True)
    except ConfigurationError:
        return False
    if kept.model_dump(exclude=PLACES) != config.model_dump(exclude=PLACES):
        return False
    phantoms = [item.model_dump(include=PHANTOMS) for item in (kept, config)]
    return phantoms[0] == phantoms[1] and _is_of_these_data(config)


def _is_of_these_data(config: RunConfig) -> bool:
    """Whether the run's data are those that the configuration names; true where either are not here to be compared.

    Phantoms follow from their settings.
    """
    if any(source["phantoms"] for part in config.model_dump(include=PHANTOMS).values() for source in part):
        return True
    try:
        fixed = read_checkpoint(config.output / LAST)["fixed"]
        contents = fixed_settings(config, make_task(config, torch.device("cpu")).contents())
    except (AGTrainingError, OSError):
        return True
    return all(fixed.get(name, value) == value for name, value in contents.items())


def trained_model(config: RunConfig, device: str, collect: bool, say: Say) -> Path | None:
    """The model of the configuration's run, which is trained (or gone on with) where it is not there yet.

    collect: train nothing; None for a run that is not done. Raises what `train` raises.
    """
    if is_trained(config):
        return model_path(config)
    if collect:
        return None
    say(f"{config.output.name}: trains for {config.epochs} × {config.steps_per_epoch} steps")
    return train(config, device).bundle


def scored(config: TrainingConfig, model: Path, device: str, say: Say) -> Evaluation:
    """How well a model does on the configuration's validation cases; kept in `evaluation` in the run's folder.

    What is kept counts for the same model and, where the data are at hand, the same data, by their content.
    As in the papers: the trained classes on each scan's own grid, without post-processing.
    Raises InputError when a case cannot be scored: the mean of the others would be another table's.
    """
    folder = config.output / EVALUATION
    (source,) = config.validation
    if source.phantoms is not None:
        dataset = phantom_dataset(source.phantoms, config.output.parent / "phantoms")
        source = source.model_copy(update={"dataset": dataset, "phantoms": None})
    kept = read_tested(folder / TESTED)
    of = {"model": content_hash(model), "data": _data_key(source, config) or kept.get("data")}
    if (folder / JSON_FILE).is_file() and kept == of:
        return read_evaluation(folder / JSON_FILE)
    say(f"{config.output.name}: is tested")
    (folder / TESTED).unlink(missing_ok=True)
    options = SegmentOptions(device=device, largest_component=False)
    tested = read_source(source)
    result = evaluate(
        tested,
        ModelPredictions(bundle.load(model, device), options),
        chosen=_chosen(config, tested),
    )
    if result.failures:
        first = result.failures[0]
        raise InputError(
            f"{config.output.name}: {len(result.failures)} test cases have no scores; the first: {first.error}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_evaluation(result, folder)
    write_json(of, folder / TESTED)
    return result


def read_tested(path: Path) -> dict[str, Any]:
    """What a kept evaluation is of, nothing where it cannot be read."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _data_key(source: SourceSettings, config: TrainingConfig) -> str:
    """A short text for the content of the source's files; empty where they are not here."""
    try:
        return contents_key([source], prepared_folder(config))
    except (ConfigurationError, OSError):
        return ""


def _chosen(config: TrainingConfig, dataset: DatasetDescription) -> dict[str, tuple[str, ...]]:
    """The trained classes that the data set knows, each with its labels there: on CT-82 the pancreas alone.

    Raises ConfigurationError where it knows none.
    """
    chosen = {
        # A label that only sides make up, or a whole that stands for both, is found by the organ's name.
        item.name: tuple(item.labels) if set(item.labels) <= set(dataset.names) else ()
        for item in config.trained_classes
        if dataset.knows_all(item.labels)
    }
    if not chosen:
        names = ", ".join(item.name for item in config.trained_classes)
        raise ConfigurationError(f"{dataset.path}: has no label of {names}; test on a data set that has one.")
    return chosen


def pooled(evaluations: Sequence[Evaluation]) -> Evaluation:
    """The cases of all as one evaluation: folds, or seeds that were tested on the same cases."""
    return replace(evaluations[0], scores=tuple(row for evaluation in evaluations for row in evaluation.scores))


def averaged(evaluations: Sequence[Evaluation]) -> Evaluation:
    """The mean over evaluations of the same cases, case by case, of the values that are defined."""
    rows: dict[tuple[str, str], list[OrganScores]] = {}
    for evaluation in evaluations:
        for row in evaluation.scores:
            rows.setdefault((row.case, row.organ), []).append(row)
    return replace(evaluations[0], scores=tuple(_mean_row(group) for group in rows.values()))


def _mean_row(rows: Sequence[OrganScores]) -> OrganScores:
    numbers = [part.name for part in fields(OrganScores) if part.name not in ("case", "organ", "state")]
    means: dict[str, Any] = {}
    for name in numbers:
        defined = [value for value in (getattr(row, name) for row in rows) if not math.isnan(value)]
        means[name] = float(np.mean(defined)) if defined else math.nan
    states = {row.state for row in rows}
    return replace(rows[0], state=rows[0].state if len(states) == 1 else State.SCORED, **means)
