"""Who is trained on and who is validated on: by patient, seeded, and saved.

    {"seed": 0, "folds": [{"training": ["case", …], "validation": ["case", …]}, …]}

The papers' splits: 61/21 and five folds of CT-82, 120/30 and 30/120 of CT-150 (Oktay et al. 2018, section 3.1). Which
patients were in them is not published.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from AGTraining.data.dataset import Case, DatasetDescription
from AGTraining.errors import ConfigurationError


@dataclass(frozen=True)
class Fold:
    """Names of the cases of each part."""

    training: tuple[str, ...]
    validation: tuple[str, ...]


@dataclass(frozen=True)
class Splits:
    """seed: None where the data set itself says who belongs where."""

    folds: tuple[Fold, ...]
    seed: int | None = None


def make_split(dataset: DatasetDescription, validation: int, training: int | None = None, seed: int = 0) -> Splits:
    """One fold with this many cases in each part; training: None takes all that are not in the validation.

    Cases in neither part are left out, as for a training on few. The order of patients depends on the seed and their
    names alone: neither on the order of the files nor on who else is there. Raises ConfigurationError.
    """
    groups = _shuffled(dataset.cases, seed)
    total = len(dataset.cases)
    wanted = validation + (1 if training is None else training)
    if wanted > total:
        raise ConfigurationError(
            f"{dataset.path}: has {total} cases, which is too few for {'at least ' if training is None else ''}"
            f"{wanted - validation} in training and {validation} in validation."
        )
    chosen, rest = _take(groups, validation)
    if training is None:
        kept = [case for group in rest for case in group]
    else:
        kept, _ = _take(rest, training)
    for what, part, count in (("validation", chosen, validation), ("training", kept, training)):
        if count is not None and len(part) != count:
            raise ConfigurationError(
                f"{dataset.path}: {count} cases for {what} cannot be had without parting a patient's; {len(part)} can."
            )
    return Splits((Fold(_names(kept), _names(chosen)),), seed)


def make_folds(dataset: DatasetDescription, count: int, seed: int = 0) -> Splits:
    """`count` folds; each patient is validated on in one of them and trained on in all others.

    The validation parts differ by no more cases than a patient has. Raises ConfigurationError for too few patients.
    """
    groups = _shuffled(dataset.cases, seed)
    if not 2 <= count <= len(groups):
        raise ConfigurationError(
            f"{dataset.path}: has {len(groups)} patients, from whom {count} folds cannot be made; name 2 to "
            f"{len(groups)}."
        )
    parts: list[list[Case]] = [[] for _ in range(count)]
    # Patients with many cases first, so that the others can even the sizes out.
    for group in sorted(groups, key=len, reverse=True):
        min(parts, key=len).extend(group)
    folds = []
    for part in parts:
        names = {case.name for case in part}
        folds.append(Fold(tuple(c.name for c in dataset.cases if c.name not in names), _names(part)))
    return Splits(tuple(folds), seed)


def write_splits(splits: Splits, path: Path) -> None:
    """Writes them as JSON, whole or not at all."""
    document = {"seed": splits.seed, "folds": [asdict(fold) for fold in splits.folds]}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_text(json.dumps(document, indent=1), encoding="utf-8")
    os.replace(temporary, path)


def read_splits(path: Path) -> Splits:
    """Reads what `write_splits` wrote. Raises ConfigurationError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        folds = [Fold(tuple(map(str, f["training"])), tuple(map(str, f["validation"]))) for f in document["folds"]]
        return Splits(tuple(folds), document.get("seed"))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{path}: not a split ({type(error).__name__}: {error}); make it anew.") from error


def check_splits(splits: Splits, dataset: DatasetDescription, path: Path) -> list[str]:
    """A sentence for each case that is not in the data set, and each patient who is in both parts of a fold."""
    patients = {case.name: case.patient for case in dataset.cases}
    problems = []
    for number, fold in enumerate(splits.folds):
        names = [*fold.training, *fold.validation]
        problems += [
            f"{path}: fold {number} names '{name}', which is no case of {dataset.path}; make the split from this data "
            "set."
            for name in names
            if name not in patients
        ]
        both = {patients.get(name, name) for name in fold.training} & {patients.get(n, n) for n in fold.validation}
        problems += [
            f"{path}: fold {number} has patient '{patient}' in training and in validation; make the split by patient."
            for patient in sorted(both)
        ]
    return problems


def _shuffled(cases: Sequence[Case], seed: int) -> list[list[Case]]:
    """The cases of each patient, patients in an order that seems random."""
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        groups[case.patient].append(case)
    keys = {patient: hashlib.sha256(f"{seed}/{patient}".encode()).digest() for patient in groups}
    return [groups[patient] for patient in sorted(groups, key=keys.__getitem__)]


def _take(groups: Sequence[list[Case]], count: int) -> tuple[list[Case], list[list[Case]]]:
    """The first patients whose cases together are `count` (or nearly), and the others."""
    taken: list[Case] = []
    rest = []
    for group in groups:
        if len(taken) + len(group) <= count:
            taken += group
        else:
            rest.append(group)
    return taken, rest


def _names(cases: Sequence[Case]) -> tuple[str, ...]:
    return tuple(sorted(case.name for case in cases))
