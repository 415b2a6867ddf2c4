"""Importer: one folder a case (`ct.nii.gz`, `labels.nii.gz`) beside a `manifest.json`.

The manifest holds `label_ids` (name → value), `target_ids`, and for each case `licence` and `complete_targets`
(the targets whose label is complete in it).
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from AGTraining.data.importers.common import DEFAULTS, ImportOptions, ImportReport
from AGTraining.errors import ConfigurationError


def import_manifest(folder: Path, output: Path, options: ImportOptions = DEFAULTS) -> ImportReport:
    """All cases of the manifest, as the other importers do it: `output` is the folder of the `dataset.json`."""
    path = output / "dataset.json"
    return ImportReport(path, import_case_folders(folder, path))


def import_case_folders(folder: Path, output: Path, exclude: tuple[str, ...] = (), only: tuple[str, ...] = ()) -> int:
    """Writes a `dataset.json` that points to the folder's cases; returns their number.

    exclude, only: names of cases to leave out, or the only ones to take. Raises ConfigurationError.
    """
    path = folder / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        ids, targets = dict(manifest["label_ids"]), list(manifest["target_ids"])
        cases = {
            name: (str(case["licence"]), set(case["complete_targets"])) for name, case in manifest["cases"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{path}: no manifest of case folders ({type(error).__name__}: {error}).") from error
    unknown = (set(exclude) | set(only)) - cases.keys()
    if unknown:
        raise ConfigurationError(f"{path}: has no case '{sorted(unknown)[0]}'.")
    target_names = {name for name, value in ids.items() if value in targets}
    chosen = [name for name in cases if name not in exclude and (not only or name in only)]
    root = os.path.relpath(folder.resolve(), output.resolve().parent)
    document = {
        "name": folder.name,
        "licence": "; ".join(f"{name}: {cases[name][0]}" for name in chosen),
        "labels": {"0": "background", **{str(value): name for name, value in ids.items()}},
        "training": [
            {
                "image": f"{root}/{name}/ct.nii.gz",
                "label": f"{root}/{name}/labels.nii.gz",
                "incomplete": sorted(target_names - cases[name][1]),
            }
            for name in chosen
        ],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document, indent=1), encoding="utf-8")
    return len(chosen)


def main() -> None:
    """`python -m AGTraining.data.importers.case_folders FOLDER DATASET.json [--exclude CASE …] [--only CASE …]`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--exclude", nargs="*", default=())
    parser.add_argument("--only", nargs="*", default=())
    arguments = parser.parse_args()
    count = import_case_folders(arguments.folder, arguments.output, tuple(arguments.exclude), tuple(arguments.only))
    print(f"{arguments.output}: {count} cases")


if __name__ == "__main__":
    main()
