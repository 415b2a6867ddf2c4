"""Importer: TCIA Pancreas-CT (the papers' CT-82), DICOM series and one NIfTI label map each.

    Pancreas-CT/PANCREAS_0001/<study>/<series>/1-001.dcm …
    TCIA_pancreas_labels-02-05-2017/label0001.nii.gz …

What is known of it, and what is done:

- The label maps' voxels are stored in the order of the DICOM rows, which run to the patient's back, while their headers
  say that they run to the front: by the header, as Slicer reads it, an organ lies mirrored from front to back
  (deedsBCV's README turns the labels over along y behind dcm2niix; OrganSegRSTN, UA-MT's scripts and the papers'
  authors take the voxels as they are). No header is trusted here: each label map is put on its series the way round
  that fits what the scan shows, and that is what the copy in `labels/` holds.
- Version 2 (2020) has 80 patients: 25 and 70 were the scan of patient 2, cropped otherwise, and are gone from the
  images but not from the labels. Where version 1 is imported, the three count as one patient.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np

from AGTraining.data.importers.common import DEFAULTS, Collected, ImportOptions, ImportReport, stem
from AGTraining.data.importers.placement import Flips, place
from AGTraining.data.parallel import in_processes
from AGTraining.errors import AGTrainingError, ConfigurationError
from AGTraining.imaging.files import read_volume, write_volume
from AGTraining.imaging.volume import Volume

LICENCE = "CC BY 3.0 (Roth et al. 2016, TCIA Pancreas-CT, doi:10.7937/K9/TCIA.2016.tNB1kqBU)"
SAME_PATIENT = {25: 2, 70: 2}
AXES = ("feet to head", "front to back", "side to side")


def import_pancreas_ct(folder: Path, output: Path, options: ImportOptions = DEFAULTS) -> ImportReport:
    """Writes a data set of the scans below `folder` and label maps that lie on them.

    Series may be DICOM folders or NIfTI files named `PANCREAS_0001…`. Raises ConfigurationError where there are none.
    """
    images = _numbered(folder, r"PANCREAS_(\d{4})")
    labels = _numbered(folder, r"label(\d{4})")
    if not images or not labels:
        raise ConfigurationError(
            f"{folder}: holds no {'folder PANCREAS_0001' if not images else 'label map label0001.nii.gz'} or the like; "
            "name the folder that has both the series and the label maps of Pancreas-CT in it."
        )
    collected = Collected("Pancreas-CT", LICENCE, {1: "pancreas"})
    numbers = sorted(images.keys() & labels.keys())
    collected.problems += [f"{images[n]}: has no label{n:04d}.nii.gz." for n in sorted(images.keys() - labels.keys())]
    for n in sorted(labels.keys() - images.keys()):
        if n in SAME_PATIENT:
            collected.notes.append(
                f"{labels[n].name}: patient {n} was taken from the data set in 2020, being the scan of patient 2 again."
            )
        else:
            collected.problems.append(f"{labels[n]}: its series PANCREAS_{n:04d} is missing.")
    tasks = [(images[n], labels[n], output / "labels" / f"PANCREAS_{n:04d}.nii.gz") for n in numbers]
    counts: Counter[Flips] = Counter()
    for n, result in zip(numbers, in_processes(_place, tasks, options.workers), strict=True):
        if isinstance(result, str):
            collected.problems.append(result)
            continue
        path, flips = result
        counts[flips] += 1
        collected.add(f"PANCREAS_{n:04d}", images[n], path, patient=f"PANCREAS_{SAME_PATIENT.get(n, n):04d}")
    collected.notes += [f"{count} label maps {_say(flips)}." for flips, count in counts.most_common()]
    return collected.write(output, folder)


def _numbered(folder: Path, pattern: str) -> dict[int, Path]:
    """Folders and NIfTI files below a folder by the number in their names."""
    found: dict[int, Path] = {}
    for path in sorted(folder.rglob("*")):
        match = re.fullmatch(pattern, stem(path), re.IGNORECASE)
        if match and (path.is_dir() or path.name.lower().endswith((".nii", ".nii.gz"))):
            found.setdefault(int(match[1]), path)
    return found


def _place(task: tuple[Path, Path, Path]) -> tuple[Path, Flips] | str:
    """Writes the label map as it lies on its series: its path and what was turned over, or what is wrong."""
    image_path, label_path, target = task
    try:
        image, labels = read_volume(image_path), read_volume(label_path)
        placement = place(image, labels)
        values = (placement.labels.array > 0).astype(np.uint8)
        write_volume(Volume(values, placement.labels.ijk_to_world, str(label_path)), target)
    except AGTrainingError as error:
        return str(error)
    return target, placement.flips


def _say(flips: Flips) -> str:
    turned = [axis for axis, flip in zip(AXES, flips, strict=True) if flip]
    if not turned:
        return "lie on their series voxel by voxel as they are stored; their headers were replaced"
    return f"were turned over ({' and '.join(turned)}) to fit their series"
