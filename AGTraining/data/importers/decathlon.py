"""Importer: tasks of the Medical Segmentation Decathlon (Task07_Pancreas, Task09_Spleen, and the other CT tasks).

    Task07_Pancreas/dataset.json, imagesTr/pancreas_001.nii.gz …, labelsTr/…, imagesTs/… (without labels)

A task's own `dataset.json` can be trained on as it is. This gives its labels the names that other data sets use, and
joins an organ with its tumor: `pancreas` is pancreas_tissue and pancreas_tumor, as others draw it.
"""

from __future__ import annotations

from pathlib import Path

from AGTraining.data.dataset import read_description
from AGTraining.data.importers.common import (
    DEFAULTS,
    Collected,
    ImportOptions,
    ImportReport,
    find_folder,
    organ_name,
    stem,
)

TUMORS = {"cancer", "tumour", "tumor", "tumours", "tumors"}


def import_decathlon(folder: Path, output: Path, options: ImportOptions = DEFAULTS) -> ImportReport:
    """Writes a data set that points to a task's files. Raises ConfigurationError."""
    folder = find_folder(folder, ["dataset.json", "imagesTr", "labelsTr"], "a task of the Decathlon")
    source, problems = read_description(folder)
    names = {value: organ_name(name) for name, value in source.labels.items() if value}
    regions = {name: list(values) for name, values in source.regions.items()}
    tumors = [value for value, name in names.items() if name in TUMORS]
    organs = [value for value, name in names.items() if name not in TUMORS]
    notes = []
    if len(tumors) == 1 and len(organs) == 1:
        organ = names[organs[0]]
        regions[organ] = sorted([*organs, *tumors])
        names |= {organs[0]: f"{organ}_tissue", tumors[0]: f"{organ}_tumor"}
        notes.append(f"'{organ}' stands for '{organ}_tissue' and '{organ}_tumor' together.")
    collected = Collected(source.name, source.licence, names, regions, notes=notes, problems=list(problems))
    for case in source.cases:
        collected.add(case.given_name or stem(case.image), case.image, case.label, patient=case.given_patient)
    return collected.write(output, folder)
