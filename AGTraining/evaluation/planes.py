"""How well a model names the planes of labelled frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from AGTraining.data.planes.decode import read_frame
from AGTraining.data.planes.labelled import LabelledFrame, label_key, most_particular
from AGTraining.errors import AGTrainingError, ConfigurationError, InputError
from AGTraining.evaluation.plane_results import FrameScore, PlaneEvaluation
from AGTraining.evaluation.results import Failure
from AGTraining.inference.planes import PlaneDetector

Progress = Callable[[float, str], None]


class Answers:
    """Which classes are right for a data set's labels.

    classes: names of the model's classes. labels: for a label the class or classes that are right for it; a label that
    is not here is right as the class of its name. A label "Fetal brain/Trans-ventricular" is found as a whole, or else
    as "Fetal brain". merged: classes that count as one, by the name of that one.
    """

    def __init__(
        self,
        classes: Sequence[str],
        labels: Mapping[str, Sequence[str]] | None = None,
        merged: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Raises ConfigurationError for classes that the model does not have."""
        self._names = tuple(classes)
        place = {label_key(name): n for n, name in enumerate(classes)}
        of: dict[int, str] = {}
        for name, parts in (merged or {}).items():
            of |= dict.fromkeys(self._numbers(parts, place), name)
        names = [of.get(n, name) for n, name in enumerate(classes)]
        self.classes = tuple(dict.fromkeys(names))
        self._column = np.array([self.classes.index(name) for name in names])
        right: dict[str, list[int]] = {label_key(name): [n] for n, name in enumerate(self.classes)}
        right |= {label_key(name): [self.classes.index(names[n])] for n, name in enumerate(classes)}
        for label, wanted in (labels or {}).items():
            merged_place = {label_key(name): n for n, name in enumerate(self.classes)}
            merged_place |= {label_key(name): self.classes.index(names[n]) for n, name in enumerate(classes)}
            right[label_key(label)] = self._numbers(wanted, merged_place)
        self._right = right

    def _numbers(self, names: Sequence[str], place: Mapping[str, int]) -> list[int]:
        unknown = [name for name in names if label_key(name) not in place]
        if unknown:
            raise ConfigurationError(f"'{unknown[0]}' is no class of the model, which has {', '.join(self._names)}.")
        return sorted({place[label_key(name)] for name in names})

    def right(self, label: str) -> list[int] | None:
        """The numbers of the classes that are right for a label; None for a label that belongs to no class."""
        return most_particular(self._right, label)

    def probabilities(self, of_model: np.ndarray) -> np.ndarray:
        """(N, the model's classes) → (N, classes): those of merged classes are summed."""
        table = np.zeros((len(self._names), len(self.classes)))
        table[np.arange(len(self._names)), self._column] = 1.0
        return of_model @ table

    def background(self, name: str | None) -> str | None:
        """The class that the model's background became."""
        return None if name is None else self.classes[self._column[self._names.index(name)]]


def evaluate_planes(
    frames: Sequence[LabelledFrame],
    detector: PlaneDetector,
    name: str,
    answers: Answers | None = None,
    progress: Progress | None = None,
    on_failure: Callable[[str, Exception], None] | None = None,
) -> PlaneEvaluation:
    """Scores a model on all labelled frames. name: of the data set.

    Where several classes are right for a label, the most probable of them counts as the truth. A frame that cannot be
    read is a failure, and the others go on. Raises InputError when no frame can be scored, and ConfigurationError with
    the labels that belong to no class.
    """
    answers = answers or Answers(detector.classes)
    labelled = [frame for frame in frames if frame.label is not None]
    unknown = sorted({str(frame.label) for frame in labelled if answers.right(str(frame.label)) is None})
    if unknown:
        raise ConfigurationError(
            f"{name}: the labels {', '.join(unknown)} belong to no class of the model ({', '.join(answers.classes)}); "
            "say what is right for each, or leave its frames out."
        )
    rows: list[FrameScore] = []
    failures: list[Failure] = []
    size = max(1, detector.options.batch)
    for start in range(0, len(labelled), size):
        images, read = [], []
        for frame in labelled[start : start + size]:
            try:
                images.append(read_frame(frame))
                read.append(frame)
            except AGTrainingError as error:
                failures.append(Failure(frame.place, str(error)))
                if on_failure is not None:
                    on_failure(frame.place, error)
        rows += _scored(read, images, detector, answers)
        if progress is not None:
            progress(min(start + size, len(labelled)) / len(labelled), labelled[start].name)
    if not rows:
        raise InputError(f"{name}: has no frame that can be scored.")
    messages = [*detector.messages]
    if len(labelled) < len(frames):
        messages.append(f"{len(frames) - len(labelled)} frames without a label were left out.")
    if failures:
        messages.append(f"{len(failures)} of {len(labelled)} frames have no scores.")
    return PlaneEvaluation(
        name,
        detector.info.name,
        answers.classes,
        answers.background(detector.background),
        tuple(rows),
        any(row.found is not None for row in rows),
        tuple(failures),
        tuple(messages),
    )


def _scored(
    frames: Sequence[LabelledFrame], images: Sequence[np.ndarray], detector: PlaneDetector, answers: Answers
) -> list[FrameScore]:
    results = detector.detect_batch(images)
    if not results:
        return []
    probabilities = answers.probabilities(np.stack([result.probabilities for result in results]).astype(np.float64))
    rows = []
    for frame, result, p in zip(frames, results, probabilities, strict=True):
        label = str(frame.label)
        right = answers.right(label) or []
        truth, predicted = max(right, key=p.__getitem__), int(p.argmax())
        rows.append(
            FrameScore(
                frame.name,
                frame.patient,
                label,
                answers.classes[truth],
                answers.classes[predicted],
                float(p[predicted]),
                tuple(float(value) for value in p),
                None if frame.box is None else frame.box.edges,
                None if result.box is None else result.box.edges,
            )
        )
    return rows
