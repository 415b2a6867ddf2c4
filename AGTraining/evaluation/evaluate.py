"""Predictions against the references of a data set, case by case and organ by organ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from AGTraining.data.dataset import Case, DatasetDescription
from AGTraining.errors import ConfigurationError, InputError, sentence
from AGTraining.evaluation.organs import Organ, match_organs, unmatched
from AGTraining.evaluation.predictions import Predicted, Predictions
from AGTraining.evaluation.results import Evaluation, Failure, OrganDescription
from AGTraining.evaluation.scores import OrganScores, State, score_organ
from AGTraining.imaging.files import read_volume
from AGTraining.imaging.upright import is_sheared
from AGTraining.imaging.volume import Volume
from AGTraining.inference.components import Box, label_boxes

TOLERANCE_MM = 2.0
SAME_GRID_MM = 0.1
LARGEST_LABEL = 65535
PALETTE = ((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75),
           (227, 119, 194), (127, 127, 127), (188, 189, 34), (23, 190, 207))  # fmt: skip

Progress = Callable[[float, str], None]
FailureCallback = Callable[[Case, Exception], None]


def evaluate(
    dataset: DatasetDescription,
    predictions: Predictions,
    *,
    tolerance_mm: float = TOLERANCE_MM,
    chosen: Mapping[str, Sequence[str]] | None = None,
    progress: Progress | None = None,
    on_failure: FailureCallback | None = None,
) -> Evaluation:
    """Scores the predictions of all cases of a data set, each on the grid of its own image.

    tolerance_mm: of the surface Dice. chosen: organs to take, each with the names of labels or regions that make it up
    (none: that of its name); default: all that both know. A case that fails (no prediction, another grid, …) becomes
    a `Failure` and is told to `on_failure`; an organ whose label is incomplete in a case gets a row without scores.
    Raises ConfigurationError for organs that cannot be matched, InputError when every case fails.
    """
    _require_different_names(dataset)
    labels = unmatched(dataset.names, ())
    organs = match_organs(predictions.organs, labels, chosen)
    scores: list[OrganScores] = []
    failures: list[Failure] = []
    coarse = 0
    for number, case in enumerate(dataset.cases):

        def case_progress(fraction: float, stage: str, number: int = number, case: Case = case) -> None:
            if progress is not None:
                progress((number + fraction) / len(dataset.cases), f"{case.name}: {stage}")

        try:
            pair = read_pair(case, dataset, predictions, case_progress)
            scores += score_pair(case, pair, organs, tolerance_mm, case_progress)
            coarse += bool(tolerance_mm < pair.reference.spacing.min())
        except Exception as error:
            failures.append(Failure(case.name, sentence(error)))
            if on_failure is not None:
                on_failure(case, error)
    if not scores:
        raise InputError(
            f"{dataset.path}: none of its {len(dataset.cases)} cases could be scored; the first: {failures[0].error}"
        )
    messages = _messages(dataset, predictions, len(failures), coarse)
    if not chosen:
        messages += _left_out(predictions, labels, organs)
    described = _describe(organs, predictions)
    return Evaluation(
        dataset.name, predictions.name, tolerance_mm, described, tuple(scores), tuple(failures), tuple(messages)
    )


def score_pair(
    case: Case, pair: Pair, organs: Sequence[Organ], tolerance_mm: float, progress: Progress | None = None
) -> list[OrganScores]:
    """A row for each organ of a case."""
    rows = []
    for number, organ in enumerate(organs):
        if pair.incomplete.intersection(pair.reference_values(organ)):
            rows.append(OrganScores(case.name, organ.name, State.INCOMPLETE))
            continue
        if progress is not None:
            progress(0.8 + 0.2 * number / len(organs), organ.name)
        _, prediction, reference = pair.masks(organ)
        spacing = tuple(float(step) for step in reversed(pair.reference.spacing))
        rows.append(
            score_organ(
                case.name, organ.name, prediction, reference, spacing, pair.reference.voxel_volume_ml, tolerance_mm
            )
        )
    return rows


@dataclass(frozen=True)
class Pair:
    """Prediction and reference of a case on one grid.

    labels: values in the reference by name of label or region; incomplete: values whose label is not complete there;
    boxes: where each value of the label maps is.
    """

    predicted: Predicted
    reference: Volume
    labels: Mapping[str, tuple[int, ...]]
    incomplete: frozenset[int]
    predicted_boxes: Mapping[int, Box]
    reference_boxes: Mapping[int, Box]

    def reference_values(self, organ: Organ) -> list[int]:
        """The values that make up the organ in the reference."""
        return [value for name in organ.labels for value in self.labels[name]]

    def masks(self, organ: Organ) -> tuple[tuple[slice, ...], np.ndarray, np.ndarray]:
        """The box (slices along K, J, I) that holds the organ in either, and its masks there, bool: ours, reference."""
        ours = [value for name in organ.predicted for value in self.predicted.values.get(name, ())]
        theirs = self.reference_values(organ)
        boxes = [self.predicted_boxes[value] for value in ours if value in self.predicted_boxes]
        boxes += [self.reference_boxes[value] for value in theirs if value in self.reference_boxes]
        box = tuple(
            slice(min((b[axis].start for b in boxes), default=0), max((b[axis].stop for b in boxes), default=0))
            for axis in range(3)
        )
        return box, np.isin(self.predicted.labels.array[box], ours), np.isin(self.reference.array[box], theirs)


def read_pair(
    case: Case, dataset: DatasetDescription, predictions: Predictions, progress: Progress | None = None
) -> Pair:
    """The prediction of a case and its reference. Raises InputError where they cannot be compared."""
    reference = _label_map(read_volume(case.label))
    if is_sheared(reference):
        raise InputError(f"{case.label}: its slices are sheared, so that distances are not defined; resample it first.")
    predicted = predictions.predict(case, None if progress is None else lambda part, stage: progress(0.8 * part, stage))
    labels = _label_map(predicted.labels)
    if not labels.same_grid(reference, SAME_GRID_MM):
        where = predicted.path or case.image
        raise InputError(
            f"{where}: its grid (size {_text(labels.size)}, spacing {_text(labels.spacing)} mm) is not that of the "
            f"reference {case.label} (size {_text(reference.size)}, spacing {_text(reference.spacing)} mm); resample "
            "it to the reference."
        )
    predicted = replace(predicted, labels=labels)
    boxes = label_boxes(labels.array), label_boxes(reference.array)
    unnamed = set(boxes[0]).difference(*predicted.values.values())
    if unnamed:
        raise InputError(
            f"{labels.name}: holds the value {min(unnamed)}, which has no name; give predictions the values of the "
            "data set, or write them as .seg.nrrd, which names its own."
        )
    incomplete = frozenset(dataset.values(case.incomplete))
    return Pair(predicted, reference, dataset.values_by_name, incomplete, *boxes)


def _label_map(volume: Volume) -> Volume:
    """The volume with whole numbers. Raises InputError where it holds something else."""
    array = volume.array
    low, high = array.min(), array.max()
    if not 0 <= low <= high <= LARGEST_LABEL or (array.dtype.kind == "f" and not np.array_equal(array, np.rint(array))):
        raise InputError(f"{volume.name}: is no label map (values from {low:g} to {high:g}); check which file it is.")
    return volume.with_array(array if array.dtype == np.uint8 else array.astype(np.uint8 if high < 256 else np.uint16))


def _text(numbers: Sequence[float] | np.ndarray) -> str:
    return " × ".join(f"{number:g}" for number in np.round(numbers, 3))


def _require_different_names(dataset: DatasetDescription) -> None:
    name, count = Counter(case.name for case in dataset.cases).most_common(1)[0]
    if count > 1:
        raise ConfigurationError(f"{dataset.path}: {count} cases are called '{name}'; give each a name of its own.")


def _describe(organs: Sequence[Organ], predictions: Predictions) -> tuple[OrganDescription, ...]:
    colors = {organ.name: predictions.colors.get(organ.predicted[0]) for organ in organs}
    return tuple(
        OrganDescription(
            organ.name, organ.predicted, organ.labels, colors[organ.name] or PALETTE[number % len(PALETTE)]
        )
        for number, organ in enumerate(organs)
    )


def _messages(dataset: DatasetDescription, predictions: Predictions, failed: int, coarse: int) -> list[str]:
    messages = []
    if failed:
        messages.append(
            f"{failed} of {len(dataset.cases)} cases have no scores: the means are not of the whole data set."
        )
    known = sum(predictions.trained_on(case) for case in dataset.cases)
    if known:
        messages.append(
            f"{known} of {len(dataset.cases)} cases have names of this model's training data: scores of these say "
            "little about patients it has not seen."
        )
    if coarse:
        messages.append(
            f"In {coarse} of {len(dataset.cases)} cases voxels are larger than the tolerance of the surface Dice, so "
            "that only surfaces that coincide count; a larger --tolerance says more."
        )
    return messages


def _left_out(predictions: Predictions, labels: list[str], organs: Sequence[Organ]) -> list[str]:
    """What only one of prediction and data set knows, in words."""
    ours = unmatched(predictions.organs, (name for organ in organs for name in organ.predicted))
    theirs = unmatched(labels, (name for organ in organs for name in organ.labels))
    return [
        f"Not compared, because only {known}: {', '.join(names)}."
        for names, known in ((ours, "predicted"), (theirs, "labelled"))
        if names
    ]
