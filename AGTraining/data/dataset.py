"""Data sets on disk: `dataset.json` in the Medical Segmentation Decathlon's form, which is read as it is.

    {"name": "…", "licence": "…",
     "labels": {"0": "background", "1": "pancreas", "2": "spleen"},
     "training": [{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}]}

Paths start at the file's folder. Optional additions of ours:

- `regions` beside `labels`: names for several values together, `{"kidney": [1, 2, 3]}`.
- in a case: `name` (default: from the image's path); `patient` (default: the name), by which splits are made;
  `incomplete`: names of labels that the case lacks or has only in part.

nnU-Net's form is read too: `labels` by name (`{"background": 0, "kidney": [1, 2]}`), and without `training` the cases
are those of `imagesTr` and `labelsTr`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from AGTraining.errors import ConfigurationError

SIDES = {"right": "left", "left": "right"}


@dataclass(frozen=True)
class Case:
    """An image (a file, or a folder of DICOM slices) with its label map.

    incomplete: label names that are missing or partly missing in it. given_name, given_patient: empty where the
    description does not say.
    """

    image: Path
    label: Path
    incomplete: frozenset[str] = frozenset()
    given_name: str = ""
    given_patient: str = ""

    @property
    def name(self) -> str:
        """The description's name, or that of the image's file without its endings, behind its folder's."""
        if self.given_name:
            return self.given_name
        stem = self.image.name.split(".")[0]
        return f"{self.image.parent.name}_{stem}"

    @property
    def patient(self) -> str:
        """Whose scan it is. Cases of one patient never lie in two parts of a split."""
        return self.given_patient or self.name


@dataclass(frozen=True)
class DatasetDescription:
    """What a `dataset.json` says. labels: value in the label maps by name; regions: several values by name."""

    path: Path
    name: str
    licence: str
    labels: dict[str, int]
    cases: tuple[Case, ...]
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """All names of labels and regions."""
        return list(dict.fromkeys([*self.labels, *self.regions]))

    @property
    def values_by_name(self) -> dict[str, tuple[int, ...]]:
        """The values of each label and region."""
        return {name: tuple(self.values([name])) for name in self.names}

    @property
    def known_values(self) -> frozenset[int]:
        """The values that may occur in a label map."""
        return frozenset({0, *self.labels.values(), *(value for group in self.regions.values() for value in group)})

    def values(self, names: Iterable[str]) -> list[int]:
        """The label values of some label names; those that this data set does not know are left out.

        A paired organ is found by either way of naming it: `kidney` where the data set has `kidney_right` and
        `kidney_left`, and both of these where it has `kidney` alone.
        """
        wanted = list(names)
        found = (self._values_of(name, wanted) or () for name in wanted)
        return list(dict.fromkeys(value for group in found for value in group))

    def knows_all(self, names: Iterable[str]) -> bool:
        """Whether `values` leaves none of the names out."""
        wanted = list(names)
        return all(self._values_of(name, wanted) is not None for name in wanted)

    def _values_of(self, name: str, wanted: list[str]) -> tuple[int, ...] | None:
        if name in self.regions:
            return self.regions[name]
        if name in self.labels:
            return (self.labels[name],)
        sides = [self._values_of(f"{name}_{side}", []) for side in SIDES if f"{name}_{side}" in self.names]
        if len(sides) == len(SIDES):
            return tuple(value for group in sides if group for value in group)
        whole, _, side = name.rpartition("_")
        if side in SIDES and whole in self.names and f"{whole}_{SIDES[side]}" in wanted:
            return self._values_of(whole, [])
        return None


def read_dataset(path: str | Path) -> DatasetDescription:
    """Reads a `dataset.json` (or the folder that holds it).

    Raises ConfigurationError when it is missing, not valid, or names files or labels that do not exist.
    """
    dataset, problems = read_description(path)
    if problems:
        more = f" (and {len(problems) - 1} more; the verb check lists all)" if len(problems) > 1 else ""
        raise ConfigurationError(problems[0] + more)
    return dataset


def read_description(path: str | Path) -> tuple[DatasetDescription, tuple[str, ...]]:
    """As `read_dataset`, but with the sound cases alone, and a sentence for each problem of the others.

    Raises ConfigurationError when there is nothing to go on with.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "dataset.json"
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        labels, regions = _labels(document["labels"])
        same = len(labels) + len(regions) < len(document["labels"])
        regions |= {str(name): tuple(map(int, values)) for name, values in document.get("regions", {}).items()}
        entries = [dict(entry) for entry in _entries(document, path.parent)]
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"{path}: not a dataset.json of the Decathlon's form ({type(error).__name__}: {error})."
        ) from error
    if same:
        raise ConfigurationError(f"{path}: two of its labels have the same name; give each value a name of its own.")
    if not entries:
        raise ConfigurationError(f"{path}: has no training cases.")
    known = {*labels, *regions}
    cases, problems = [], []
    names: dict[str, int] = {}
    for number, entry in enumerate(entries, 1):
        place = f"{path}: training case {number}"
        case, found = _case(entry, path.parent, known, place)
        if case is not None and names.setdefault(case.name, number) != number:
            found.append(f"{place} has the name of case {names[case.name]} ('{case.name}'); give each its own 'name'.")
        problems += found
        if case is not None and not found:
            cases.append(case)
    name = str(document.get("name", path.parent.name))
    return DatasetDescription(path, name, str(document.get("licence", "")), labels, tuple(cases), regions), tuple(
        problems
    )


def _labels(document: dict[str, Any]) -> tuple[dict[str, int], dict[str, tuple[int, ...]]]:
    """Values by name, one and several, from the Decathlon's form (names by value) or nnU-Net's (values by name)."""
    if all(key.lstrip("-").isdigit() for key in document):
        return {str(name): int(value) for value, name in document.items()}, {}
    regions = {str(name): tuple(map(int, value)) for name, value in document.items() if isinstance(value, list)}
    return {str(name): int(value) for name, value in document.items() if not isinstance(value, list)}, regions


def _entries(document: dict[str, Any], folder: Path) -> list[Any]:
    """The list `training`; in nnU-Net's form, which has none, what lies in its folders."""
    if "training" in document or "file_ending" not in document:
        return list(document["training"])
    ending = str(document["file_ending"])
    stems = sorted(
        file.name.removesuffix(ending)
        for file in (folder / "labelsTr").iterdir()
        if file.name.endswith(ending) and not file.name.startswith(".")
    )
    return [
        {"name": stem, "image": f"imagesTr/{stem}_0000{ending}", "label": f"labelsTr/{stem}{ending}"} for stem in stems
    ]


def _case(entry: dict[str, Any], folder: Path, known: set[str], place: str) -> tuple[Case | None, list[str]]:
    """A case, or None without its files' names, and what is wrong with it."""
    if not {"image", "label"} <= entry.keys():
        return None, [f"{place} needs 'image' and 'label'."]
    problems = []
    incomplete = entry.get("incomplete", [])
    if not isinstance(incomplete, list):
        problems.append(f"{place}: 'incomplete' must be a list of label names.")
        incomplete = []
    case = Case(
        folder / str(entry["image"]),
        folder / str(entry["label"]),
        frozenset(map(str, incomplete)),
        str(entry.get("name", "")),
        str(entry.get("patient", "")),
    )
    problems += [f"{place}: {file} does not exist." for file in (case.image, case.label) if not file.exists()]
    problems += [f"{place}: unknown label '{name}'." for name in sorted(case.incomplete - known)]
    return case, problems
