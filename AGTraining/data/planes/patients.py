"""Who is trained on and who is validated on, by patient: seeded folds or a share that have all planes alike."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from AGTraining.data.planes.labelled import LEVEL, LabelledFrame, PlaneDataset
from AGTraining.data.planes.settings import PatientSplitSettings
from AGTraining.data.splits import Fold, Splits, read_splits
from AGTraining.errors import ConfigurationError

# The part that the data set's own split puts a frame into, and its general plane.
Stratum = tuple[str | None, str]


def make_plane_folds(dataset: PlaneDataset, count: int, seed: int = 0) -> Splits:
    """`count` folds of patients; each is validated on in one of them. Raises ConfigurationError for too few."""
    patients = {frame.patient for frame in dataset.frames}
    if not 2 <= count <= len(patients):
        raise ConfigurationError(
            f"{dataset.path}: has {len(patients)} patients, from whom {count} folds cannot be made; name 2 to "
            f"{len(patients)}."
        )
    parts = _parts(dataset.frames, [1 / count] * count, seed)
    return Splits(tuple(Fold(tuple(sorted(patients - set(part))), tuple(sorted(part))) for part in parts), seed)


def make_plane_split(dataset: PlaneDataset, share: float, seed: int = 0) -> Splits:
    """One fold that validates on about this share of each plane's frames. Raises ConfigurationError."""
    if len({frame.patient for frame in dataset.frames}) < 2:
        raise ConfigurationError(f"{dataset.path}: has one patient only, who cannot be parted.")
    training, validation = _parts(dataset.frames, [1 - share, share], seed)
    return Splits((Fold(tuple(sorted(training)), tuple(sorted(validation))),), seed)


def chosen_patients(dataset: PlaneDataset, split: PatientSplitSettings, part: str) -> set[str]:
    """The patients of a part ("training" or "validation") of the data set. Raises ConfigurationError."""
    place = split.file or dataset.path
    if split.file is not None:
        splits = read_splits(split.file)
        if split.fold >= len(splits.folds):
            raise ConfigurationError(
                f"{split.file}: has {len(splits.folds)} folds, counted from 0; there is no fold {split.fold}."
            )
        for problem in check_plane_splits(splits, dataset, split.file):
            raise ConfigurationError(problem)
        fold = splits.folds[split.fold]
    elif split.folds is not None:
        fold = make_plane_folds(dataset, split.folds, split.seed).folds[split.fold]
    else:
        assert split.share is not None  # PatientSplitSettings has one of the three
        fold = make_plane_split(dataset, split.share, split.seed).folds[0]
    names = fold.validation if part == "validation" else fold.training
    if not names:
        raise ConfigurationError(f"{place}: its part for {part} has no patient; make the split anew.")
    return set(names)


def check_plane_splits(splits: Splits, dataset: PlaneDataset, path: Path) -> list[str]:
    """A sentence for each patient who is not in the data set, and for each who is in both parts of a fold."""
    patients = {frame.patient for frame in dataset.frames}
    problems = []
    for number, fold in enumerate(splits.folds):
        problems += [
            f"{path}: fold {number} names patient '{name}', who is not in {dataset.path}; make the split from this "
            "data set."
            for name in sorted({*fold.training, *fold.validation} - patients)
        ]
        problems += [
            f"{path}: fold {number} has patient '{name}' in training and in validation."
            for name in sorted(set(fold.training) & set(fold.validation))
        ]
    return problems


def _parts(frames: Sequence[LabelledFrame], shares: Sequence[float], seed: int) -> list[list[str]]:
    """The patients of each part, such that each part has its share of every plane as nearly as patients allow, also
    within the parts of the data set's own split.

    Patients with many frames go first; each goes where its planes are wanted most. Patients that are alike come in an
    order that depends on the seed and their names alone.
    """
    groups: dict[str, Counter[Stratum]] = defaultdict(Counter)
    for frame in frames:
        # The general plane: its kinds are often too few to be parted.
        groups[frame.patient][frame.part, (frame.label or "").split(LEVEL)[0]] += 1
    total: Counter[Stratum] = sum(groups.values(), Counter())
    keys = {patient: hashlib.sha256(f"{seed}/{patient}".encode()).digest() for patient in groups}
    order = sorted(groups, key=lambda patient: (-groups[patient].total(), keys[patient]))
    parts: list[list[str]] = [[] for _ in shares]
    filled: list[Counter[Stratum]] = [Counter() for _ in shares]
    for patient in order:
        group = groups[patient]

        def want(part: int, group: Counter[Stratum] = group) -> tuple[float, float]:
            planes = sum(
                count * (filled[part][plane] + count / 2) / (total[plane] * shares[part])
                for plane, count in group.items()
            )
            return planes, filled[part].total() / shares[part]

        best = min(range(len(shares)), key=want)
        parts[best].append(patient)
        filled[best] += group
    for number, part in enumerate(parts):
        if not part:
            # Too few patients for their planes: the part with most gives one.
            part.append(max(parts, key=len).pop())
            parts[number] = part
    return parts
