"""What a run is made of: to tell whether it may be resumed, and to say so in its bundle."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import AGTraining
from AGTraining import bundle
from AGTraining.data.fingerprint import KnownHashes, content_hash
from AGTraining.data.sources import read_source
from AGTraining.training.config import SourceSettings, TrainingConfig
from AGTraining.training.run_config import RunConfig

# What may change when a run is resumed: names, what is done beside the training, and where files lie.
FREE = {
    "output", "prepared", "workers", "loader_memory_mib", "validate_every", "early_stop", "checkpoint_minutes",
    "checkpoint_steps", "deterministic", "report", "provenance", "licence", "name",
}  # fmt: skip
FILES = {"training", "validation", "initial_weights", "teacher"}


def fixed_settings(config: RunConfig, contents: Mapping[str, Any]) -> dict[str, str]:
    """What must not change when a run is resumed, as JSON by name of the setting.

    contents: what is in the data's files, by part, such as `data_contents`.
    Data sets and initial weights count by what is in their files, so that a run's folder and its data may be moved.
    More epochs may be added where the schedule does not depend on their number.
    """
    free = FREE | FILES | (set() if config.schedule == "cosine" else {"epochs"})
    settings = config.model_dump(mode="json", exclude=free) | dict(contents)
    settings["content of initial_weights"] = config.initial_weights and content_hash(config.initial_weights)
    return {key: json.dumps(value, sort_keys=True) for key, value in settings.items()}


def data_contents(config: TrainingConfig, prepared: Path) -> dict[str, Any]:
    """What is in the files of the scans that are trained and validated on.

    prepared: the folder of prepared cases, which also keeps the hashes of files that were read before.
    """
    prepared.mkdir(parents=True, exist_ok=True)
    known = KnownHashes(prepared)
    parts = {"training data": config.training, "validation data": config.validation}
    contents = {name: _contents(sources, known) for name, sources in parts.items()}
    known.save()
    return contents


def contents_key(sources: list[SourceSettings], prepared: Path) -> str:
    """A short text that depends on what is in the sources' files. prepared: see `data_contents`."""
    prepared.mkdir(parents=True, exist_ok=True)
    known = KnownHashes(prepared)
    text = json.dumps(_contents(sources, known))
    known.save()
    return hashlib.sha256(text.encode()).hexdigest()


def describe_run(config: RunConfig, epochs: int, data: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The provenance of a bundle: data with licences, commit, date, seed and settings.

    data: of each data set that was trained on, its name, licence and what it was in it.
    """
    start = None if config.initial_weights is None else describe_model(config.initial_weights)
    return {
        "training": config.provenance,
        "initial_weights": start,
        "data": list(data),
        "version": AGTraining.__version__,
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "seed": config.seed,
        "epochs": epochs,
        "configuration": config.model_dump(mode="json", include={"learning_rate", "schedule", "batch_size", "crop"}),
    }


def describe_model(path: Path) -> dict[str, Any]:
    """Name, hash and provenance of a model that a run makes use of."""
    info = bundle.read_info(path)
    return {"name": info.name, "sha256": content_hash(path), "provenance": info.provenance}


def commit() -> str:
    """The Git commit of the checkout that this package runs from; empty where it is none."""
    root = Path(AGTraining.__file__).resolve().parents[1]
    try:
        command = ["git", "-C", str(root), "rev-parse", "--show-toplevel", "HEAD"]
        output = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    # An installed package may lie within somebody else's repository.
    top, head = output.split("\n")[:2]
    return head if Path(top).resolve() == root else ""


def _contents(sources: list[SourceSettings], known: KnownHashes) -> list[Any]:
    return [
        [
            source.weight,
            dataset.labels,
            dataset.regions,
            [[known.get(case.image), known.get(case.label), sorted(case.incomplete)] for case in dataset.cases],
        ]
        for source, dataset in ((source, read_source(source)) for source in sources)
    ]
