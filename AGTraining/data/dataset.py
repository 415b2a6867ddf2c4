"""Data sets on disk: `dataset.json` in the Medical Segmentation Decathlon's form.

    {"name": "…", "licence": "…",
     "labels": {"0": "background", "1": "pancreas", "2": "spleen"},
     "training": [{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz", "incomplete": ["pancreas"]}]}

Paths start at the file's folder. `incomplete` (ours, optional) names labels that a case lacks or has only in part.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from AGTraining.errors import ConfigurationError


@dataclass(frozen=True)
class Case:
    """An image with its label map. incomplete: label names that are missing or partly missing in it."""

    image: Path
    label: Path
    incomplete: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The image's file name without its endings, with its folder's name where the file's says little."""
        stem = self.image.name.split(".")[0]
        return f"{self.image.parent.name}_{stem}"


@dataclass(frozen=True)
class DatasetDescription:
    """What a `dataset.json` says. labels: value in the label maps by name."""

    path: Path
    name: str
    licence: str
    labels: dict[str, int]
    cases: tuple[Case, ...]

    def values(self, names: list[str]) -> list[int]:
        """The label values of some label names; those that this data set does not know are left out."""
        return [self.labels[name] for name in names if name in self.labels]


def read_dataset(path: str | Path) -> DatasetDescription:
    """Reads a `dataset.json` (or the folder that holds it).

    Raises ConfigurationError when it is missing, no valid JSON, or names files or labels that do not exist.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "dataset.json"
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        labels = {str(name): int(value) for value, name in document["labels"].items()}
        entries = [dict(entry) for entry in document["training"]]
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"{path}: not a dataset.json of the Decathlon's form ({type(error).__name__}: {error})."
        ) from error
    if len(labels) < len(document["labels"]):
        raise ConfigurationError(f"{path}: two of its labels have the same name; give each value a name of its own.")
    cases = []
    for number, entry in enumerate(entries, 1):
        if not {"image", "label"} <= entry.keys():
            raise ConfigurationError(f"{path}: training case {number} needs 'image' and 'label'.")
        incomplete = entry.get("incomplete", [])
        if not isinstance(incomplete, list):
            raise ConfigurationError(f"{path}: training case {number}: 'incomplete' must be a list of label names.")
        case = Case(
            path.parent / str(entry["image"]), path.parent / str(entry["label"]), frozenset(map(str, incomplete))
        )
        for file in (case.image, case.label):
            if not file.exists():
                raise ConfigurationError(f"{path}: training case {number}: {file} does not exist.")
        unknown = case.incomplete - labels.keys()
        if unknown:
            raise ConfigurationError(f"{path}: training case {number}: unknown label '{sorted(unknown)[0]}'.")
        cases.append(case)
    if not cases:
        raise ConfigurationError(f"{path}: has no training cases.")
    return DatasetDescription(
        path, str(document.get("name", path.parent.name)), str(document.get("licence", "")), labels, tuple(cases)
    )
