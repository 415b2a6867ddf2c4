"""Where predictions come from: a folder of segmentations that are named like the cases, or a model that is run."""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from AGTraining.bundle import Bundle
from AGTraining.data.dataset import Case, DatasetDescription
from AGTraining.errors import AGTrainingError, InputError
from AGTraining.imaging.files import IMAGE_SUFFIXES, image_suffix, read_volume
from AGTraining.imaging.volume import Volume
from AGTraining.inference.outputs import write_segmentation
from AGTraining.inference.result import SegmentOptions
from AGTraining.inference.segment import segment

SEGMENTATION = ".seg.nrrd"
TABLE = "_volumes.csv"
# What stands behind a case's name in those of predictions, and in those of its image and label map.
PREDICTION_ENDINGS = ("_labels", "_label", "_seg", "_pred")
CASE_ENDINGS = ("_labels", "_label", "_seg", "_ct", "_0000")

Progress = Callable[[float, str], None]
Color = tuple[int, int, int]


@dataclass(frozen=True)
class Predicted:
    """A label map, the values that make up each name, and the file it is from (None: none)."""

    labels: Volume
    values: Mapping[str, tuple[int, ...]]
    path: Path | None = None


class Predictions(ABC):
    """A source of predictions. name: of the model or folder; organs: what can be found; colors: of some of them."""

    def __init__(self, name: str, organs: tuple[str, ...], colors: Mapping[str, Color]) -> None:
        self.name = name
        self.organs = organs
        self.colors = colors

    @abstractmethod
    def predict(self, case: Case, progress: Progress | None = None) -> Predicted:
        """The prediction for a case. Raises InputError where there is none, and what reading or the model raises."""

    def trained_on(self, case: Case) -> bool:
        """Whether the model says that a case of this name was among its training data."""
        return False


class ModelPredictions(Predictions):
    """What a model finds, as `segment` does it.

    keep: folder for a `.seg.nrrd` of each case; a case that is asked for again is read from there.
    """

    def __init__(self, model: Bundle, options: SegmentOptions | None = None, keep: Path | None = None) -> None:
        labels = model.info.output_labels
        super().__init__(
            model.info.name, tuple(label.name for label in labels), {label.name: label.color for label in labels}
        )
        self._model, self._options, self._keep = model, options or SegmentOptions(), keep
        self._values = {label.name: (label.value,) for label in labels}
        self._kept: dict[str, Path] = {}

    def predict(self, case: Case, progress: Progress | None = None) -> Predicted:
        """Runs the model on the case's image. Raises what `segment` raises."""
        if case.name in self._kept:
            path = self._kept[case.name]
            return Predicted(read_volume(path), self._values, path)
        result = segment(read_volume(case.image), self._model, self._options, progress=progress)
        if self._keep is not None:
            path = self._keep / f"{case.name}{SEGMENTATION}"
            # Organs that were not found too: whoever reads the file knows that they were looked for.
            write_segmentation(result.labels, list(self._model.info.output_labels), path)
            self._kept[case.name] = path
        return Predicted(result.labels, self._values)

    def trained_on(self, case: Case) -> bool:
        """Whether the model's provenance names the case."""
        datasets = self._model.info.provenance.get("data", [])
        return isinstance(datasets, list) and any(
            case.name in dataset.get("cases", ()) for dataset in datasets if isinstance(dataset, dict)
        )


class FolderPredictions(Predictions):
    """Label maps in a folder (or one folder deeper), named like the cases of a data set.

    A `.seg.nrrd` (of `segment`, or of Slicer) says itself what its values are; the values of any other image are those
    of the data set. Raises InputError when no case has a prediction.
    """

    def __init__(self, folder: Path, dataset: DatasetDescription) -> None:
        self._folder, self._values = folder, dataset.values_by_name
        files = _images_by_name(folder)
        self._files: dict[str, list[Path]] = {}
        for case, names in _unique_names(dataset.cases).items():
            self._files[case] = next((files[name] for name in names if name in files), [])
        organs: dict[str, None] = {}
        for paths in self._files.values():
            for path in paths[:1]:
                organs |= dict.fromkeys(_organs_in(path) or dataset.names)
        if not organs:
            case = dataset.cases[0].name
            raise InputError(
                f"{folder}: has no prediction for any case of {dataset.path}; name predictions like the cases, such as "
                f"{case}.nii.gz."
            )
        super().__init__(folder.name, tuple(organs), {})

    def predict(self, case: Case, progress: Progress | None = None) -> Predicted:
        """Reads the case's file. Raises InputError where there is none, or more than one."""
        paths = self._files[case.name]
        if not paths:
            raise InputError(f"{case.name}: has no prediction in {self._folder}; make it, or leave the case out.")
        path = paths[0]
        if len(paths) > 1:
            raise InputError(f"{case.name}: {path} and {paths[1]} may both be its prediction; remove one of them.")
        if path.samefile(case.label):
            raise InputError(f"{path}: is the reference of {case.name} itself; name the folder of the predictions.")
        segments = {name: (value,) for name, value in _segments(path).items()}
        return Predicted(read_volume(path), segments or self._values, path)


def _images_by_name(folder: Path) -> dict[str, list[Path]]:
    """Images below the folder by name without endings; of those of one name in one folder a `.seg.nrrd` counts."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name the folder of the predictions.")
    found: dict[tuple[Path, str], Path] = {}
    for path in sorted([*folder.glob("*"), *folder.glob("*/*")]):
        lower = path.name.lower()
        if path.name.startswith(".") or not path.is_file() or not lower.endswith(IMAGE_SUFFIXES):
            continue
        key = (path.parent, _without(_stem(path), PREDICTION_ENDINGS))
        if key not in found or lower.endswith(SEGMENTATION):
            found[key] = path
    names: dict[str, list[Path]] = {}
    for (_, name), path in found.items():
        names.setdefault(name, []).append(path)
    return names


def _unique_names(cases: Sequence[Case]) -> dict[str, list[str]]:
    """By case, what its prediction may be called, the best first: only what no other case may be called too."""
    names = {}
    for case in cases:
        stems = [_stem(case.image), _stem(case.label)]
        candidates = [case.name, *stems, *(_without(stem, CASE_ENDINGS) for stem in stems), case.image.parent.name]
        names[case.name] = list(dict.fromkeys(candidates))
    count = Counter(name for candidates in names.values() for name in candidates)
    return {case: [name for name in candidates if count[name] == 1] for case, candidates in names.items()}


def _stem(path: Path) -> str:
    """The name without its image suffix, and without the `.seg` of Slicer."""
    lower = path.name.lower()
    if lower.endswith(SEGMENTATION):
        return path.name[: -len(SEGMENTATION)]
    return path.name[: -len(image_suffix(path))] if lower.endswith(IMAGE_SUFFIXES) else path.name


def _without(name: str, endings: tuple[str, ...]) -> str:
    return next((name.removesuffix(ending) for ending in endings if name.endswith(ending)), name)


def _segments(path: Path) -> dict[str, int]:
    """Label values by name of the segments that a `.seg.nrrd` describes; empty for another file.

    Raises InputError where its segments overlap.
    """
    if not path.name.lower().endswith(SEGMENTATION):
        return {}
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        # What is wrong with the file is said when its voxels are read.
        return {}
    values = {}
    number = 0
    while reader.HasMetaDataKey(f"Segment{number}_Name"):
        if reader.HasMetaDataKey(f"Segment{number}_Layer") and int(reader.GetMetaData(f"Segment{number}_Layer")):
            raise InputError(f"{path}: its segments overlap; export them from Slicer as a label map.")
        if reader.HasMetaDataKey(f"Segment{number}_LabelValue"):
            values[reader.GetMetaData(f"Segment{number}_Name")] = int(reader.GetMetaData(f"Segment{number}_LabelValue"))
        number += 1
    return values


def _organs_in(path: Path) -> list[str]:
    """The names in a `.seg.nrrd` and in the table that `segment` writes beside it (also what was not found).

    Empty for another file, and for one that cannot be read.
    """
    try:
        names = list(_segments(path))
        table = path.with_name(_stem(path) + TABLE)
        if names and table.is_file():
            with table.open(newline="", encoding="utf-8") as file:
                names += [row["organ"] for row in csv.DictReader(file) if row.get("organ")]
    except (AGTrainingError, OSError, ValueError):
        return []
    return names
