"""How well models of planes do on frames that the starter models never saw:
`python benchmarks/starter_planes.py [--model FILE ...] [--data FOLDER] [--choose] [--json]`.

Planes: the official test rows of FETAL_PLANES_DB that are at hand, by their own coarser labels, and the 13 example
images of the published SonoNet weights, one a plane. Boxes: the heads of HC18, all of them and the fifth of the
examinations on which no starter model was trained; the published weights have none (no attention). How attention
becomes a box is the default, or, with --choose, what does best on every fifth head of the other examinations.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

import numpy as np  # noqa: E402

from AGTraining import bundle  # noqa: E402
from AGTraining.data.planes.decode import read_frame  # noqa: E402
from AGTraining.data.planes.labelled import LabelledFrame  # noqa: E402
from AGTraining.data.planes.patients import chosen_patients  # noqa: E402
from AGTraining.data.planes.settings import PatientSplitSettings, PlaneSourceSettings  # noqa: E402
from AGTraining.data.planes.sources import read_plane_source  # noqa: E402
from AGTraining.evaluation.localisation import (  # noqa: E402
    Localisation,
    LocalisationScores,
    localisation_scores,
)
from AGTraining.evaluation.plane_results import PlaneEvaluation  # noqa: E402
from AGTraining.evaluation.planes import Answers, evaluate_planes  # noqa: E402
from AGTraining.imaging.box import Box  # noqa: E402
from AGTraining.inference.localise import localise  # noqa: E402
from AGTraining.inference.plane_result import LocaliseOptions, PlaneOptions  # noqa: E402
from AGTraining.inference.planes import PlaneDetector  # noqa: E402

TEST_ROWS, EXAMPLES, HEADS = "FETAL_PLANES_DB, official test rows", "example images", "HC18"
BRAIN = ("Brain (Cb.)", "Brain (Tv.)")
HEART = ("3VV", "4CH", "LVOT", "RVOT")
# FETAL_PLANES_DB's labels, and which classes are right for them. Its trans-thalamic plane is neither brain plane.
LABELS = {
    "Other": ("Background",),
    "Maternal cervix": ("Background",),
    "Fetal abdomen": ("Abdominal",),
    "Fetal femur": ("Femur",),
    "Fetal thorax": HEART,
    "Fetal brain": BRAIN,
    "Fetal brain/Trans-ventricular": ("Brain (Tv.)",),
    "Fetal brain/Trans-cerebellum": ("Brain (Cb.)",),
}
# As in the experiments' configurations.
UNSEEN = PatientSplitSettings(share=0.2, seed=0)
# What --choose chooses from.
# Blurs are given in pixels of an input of 208 rows.
SIGMAS, THRESHOLDS = (8.0, 16.0, 24.0, 32.0, 40.0, 48.0, 64.0), (0.15, 0.2, 0.25, 0.3, 0.35, 0.5)


@dataclass(frozen=True)
class LabelRow:
    """A label of a data set: its frames, how many are right, and what was said instead, by class."""

    label: str
    frames: int
    right: int
    instead: dict[str, int]


def example_frames(folder: Path) -> list[LabelledFrame]:
    """The example images of the published weights with their planes."""
    reference = json.loads((folder / "reference.json").read_text(encoding="utf-8"))
    return [
        LabelledFrame(folder / "examples" / result["image"], result["true"], result["image"])
        for result in reference["results"]
    ]


def head_frames(folder: Path) -> tuple[list[LabelledFrame], set[str]]:
    """The frames of HC18, and the examinations that are not trained on."""
    dataset = read_plane_source(PlaneSourceSettings(csv=folder / "labels.csv", label="Fetal brain"))
    return list(dataset.frames), chosen_patients(dataset, UNSEEN, "validation")


def label_rows(evaluation: PlaneEvaluation) -> list[LabelRow]:
    """What became of each label's frames."""
    rows = []
    for label in dict.fromkeys(sorted(row.label for row in evaluation.rows)):
        mine = [row for row in evaluation.rows if row.label == label]
        wrong = Counter(row.predicted for row in mine if row.predicted != row.truth)
        rows.append(LabelRow(label, len(mine), len(mine) - wrong.total(), dict(wrong.most_common())))
    return rows


def choose_options(detector: PlaneDetector, heads: Sequence[LabelledFrame]) -> LocaliseOptions:
    """The options with the best mean IOU on these heads."""
    images = [read_frame(head) for head in heads]
    size, rule = detector.info.frame.size, detector.info.frame
    results = [result for n in range(0, len(images), 16) for result in detector.detect_batch(images[n : n + 16])]

    def iou(options: LocaliseOptions) -> float:
        values = []
        for head, image, result in zip(heads, images, results, strict=True):
            box = localise(result.attention or {}, size, options)
            found = None if box is None else rule.to_frame(box, result.crop).clipped(*image.shape[:2])
            values.append(0.0 if found is None or head.box is None else head.box.iou(found))
        return float(np.mean(values))

    grid = itertools.product(SIGMAS, THRESHOLDS, ("all", "common"))
    return max((LocaliseOptions(sigma / 208, *values) for sigma, *values in grid), key=iou)  # type: ignore[arg-type]


def measure(path: Path, data: Path, choose: bool = False) -> dict[str, object]:
    """All that is printed of a model."""
    options = PlaneOptions(device="cpu")
    model = bundle.load_planes(path)
    detector = PlaneDetector(model, options)
    heads, unseen = head_frames(data / "head_circumference")
    if choose and detector.has_attention:
        trained = [head for head in heads if head.patient not in unseen]
        chosen = choose_options(PlaneDetector(model, replace(options, attention=True)), trained[::5])
        detector = PlaneDetector(model, replace(options, localise=chosen))
    answers = Answers(detector.classes, LABELS)
    test = read_plane_source(PlaneSourceSettings(csv=data / "fetal_planes/labels.csv", official=["test"]))
    result: dict[str, object] = {}
    for name, frames in ((TEST_ROWS, test.frames), (EXAMPLES, example_frames(data / "sononet"))):
        evaluation = evaluate_planes(frames, detector, name, answers)
        scores = evaluation.scores
        result[name] = {
            "frames": len(evaluation.rows),
            "accuracy": scores.accuracy,
            "macro_f1": scores.macro("f1"),
            "ece": scores.ece,
            "mean_confidence": scores.mean_confidence,
            "labels": [asdict(row) for row in label_rows(evaluation)],
        }
    brain = Answers(detector.classes, {"Fetal brain": BRAIN}, {"Brain": BRAIN})
    for name, frames in (("all", heads), ("unseen", [frame for frame in heads if frame.patient in unseen])):
        evaluation = evaluate_planes(frames, detector, HEADS, brain)
        boxes: Sequence[LocalisationScores] = evaluation.localisation()
        result[f"{HEADS}, {name} heads"] = {
            "frames": len(evaluation.rows),
            "said to be a brain": evaluation.scores.accuracy,
            "boxes": asdict(boxes[0]) | {"options": asdict(detector.options.localise)} if boxes else None,
        }
    return result


def measure_fixed_box(data: Path) -> dict[str, dict[str, object]]:
    """The rows of heads for a box that is the same in all frames, the median of the heads that are trained on.

    What attention has to be compared with: heads of HC18 lie in the middle.
    """
    heads, unseen = head_frames(data / "head_circumference")
    edges = np.array([head.box.edges for head in heads if head.box and head.patient not in unseen])
    fixed = Box(*np.median(edges, axis=0).tolist())
    rows: dict[str, dict[str, object]] = {}
    for name, frames in (("all", heads), ("unseen", [head for head in heads if head.patient in unseen])):
        [scores] = localisation_scores([Localisation("Brain", head.box, fixed) for head in frames if head.box])
        rows[f"{HEADS}, {name} heads"] = {
            "frames": len(frames),
            "said to be a brain": math.nan,
            "boxes": asdict(scores) | {"options": {}},
        }
    return rows


def print_planes(name: str, rows: dict[str, dict[str, object]]) -> None:
    """A set of frames: a table with a row for each label and two columns for each model."""
    print(f"\n{name}")
    models = list(rows)
    print(f"{'label':32}{'frames':>7}" + "".join(f"{model:>44}" for model in models))
    tables = [{row["label"]: row for row in rows[model]["labels"]} for model in models]  # type: ignore[attr-defined]
    for label, first in tables[0].items():
        cells = []
        for table in tables:
            wrong = ", ".join(f"{count} {plane}" for plane, count in table[label]["instead"].items())
            cells.append(f"{table[label]['right']:>5} right {wrong[:32]:>32}")
        print(f"{label:32}{first['frames']:>7}" + "".join(f"{cell:>44}" for cell in cells))
    for key in ("accuracy", "macro_f1", "ece", "mean_confidence"):
        print(f"{key:39}" + "".join(f"{rows[model][key]:44.3f}" for model in models))


def print_heads(name: str, rows: dict[str, dict[str, object]]) -> None:
    """Boxes of a set of heads: a row for each model."""
    print(f"\n{name}")
    head = ("frames", "brain", "no box", "IOU mean (SD)", "IOU > 0.5", "relative")
    print(f"{'model':36}" + "".join(f"{text:>15}" for text in head))
    for model, row in rows.items():
        boxes = row["boxes"]
        text = f"{model:36}{row['frames']:>15}{row['said to be a brain']:>15.3f}"
        if isinstance(boxes, dict):
            iou = f"{boxes['iou']:.3f} ({boxes['iou_sd']:.3f})"
            shares = (boxes["correctness"], boxes["relative_correctness"])
            text += f"{boxes['missing']:>15}{iou:>15}" + "".join(f"{share:>15.3f}" for share in shares)
            text += "   " + ", ".join(f"{name} {value}" for name, value in boxes["options"].items())
        print(text)


def main() -> None:
    """Prints the tables, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, action="append", help="repeatable; default: both starter models")
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared/data/ultrasound")
    parser.add_argument("--choose", action="store_true", help="choose how attention becomes a box, for each model")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    models = arguments.model
    if not models:
        default = bundle.default_path("planes")
        models = [default, default.with_name("fetal-planes-starter-8.safetensors")]
    results = {path.stem: measure(path, arguments.data, arguments.choose) for path in models}
    if arguments.json:
        print(json.dumps(results, indent=1))
        return
    fixed = measure_fixed_box(arguments.data)
    for name in next(iter(results.values())):
        rows = {model: result[name] for model, result in results.items()}
        if name in fixed:
            print_heads(name, {**rows, "one fixed box": fixed[name]})  # type: ignore[dict-item]
        else:
            print_planes(name, rows)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
