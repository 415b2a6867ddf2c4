"""Training samples: cases on the model's grid, cut and augmented at random but reproducibly."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from AGTraining.data.augment import Augmentation
from AGTraining.data.dataset import Case, DatasetDescription, read_dataset
from AGTraining.errors import ConfigurationError
from AGTraining.imaging.files import read_volume
from AGTraining.imaging.intensity import AIR_HU, IntensityRule
from AGTraining.imaging.resample import canonical_grid, resample, resample_labels
from AGTraining.training.config import ClassSettings, SourceSettings, TrainingConfig


@dataclass(frozen=True)
class PreparedCase:
    """A case on the model's grid.

    image: (K, J, I) float16 z-scores; target: (K, J, I) uint8 class indices; labelled: (classes,) bool, background
    first. weight: how often it is drawn, relative to others.
    """

    name: str
    image: np.ndarray
    target: np.ndarray
    labelled: np.ndarray
    weight: float


def prepare_case(
    case: Case,
    dataset: DatasetDescription,
    classes: list[ClassSettings],
    spacing: tuple[float, float, float],
    intensity: IntensityRule,
    weight: float = 1.0,
) -> PreparedCase:
    """Reads a case and brings it to the model's grid. Raises InputError or ConfigurationError with its file's name."""
    image, labels = read_volume(case.image), read_volume(case.label)
    if not image.same_grid(labels, tolerance_mm=0.1):
        raise ConfigurationError(
            f"{case.label}: its grid (size {labels.size}) is not that of {case.image.name} (size {image.size}); "
            "resample the label map to the image."
        )
    grid = canonical_grid(image, spacing)
    values = [dataset.values(item.labels) for item in classes]
    labelled = [True] + [
        len(found) == len(item.labels) and not case.incomplete.intersection(item.labels)
        for item, found in zip(classes, values, strict=True)
    ]
    array = intensity.apply(resample(image, grid, AIR_HU)).astype(np.float16)
    return PreparedCase(case.name, array, resample_labels(labels, grid, values), np.array(labelled), weight)


def prepare_sources(sources: list[SourceSettings], config: TrainingConfig) -> list[PreparedCase]:
    """All cases of some data sets on the model's grid; a source's weight is shared by its cases."""
    prepared = []
    for source in sources:
        dataset = read_dataset(source.dataset)
        share = source.weight / len(dataset.cases)
        prepared += [
            prepare_case(case, dataset, config.classes, config.spacing_mm, config.intensity, share)
            for case in dataset.cases
        ]
    return prepared


def require_labels(sources: list[SourceSettings], classes: list[ClassSettings]) -> None:
    """Raises ConfigurationError for a label that no source knows: its class would silently never be learnt."""
    known = {name for source in sources for name in read_dataset(source.dataset).labels}
    for item in classes:
        for label in item.labels:
            if label not in known:
                raise ConfigurationError(
                    f"classes: label '{label}' of class '{item.name}' is in none of the training data sets; "
                    f"they have {', '.join(sorted(known))}."
                )


class TrainingSamples(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """An endless, reproducible list of augmented crops: sample n depends on the seed and n alone.

    Item n: image (1, K, J, I) float32, target (K, J, I) uint8, labelled (classes,) bool. A run that is resumed at
    sample n therefore sees what an undisturbed one would have seen, whatever the number of workers.
    """

    def __init__(self, cases: list[PreparedCase], config: TrainingConfig) -> None:
        self._cases = cases
        weights = np.array([case.weight for case in cases], dtype=np.float64)
        self._probabilities = weights / weights.sum()
        self._seed = config.seed
        air = float(config.intensity.apply(np.full(1, AIR_HU, dtype=np.float32))[0]) if config.intensity.sd else None
        self._augmentation = Augmentation(config.augmentation, config.crop, air)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        random = np.random.default_rng((self._seed, index))
        case = self._cases[random.choice(len(self._cases), p=self._probabilities)]
        image, target = self._augmentation(case.image, case.target, random)
        return image, target, torch.from_numpy(case.labelled)


def file_fingerprint(path: Path) -> str:
    """Name, size and CRC-32 of a file or of all files in a folder: enough to notice that other data are used."""
    crc = size = 0
    for part in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        size += part.stat().st_size
        with part.open("rb") as file:
            while chunk := file.read(1 << 20):
                crc = zlib.crc32(chunk, crc)
    return f"{path.name} {size} {crc:08x}"
