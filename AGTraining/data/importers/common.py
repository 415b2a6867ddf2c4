"""What all importers share: what they are asked, what they write and what they report."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from AGTraining.data.splits import Splits, write_splits
from AGTraining.errors import ConfigurationError

# Names of organs in data sets that say the same in other words; TotalSegmentator's, which are the phantom's too.
ORGAN_NAMES = {
    "right_kidney": "kidney_right",
    "left_kidney": "kidney_left",
    "gall_bladder": "gallbladder",
    "arota": "aorta",
    "postcava": "inferior_vena_cava",
    "ivc": "inferior_vena_cava",
    "right_adrenal_gland": "adrenal_gland_right",
    "left_adrenal_gland": "adrenal_gland_left",
    "bladder": "urinary_bladder",
    "prostate_uterus": "prostate_or_uterus",
}


@dataclass(frozen=True)
class ImportOptions:
    """labels: which labels, each importer's own way (`pancreas`, or `pancreas=2`); workers: processes."""

    labels: tuple[str, ...] = ()
    workers: int = 1


DEFAULTS = ImportOptions()


@dataclass(frozen=True)
class ImportReport:
    """dataset: the `dataset.json` that was written; cases: how many are in it.

    notes: what the user should know. problems: sentences on cases that were left out, with their files' names.
    splits: the split that the data set brings along, if it does.
    """

    dataset: Path
    cases: int
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    splits: Path | None = None


@dataclass
class Collected:
    """What an importer has found so far; `write` makes the data set of it."""

    name: str
    licence: str
    labels: Mapping[int, str]
    regions: Mapping[str, Sequence[int]] = field(default_factory=dict)
    cases: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, name: str, image: Path, label: Path, patient: str = "", incomplete: Iterable[str] = ()) -> bool:
        """Takes a case whose files are there; a problem otherwise. Returns whether it was taken."""
        missing = [file for file in (image, label) if not file.exists()]
        self.problems += [f"{file}: is missing, so that case '{name}' was left out." for file in missing]
        if missing:
            return False
        case: dict[str, Any] = {"name": name, "image": image, "label": label}
        if patient:
            case["patient"] = patient
        if lacking := sorted(incomplete):
            case["incomplete"] = lacking
        self.cases.append(case)
        return True

    def write(
        self, folder: Path, source: Path, splits: Splits | None = None, file: str = "dataset.json"
    ) -> ImportReport:
        """Writes `dataset.json` (and `splits.json`) into the folder. Raises ConfigurationError without any case."""
        if not self.cases:
            raise ConfigurationError(
                f"{source}: holds no case that can be taken"
                + (f"; the first of {len(self.problems)} problems: {self.problems[0]}" if self.problems else ".")
            )
        folder.mkdir(parents=True, exist_ok=True)
        document = {
            "name": self.name,
            "licence": self.licence,
            "labels": {"0": "background", **{str(value): name for value, name in self.labels.items()}},
            **({"regions": {name: list(values) for name, values in self.regions.items()}} if self.regions else {}),
            "training": [
                case | {key: relative(case[key], folder) for key in ("image", "label")}
                for case in sorted(self.cases, key=lambda case: str(case["name"]))
            ],
        }
        path = folder / file
        write_json(document, path)
        if splits is not None:
            write_splits(splits, folder / "splits.json")
        return ImportReport(
            path,
            len(self.cases),
            tuple(self.notes),
            tuple(self.problems),
            None if splits is None else folder / "splits.json",
        )


def write_json(document: Any, path: Path) -> None:
    """Writes JSON, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_text(json.dumps(document, indent=1), encoding="utf-8")
    os.replace(temporary, path)


def relative(path: Path, folder: Path) -> str:
    """The path from a folder, so that both may be moved together; absolute from one drive of Windows to another."""
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:
        return path.resolve().as_posix()


def organ_name(text: str) -> str:
    """`Right Kidney` as `kidney_right`, `postcava` as `inferior_vena_cava`: one name an organ in all data sets."""
    name = re.sub(r"[^\w]+", "_", text.strip().lower()).strip("_")
    return ORGAN_NAMES.get(name, name)


def images_in(folder: Path) -> list[Path]:
    """NIfTI, NRRD and MetaImage files in a folder, sorted, without what macOS puts into archives (`._name`)."""
    if not folder.is_dir():
        return []
    endings = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
    return sorted(
        file for file in folder.iterdir() if file.name.lower().endswith(endings) and not file.name.startswith(".")
    )


def stem(path: Path) -> str:
    """A file's name without `.nii.gz` and the like."""
    return re.sub(r"\.(nii\.gz|nii|nrrd|mha|mhd)$", "", path.name, flags=re.IGNORECASE)


def find_folder(root: Path, parts: Sequence[str], what: str) -> Path:
    """The folder itself or one below it that holds the named entries. Raises ConfigurationError with what is meant."""
    if not root.is_dir():
        raise ConfigurationError(f"{root}: no such folder; name the folder of {what}.")
    below = sorted(path for path in root.glob("*") if path.is_dir())
    deeper = sorted(path for path in root.glob("*/*") if path.is_dir())
    for folder in (root, *below, *deeper, *(path for parent in deeper for path in sorted(parent.glob("*/")))):
        if all((folder / part).exists() for part in parts):
            return folder
    raise ConfigurationError(f"{root}: does not look like {what}, which has {', '.join(parts)}; name its folder.")
