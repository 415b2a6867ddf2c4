"""Cases on the model's grid, prepared once, kept on disk and mapped into memory.

    PREPARED/<case>-<hash>/  image.npy   float16 z-scores (K, J, I)
                             target.npy  uint8 classes (K, J, I)
                             case.json   what it is and what it was made from

The hash is of the content of image and label map and of all settings that matter, so that a changed file or setting
makes a new folder and an unchanged one is found again, whatever became of paths and times. A folder is there whole or
not at all: preparing goes on where it was stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from AGTraining.data.check import Findings, Progress, check_apart, check_volumes, grid_mismatch, read_case
from AGTraining.data.dataset import Case, DatasetDescription
from AGTraining.data.fingerprint import KnownHashes, files_of
from AGTraining.data.parallel import in_processes, usable_cores
from AGTraining.data.sources import read_source
from AGTraining.errors import ConfigurationError
from AGTraining.imaging.intensity import AIR_HU, IntensityRule
from AGTraining.imaging.resample import canonical_grid, resample, resample_labels
from AGTraining.imaging.volume import Volume
from AGTraining.training.config import ClassSettings, SourceSettings, TrainingConfig

# Of what is written; a change makes all that was prepared before count as something else.
FORMAT = 1
IMAGE, TARGET, DESCRIPTION = "image.npy", "target.npy", "case.json"
STALE_SECONDS = 24 * 3600
SMALL_BYTES = 64 * 1024**2


@dataclass(frozen=True)
class PreparedCase:
    """A case on the model's grid.

    image: (K, J, I) float16 z-scores; target: (K, J, I) uint8 class indices; labelled: (classes,) bool, background
    first. weight: how often it is drawn, relative to others. folder: where the arrays are mapped from, if they are.
    """

    name: str
    image: np.ndarray
    target: np.ndarray
    labelled: np.ndarray
    weight: float
    folder: Path | None = None

    def __reduce__(self) -> Any:
        """For another process: a mapped case travels as its folder, not as its voxels."""
        if self.folder is not None:
            return load_prepared, (self.folder, self.name, self.weight)
        return PreparedCase, (self.name, self.image, self.target, self.labelled, self.weight)


@dataclass(frozen=True)
class _Recipe:
    """What a case becomes. values: label values of each foreground class; labelled: of each class.

    known: the values that its label map may hold, because a case with others is refused.
    """

    spacing: tuple[float, float, float]
    intensity: IntensityRule
    values: tuple[tuple[int, ...], ...]
    labelled: tuple[bool, ...]
    known: tuple[int, ...]

    def key(self, contents: Sequence[str]) -> str:
        """A short text that depends on this and on the files' contents."""
        settings = asdict(self) | {"intensity": self.intensity.model_dump(), "format": FORMAT}
        text = json.dumps([settings, list(contents)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _Task:
    case: Case
    dataset: DatasetDescription
    recipe: _Recipe
    folder: Path


def prepare_case(
    case: Case,
    dataset: DatasetDescription,
    classes: Sequence[ClassSettings],
    spacing: tuple[float, float, float],
    intensity: IntensityRule,
    weight: float = 1.0,
) -> PreparedCase:
    """Brings a case to the model's grid, in memory.

    Raises ConfigurationError with its files' names when they cannot be read or do not lie on one grid.
    """
    image, labels, findings = read_case(case)
    if image is not None and labels is not None:
        findings.problems += grid_mismatch(case, image, labels)
    findings.require_none()
    assert image is not None and labels is not None
    recipe = _recipe(case, dataset, classes, spacing, intensity)
    return PreparedCase(case.name, *_resampled(image, labels, recipe), np.array(recipe.labelled), weight)


def prepare_sources(
    sources: Sequence[SourceSettings],
    config: TrainingConfig,
    cache_folder: Path,
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[PreparedCase]:
    """All cases of some data sets on the model's grid, mapped into memory; a source's weight is shared by its cases.

    What the folder does not hold yet is checked, prepared and kept there. workers: processes, each of which holds a
    scan (None: one a core, four at most, where there is enough to do). progress: called with the fraction done and a
    case's name.
    Raises ConfigurationError that names all problems of all cases, after preparing those that have none.
    """
    tasks: list[_Task] = []
    weights: list[float] = []
    cache_folder.mkdir(parents=True, exist_ok=True)
    _remove_stale(cache_folder)
    known = KnownHashes(cache_folder)
    for source in sources:
        dataset = read_source(source)
        tasks += _tasks(dataset, config, cache_folder, known)
        weights += [source.weight / len(dataset.cases)] * len(dataset.cases)
    known.save()
    # Equal scans in two sources are one folder.
    missing = list({task.folder: task for task in tasks if not (task.folder / DESCRIPTION).is_file()}.values())
    workers = _worth_while(missing) if workers is None else workers
    findings = Findings()
    for number, (task, problems) in enumerate(zip(missing, in_processes(_prepare, missing, workers), strict=True), 1):
        findings.problems += problems
        if progress is not None:
            progress(number / len(missing), task.case.name)
    findings.require_none()
    return [load_prepared(task.folder, task.case.name, weight) for task, weight in zip(tasks, weights, strict=True)]


def prepared_folder(config: TrainingConfig) -> Path:
    """Where a configuration's prepared cases lie: where it says, or beside its run's folder, shared by runs there."""
    return config.prepared or config.output.parent / "prepared"


def load_prepared(folder: Path, name: str, weight: float = 1.0) -> PreparedCase:
    """A prepared case, its arrays mapped from disk: only what is looked at is read. Raises ConfigurationError."""
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        image, target = (np.load(folder / file, mmap_mode="r") for file in (IMAGE, TARGET))
        shapes = [tuple(description["shape"]), image.shape, target.shape]
        if len(set(shapes)) > 1:
            raise ValueError(f"its parts have the sizes {shapes}")
        return PreparedCase(name, image, target, np.array(description["labelled"], dtype=bool), weight, folder)
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{folder}: a prepared case that is not whole; delete the folder ({error})."
        ) from error


def require_labels(sources: Sequence[SourceSettings], classes: Sequence[ClassSettings]) -> None:
    """Raises ConfigurationError for a class that no source can teach: it would silently never be learnt.

    Also for two classes that share voxels without one being part of the other: whose they are would depend on order.
    """
    datasets = [read_source(source) for source in sources]
    for dataset in datasets:
        _require_no_overlap(dataset, classes)
    known = sorted({name for dataset in datasets for name in dataset.names})
    for item in classes:
        for label in item.labels:
            if not any(dataset.values([label]) or dataset.knows_all(item.labels) for dataset in datasets):
                raise ConfigurationError(
                    f"classes: label '{label}' of class '{item.name}' is in none of the training data sets; "
                    f"they have {', '.join(known)}."
                )
        if not any(dataset.knows_all(item.labels) for dataset in datasets):
            raise ConfigurationError(
                f"classes: no training data set has all labels of class '{item.name}' ({', '.join(item.labels)}), so "
                "that none can teach it; name labels that one has."
            )


def require_apart(
    training: Sequence[SourceSettings], validation: Sequence[SourceSettings], cache_folder: Path | None = None
) -> None:
    """Raises ConfigurationError that names all patients and scans who are in both parts, under whatever names.

    cache_folder: of prepared cases, which keeps the hashes of files that were read before.
    """
    parts = list(map(read_source, training)), list(map(read_source, validation))
    if cache_folder is None:
        return check_apart(*parts).require_none()
    known = KnownHashes(cache_folder)
    check_apart(*parts, known.get).require_none()
    cache_folder.mkdir(parents=True, exist_ok=True)
    known.save()


def class_values(dataset: DatasetDescription, classes: Sequence[ClassSettings]) -> list[list[int]]:
    """The label values that make up each class in this data set.

    Where one class is part of another (a tumor of its organ) its values count for the part alone.
    """
    groups = [set(dataset.values(item.labels)) for item in classes]
    result = []
    for group in groups:
        parts = set().union(*(other for other in groups if other < group))
        result.append(sorted(group - parts))
    return result


def _require_no_overlap(dataset: DatasetDescription, classes: Sequence[ClassSettings]) -> None:
    groups = [(item.name, set(dataset.values(item.labels))) for item in classes]
    for (name, group), (other_name, other) in combinations(groups, 2):
        if group & other and not (group < other or other < group):
            raise ConfigurationError(
                f"classes: '{name}' and '{other_name}' share labels of {dataset.path}, and neither is part of the "
                "other; give each label to one of them."
            )


def _recipe(
    case: Case,
    dataset: DatasetDescription,
    classes: Sequence[ClassSettings],
    spacing: tuple[float, float, float],
    intensity: IntensityRule,
) -> _Recipe:
    incomplete = set(dataset.values(case.incomplete))
    labelled = [
        dataset.knows_all(item.labels) and not incomplete.intersection(dataset.values(item.labels)) for item in classes
    ]
    values = tuple(map(tuple, class_values(dataset, classes)))
    known = tuple(sorted(dataset.known_values))
    return _Recipe(tuple(map(float, spacing)), intensity, values, (True, *labelled), known)  # type: ignore[arg-type]


def _tasks(dataset: DatasetDescription, config: TrainingConfig, cache_folder: Path, known: KnownHashes) -> list[_Task]:
    files = list(dict.fromkeys(file for case in dataset.cases for file in (case.image, case.label)))
    # Hashing waits for the disk, and lets go of the interpreter while it computes.
    try:
        with ThreadPoolExecutor(min(4, usable_cores())) as pool:
            contents = dict(zip(files, pool.map(known.get, files), strict=True))
    except OSError as error:
        raise ConfigurationError(f"{error.filename}: cannot be read ({error.strerror}).") from error
    tasks = []
    for case in dataset.cases:
        recipe = _recipe(case, dataset, config.classes, config.spacing_mm, config.intensity)
        stem = re.sub(r"[^\w.-]+", "_", case.name)[:80]
        key = recipe.key([contents[case.image], contents[case.label]])
        tasks.append(_Task(case, dataset, recipe, cache_folder / f"{stem}-{key}"))
    return tasks


def _worth_while(tasks: Sequence[_Task]) -> int:
    """How many processes to use: starting one takes as long as a few small scans."""
    size = sum(part.stat().st_size for task in tasks for part in files_of(task.case.image))
    return min(4, usable_cores()) if size > SMALL_BYTES else 1


def _prepare(task: _Task) -> list[str]:
    """Checks and prepares a case into its folder; returns what is wrong with it."""
    image, labels, findings = read_case(task.case)
    findings.add(check_volumes(task.case, task.dataset, image, labels))
    if findings.problems or image is None or labels is None:
        return findings.problems
    array, target = _resampled(image, labels, task.recipe)
    # A name that no other run has: in containers, hosts' and processes' names come again.
    temporary = task.folder.with_name(f".{task.folder.name}.{uuid.uuid4().hex}.part")
    description = {
        "format": FORMAT,
        "name": task.case.name,
        "dataset": task.dataset.name,
        "image": str(task.case.image),
        "label": str(task.case.label),
        "shape": list(array.shape),
        "spacing_mm": list(task.recipe.spacing),
        "intensity": task.recipe.intensity.model_dump(),
        "class_values": [list(group) for group in task.recipe.values],
        "labelled": list(task.recipe.labelled),
    }
    try:
        temporary.mkdir()
        np.save(temporary / IMAGE, array)
        np.save(temporary / TARGET, target)
        (temporary / DESCRIPTION).write_text(json.dumps(description, indent=1), encoding="utf-8")
        for part in temporary.iterdir():
            _to_disk(part)
        # Without its description a folder is no prepared case, but would be in the way.
        if task.folder.is_dir() and not (task.folder / DESCRIPTION).is_file():
            shutil.rmtree(task.folder)
        os.replace(temporary, task.folder)
    except OSError as error:
        # Another run has made it meanwhile.
        if not (task.folder / DESCRIPTION).is_file():
            return [f"{task.folder}: cannot be written ({error.strerror}); is the disk full?"]
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return []


def _to_disk(path: Path) -> None:
    """Waits until a file's content is on the disk: else a power cut can leave the renamed folder with empty files."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _resampled(image: Volume, labels: Volume, recipe: _Recipe) -> tuple[np.ndarray, np.ndarray]:
    """z-scores (K, J, I) float16 and classes (K, J, I) uint8 on the model's grid along the patient's axes."""
    grid = canonical_grid(image, recipe.spacing)
    array = recipe.intensity.apply(resample(image, grid, AIR_HU)).astype(np.float16)
    return array, resample_labels(labels, grid, recipe.values)


def _remove_stale(folder: Path) -> None:
    """What a run left behind that was ended from outside, long enough ago that no other one may be writing it."""
    for part in folder.glob(".*.part"):
        try:
            if time.time() - part.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(part) if part.is_dir() else part.unlink()
        except OSError:
            continue
