"""Importer: AMOS 2022, the CTs of it.

    amos22/dataset.json, imagesTr/amos_0001.nii.gz, labelsTr/…, imagesVa/…, labelsVa/…, imagesTs/… (without labels)

Numbers from 500 on are MR scans and are left out. The official validation part becomes the split's.
"""

from __future__ import annotations

import re
from pathlib import Path

from AGTraining.data.importers.common import (
    DEFAULTS,
    Collected,
    ImportOptions,
    ImportReport,
    find_folder,
    images_in,
    stem,
)
from AGTraining.data.splits import Fold, Splits

LABELS = {
    1: "spleen", 2: "kidney_right", 3: "kidney_left", 4: "gallbladder", 5: "esophagus", 6: "liver", 7: "stomach",
    8: "aorta", 9: "inferior_vena_cava", 10: "pancreas", 11: "adrenal_gland_right", 12: "adrenal_gland_left",
    13: "duodenum", 14: "urinary_bladder", 15: "prostate_or_uterus",
}  # fmt: skip
FIRST_MR = 500


def import_amos22(folder: Path, output: Path, options: ImportOptions = DEFAULTS) -> ImportReport:
    """Writes a data set that points to all labelled CTs, and the official split. Raises ConfigurationError."""
    root = find_folder(folder, ["imagesTr", "labelsTr"], "AMOS 2022")
    collected = Collected("AMOS22", "CC BY 4.0 (Ji et al. 2022, doi:10.5281/zenodo.7155725)", LABELS)
    parts: dict[str, list[str]] = {"Tr": [], "Va": []}
    left_out = 0
    for part, taken in parts.items():
        files = {path.name: path for kind in ("images", "labels") for path in images_in(root / f"{kind}{part}")}
        for name in sorted(files):
            number = re.search(r"(\d+)$", stem(files[name]))
            if number is None or int(number[1]) >= FIRST_MR:
                left_out += 1
                continue
            case = stem(files[name])
            if collected.add(case, root / f"images{part}" / name, root / f"labels{part}" / name):
                taken.append(case)
    if left_out:
        collected.notes.append(f"{left_out} MR scans were left out.")
    splits = Splits((Fold(tuple(parts["Tr"]), tuple(parts["Va"])),)) if all(parts.values()) else None
    return collected.write(output, folder, splits)
