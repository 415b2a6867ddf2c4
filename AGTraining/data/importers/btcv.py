"""Importer: BTCV, "Beyond the Cranial Vault" (Synapse syn3193805, abdomen).

Abdomen/RawData/Training/img/img0001.nii.gz, Training/label/label0001.nii.gz, Testing/img/… (without labels)
"""

from __future__ import annotations

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

# The challenge's numbers. Copies of "Synapse" with eight organs for 2-D networks number them otherwise.
LABELS = {
    1: "spleen", 2: "kidney_right", 3: "kidney_left", 4: "gallbladder", 5: "esophagus", 6: "liver", 7: "stomach",
    8: "aorta", 9: "inferior_vena_cava", 10: "portal_vein_and_splenic_vein", 11: "pancreas",
    12: "adrenal_gland_right", 13: "adrenal_gland_left",
}  # fmt: skip


def import_btcv(folder: Path, output: Path, options: ImportOptions = DEFAULTS) -> ImportReport:
    """Writes a data set that points to the training scans. Raises ConfigurationError."""
    root = find_folder(folder, ["img", "label"], "BTCV's training part")
    collected = Collected("BTCV abdomen", "Synapse syn3193805, its own terms of use", LABELS)
    images = {stem(path).removeprefix("img"): path for path in images_in(root / "img")}
    labels = {stem(path).removeprefix("label"): path for path in images_in(root / "label")}
    for number in sorted(images.keys() | labels.keys()):
        missing_image = root / "img" / f"img{number}.nii.gz"
        missing_label = root / "label" / f"label{number}.nii.gz"
        collected.add(f"btcv_{number}", images.get(number, missing_image), labels.get(number, missing_label))
    return collected.write(output, folder)
