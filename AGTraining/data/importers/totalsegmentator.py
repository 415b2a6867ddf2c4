"""Importer: the TotalSegmentator data set, one mask file an organ.

    Totalsegmentator_dataset/meta.csv, s0000/ct.nii.gz, s0000/segmentations/pancreas.nii.gz …

The masks of the organs that are wanted are joined into one label map a case, beside the data set's description. The
official test part gets a description of its own, `test.json`; training and validation parts become the split.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from AGTraining.data.importers.common import DEFAULTS, Collected, ImportOptions, ImportReport
from AGTraining.data.parallel import in_processes
from AGTraining.data.splits import Fold, Splits
from AGTraining.errors import AGTrainingError, ConfigurationError
from AGTraining.imaging.files import read_volume, write_volume

ORGANS = (
    "pancreas", "spleen", "kidney_right", "kidney_left", "gallbladder", "esophagus", "liver", "stomach", "duodenum",
    "aorta", "inferior_vena_cava", "colon", "small_bowel", "adrenal_gland_right", "adrenal_gland_left",
)  # fmt: skip


def import_totalsegmentator(folder: Path, output: Path, options: ImportOptions = DEFAULTS) -> ImportReport:
    """Writes a data set with joined label maps. options.labels: names of mask files (default: abdominal organs).

    An organ without a mask file counts as not labelled in that case; one with an empty mask as not there.
    Raises ConfigurationError where there are no cases or a name is no mask of any.
    """
    cases = sorted(path.parent for path in folder.glob("*/ct.nii.gz")) or sorted(
        path.parent for path in folder.glob("*/*/ct.nii.gz")
    )
    if not cases:
        raise ConfigurationError(f"{folder}: holds no s0000/ct.nii.gz or the like; name TotalSegmentator's folder.")
    organs = options.labels or ORGANS
    for organ in options.labels:
        if not any(_mask(case, organ).exists() for case in cases):
            raise ConfigurationError(f"{folder}: no case has a mask {_mask(Path('s0000'), organ)}; correct the name.")
    parts = _official_parts(cases[0].parent / "meta.csv")
    collected = Collected(
        "TotalSegmentator", "CC BY 4.0 (Wasserthal et al. 2023, doi:10.5281/zenodo.6802613)",
        dict(enumerate(organs, 1)),
    )  # fmt: skip
    test = replace(collected, cases=[])
    names: dict[str, list[str]] = defaultdict(list)
    tasks = [(case, organs, output / "labels" / f"{case.name}.nii.gz") for case in cases]
    for case, result in zip(cases, in_processes(_join, tasks, options.workers), strict=True):
        part = parts.get(case.name, "train")
        target = test if part == "test" else collected
        if isinstance(result, str):
            collected.problems.append(result)
        elif target.add(case.name, case / "ct.nii.gz", result[0], incomplete=result[1]) and part != "test":
            names[part].append(case.name)
    if test.cases:
        report = test.write(output, folder, file="test.json")
        collected.notes.append(f"{report.cases} cases of the official test part are in test.json.")
    splits = Splits((Fold(tuple(names["train"]), tuple(names["val"])),)) if names["train"] and names["val"] else None
    return collected.write(output, folder, splits)


def _mask(case: Path, organ: str) -> Path:
    return case / "segmentations" / f"{organ}.nii.gz"


def _official_parts(path: Path) -> dict[str, str]:
    """train, val or test by case; empty where there is no meta.csv."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError:
        return {}
    rows = csv.DictReader(io.StringIO(text), delimiter=";" if ";" in text.split("\n", 1)[0] else ",")
    return {str(row.get("image_id")): str(row.get("split", "train")) for row in rows}


def _join(task: tuple[Path, tuple[str, ...], Path]) -> tuple[Path, list[str]] | str:
    """Writes a case's label map: its path and the organs without a mask, or what is wrong."""
    case, organs, target = task
    try:
        image = read_volume(case / "ct.nii.gz")
        labels = np.zeros(image.array.shape, dtype=np.uint8)
        missing = []
        for value, organ in enumerate(organs, 1):
            path = _mask(case, organ)
            if not path.exists():
                missing.append(organ)
                continue
            mask = read_volume(path)
            if not image.same_grid(mask, tolerance_mm=0.1):
                return f"{path}: does not lie on the grid of its ct.nii.gz, so that the case was left out."
            labels[mask.array > 0] = value
        write_volume(image.with_array(labels), target)
    except AGTrainingError as error:
        return str(error)
    return target, missing
