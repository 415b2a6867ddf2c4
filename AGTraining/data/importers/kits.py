"""Importer: KiTS19, KiTS21 and KiTS23 (kidney tumors).

kits23/dataset/case_00000/imaging.nii.gz, segmentation.nii.gz
(KiTS21: aggregated_MAJ_seg.nii.gz; KiTS19: data/case_00000, the last 90 without segmentation)
"""

from __future__ import annotations

from pathlib import Path

from AGTraining.data.importers.common import DEFAULTS, Collected, ImportOptions, ImportReport
from AGTraining.errors import ConfigurationError

LABELS = {1: "kidney_tissue", 2: "kidney_tumor", 3: "kidney_cyst"}
SEGMENTATIONS = ("segmentation.nii.gz", "aggregated_MAJ_seg.nii.gz")


def import_kits(folder: Path, output: Path, options: ImportOptions = DEFAULTS) -> ImportReport:
    """Writes a data set that points to all segmented cases; `kidney` is the kidneys with what is in them.

    Raises ConfigurationError where there are no cases.
    """
    cases = sorted(
        {path for pattern in ("case_*", "*/case_*", "*/*/case_*") for path in folder.glob(pattern) if path.is_dir()}
    )
    if not cases:
        raise ConfigurationError(f"{folder}: holds no case_00000 or the like; name the folder of KiTS.")
    collected = Collected("KiTS", "CC BY-NC-SA 4.0 (Heller et al., KiTS)", LABELS, {"kidney": [1, 2, 3]})
    collected.notes.append("'kidney' is both kidneys with their tumors and cysts; sides are not labelled.")
    unlabelled = 0
    for case in cases:
        label = next((case / name for name in SEGMENTATIONS if (case / name).exists()), None)
        if label is None:
            unlabelled += 1
        elif not (case / "imaging.nii.gz").exists():
            collected.problems.append(
                f"{case / 'imaging.nii.gz'}: is missing; the images are not in KiTS's repository, its download "
                "program fetches them."
            )
        else:
            collected.add(case.name, case / "imaging.nii.gz", label)
    if unlabelled:
        collected.notes.append(f"{unlabelled} cases have no segmentation (the challenge's test part).")
    return collected.write(output, folder)
