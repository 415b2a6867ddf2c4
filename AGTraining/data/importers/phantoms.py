"""Importer that imports nothing: a data set of phantoms, drawn from their seeds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from AGTraining.data.phantom import PhantomOptions, make_phantom
from AGTraining.data.phantom_patient import LABELS
from AGTraining.imaging.files import write_volume


def make_phantom_dataset(folder: Path, seeds: range, spacing_mm: float, oral_contrast: bool = False) -> Path:
    """Writes CT and label map of each seed and the `dataset.json` that lists them; returns the latter's path.

    spacing_mm: of all three axes. Raises InputError when the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cases = []
    for seed in seeds:
        phantom = make_phantom(PhantomOptions(seed=seed, spacing=(spacing_mm,) * 3, oral_contrast=oral_contrast))
        case = {"image": f"phantom{seed}_ct.nii.gz", "label": f"phantom{seed}_labels.nii.gz"}
        write_volume(phantom.ct, folder / case["image"])
        write_volume(phantom.labels, folder / case["label"])
        cases.append(case)
    document = {
        "name": "phantom with oral contrast" if oral_contrast else "phantom",
        "licence": "Apache-2.0",
        "labels": {"0": "background", **{str(value): name for name, value in LABELS.items()}},
        "training": cases,
    }
    path = folder / "dataset.json"
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")
    return path


def main() -> None:
    """`python -m AGTraining.data.importers.phantoms FOLDER`: writes a data set of phantoms."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--first", type=int, default=1000, help="seed of the first phantom")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--spacing", type=float, default=2.0, help="mm, all axes")
    parser.add_argument("--oral-contrast", action="store_true", help="all patients drank contrast")
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.count)
    print(make_phantom_dataset(arguments.folder, seeds, arguments.spacing, arguments.oral_contrast))


if __name__ == "__main__":
    main()
