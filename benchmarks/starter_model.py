"""How well a model does on the public scans: `python benchmarks/starter_model.py [--model FILE] [--data FOLDER]`.

DSC of each organ on the scan's own grid, against the scan's silver labels (see the data's README), for every case of
a folder of case folders. Scans that the model was trained on are marked; organs whose label is incomplete are left out.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from AGTraining import bundle  # noqa: E402
from AGTraining.evaluation.metrics import dice  # noqa: E402
from AGTraining.imaging.files import read_volume  # noqa: E402
from AGTraining.inference.segment import SegmentOptions, segment  # noqa: E402

NAMES = {"pancreas": "pancreas", "spleen": "spleen", "right kidney": "kidney_right", "left kidney": "kidney_left"}


def scores(folder: Path, model: bundle.Bundle, options: SegmentOptions) -> dict[str, dict[str, float]]:
    """DSC by case and organ; NaN where the organ has no complete label."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    table = {}
    for case, description in manifest["cases"].items():
        truth = read_volume(folder / case / "labels.nii.gz").array
        result = segment(read_volume(folder / case / "ct.nii.gz"), model, options)
        row = {}
        for organ in result.organs:
            name = NAMES[organ.label.name]
            complete = name in description["complete_targets"]
            expected = truth == manifest["label_ids"][name]
            row[organ.label.name] = dice(result.labels.array == organ.label.value, expected) if complete else math.nan
        table[case] = row
        print(f"{case}: done", file=sys.stderr)
    return table


def main() -> None:
    """Prints the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared/data/ct")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--mirror", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    model = bundle.load(arguments.model or bundle.default_path())
    table = scores(arguments.data, model, SegmentOptions(device=arguments.device, mirror=arguments.mirror))
    if arguments.json:
        print(json.dumps(table, indent=1))
        return
    trained = {name for dataset in model.info.provenance.get("data", []) for name in dataset["cases"]}
    organs = list(NAMES)
    print(f"{'case':20}{'':10}" + "".join(f"{organ:>14}" for organ in organs))
    for case, row in table.items():
        mark = "trained" if any(name.startswith(case) for name in trained) else "unseen"
        print(f"{case:20}{mark:10}" + "".join(f"{row[organ]:14.3f}" for organ in organs))


if __name__ == "__main__":
    main()
