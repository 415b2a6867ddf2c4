"""Are these frames fit to be trained on? All problems at once, each a sentence with the file's name."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from AGTraining.data.check import Findings
from AGTraining.data.fingerprint import content_hash
from AGTraining.data.parallel import in_processes
from AGTraining.data.planes.decode import read_frame
from AGTraining.data.planes.labelled import LabelledFrame, LabelMap, NamedPlane, PlaneDataset
from AGTraining.data.planes.settings import PlaneSourceSettings
from AGTraining.data.planes.sources import read_plane_source
from AGTraining.errors import AGTrainingError

# Frames smaller than this show no anatomy to tell planes by.
SMALLEST = 32
CHUNK = 64
Progress = Callable[[float, str], None]


def read_plane_sources(sources: Sequence[PlaneSourceSettings], part: str) -> tuple[list[PlaneDataset], Findings]:
    """The data sets of a configuration's list ("training" or "validation"), as far as they can be read."""
    datasets, findings = [], Findings()
    for source in sources:
        try:
            dataset = read_plane_source(source, part)
        except AGTrainingError as error:
            findings.problems.append(str(error))
            continue
        datasets.append(dataset)
        findings.problems += dataset.problems
        findings.warnings += dataset.warnings
    return datasets, findings


def check_labels(datasets: Sequence[PlaneDataset], classes: Sequence[NamedPlane]) -> Findings:
    """Labels that belong to no class: a sentence for each of them in each data set."""
    findings = Findings()
    known = LabelMap(classes)
    for dataset in datasets:
        for label, count in dataset.labels.items():
            if known.number(label) is None:
                findings.problems.append(
                    f"{dataset.path}: label '{label}' of {count} frames belongs to no class; add it to the 'labels' of "
                    "one, or name it in the source's 'left_out'."
                )
    return findings


def check_classes(
    datasets: Sequence[PlaneDataset], classes: Sequence[NamedPlane], required: Sequence[bool] | None = None
) -> Findings:
    """Classes of which the training has no frame. required: which of them need frames (default: all)."""
    known = LabelMap(classes)
    counts = Counter(known.number(frame.label) for dataset in datasets for frame in dataset.frames)
    findings = Findings()
    for number, item in enumerate(classes):
        if counts[number] == 0:
            wanted = ", ".join(item.labels or (item.name,))
            sentence = f"Class '{item.name}' has no frame to train on: no data set has the label {wanted}"
            if required is None or required[number]:
                findings.problems.append(f"{sentence}; add data, or leave the class out.")
            else:
                findings.warnings.append(f"{sentence}.")
    return findings


def check_plane_parts(training: Sequence[PlaneDataset], validation: Sequence[PlaneDataset]) -> Findings:
    """Patients and pictures that are in the training part and in the validation part alike."""
    findings = Findings()
    patients: dict[tuple[str | Path, str], LabelledFrame] = {}
    files: dict[tuple[str, str | None, int | None], LabelledFrame] = {}
    for dataset in training:
        for frame in dataset.frames:
            files[_file(frame)] = frame
            if frame.known_patient:
                for key in _patient_keys(dataset, frame):
                    patients.setdefault(key, frame)
    both: dict[tuple[str, str], tuple[LabelledFrame, LabelledFrame]] = {}
    told = set()
    for dataset in validation:
        for frame in dataset.frames:
            trained = (patients.get(key) for key in _patient_keys(dataset, frame) if frame.known_patient)
            twin = next(filter(None, trained), None)
            if twin is not None:
                both.setdefault((dataset.name, frame.patient), (twin, frame))
            elif _file(frame) in files:
                told.add(_file(frame))
                findings.problems.append(f"{frame.place}: is in the training and in the validation part.")
    for (name, patient), (trained_on, validated_on) in both.items():
        findings.problems.append(
            f"{name}: patient '{patient}' is in the training part ({trained_on.name}) and in the validation part "
            f"({validated_on.name}); make the split by patient."
        )
    findings.add(_same_content(training, validation, told))
    return findings


def check_pictures(datasets: Sequence[PlaneDataset], workers: int = 1, progress: Progress | None = None) -> Findings:
    """Frames that cannot be read, show nothing, or have a box that is not on them; each frame is read once."""
    frames = [frame for dataset in datasets for frame in dataset.frames]
    tasks = [tuple(frames[start : start + CHUNK]) for start in range(0, len(frames), CHUNK)]
    findings = Findings()
    for number, found in enumerate(in_processes(_check_some, tasks, workers), 1):
        findings.add(found)
        if progress is not None:
            progress(number / len(tasks), tasks[number - 1][0].name)
    return findings


def check_planes(
    training: Sequence[PlaneSourceSettings],
    validation: Sequence[PlaneSourceSettings],
    classes: Sequence[NamedPlane],
    required: Sequence[bool] | None = None,
) -> tuple[list[PlaneDataset], list[PlaneDataset], Findings]:
    """The data sets of both lists and everything that can be said of them without decoding the frames."""
    trained, findings = read_plane_sources(training, "training")
    validated, more = read_plane_sources(validation, "validation")
    findings.add(more)
    # A source that is in both lists says its own problems twice.
    findings.problems = list(dict.fromkeys(findings.problems))
    findings.warnings = list(dict.fromkeys(findings.warnings))
    labels = check_labels([*trained, *validated], classes)
    findings.problems += list(dict.fromkeys(labels.problems))
    if len(trained) == len(training):
        findings.add(check_classes(trained, classes, required))
    findings.add(check_plane_parts(trained, validated))
    unknown = sum(not frame.known_patient for dataset in trained for frame in dataset.frames)
    if unknown and validated:
        findings.warnings.append(
            f"Of {unknown} training frames the patient is not known; each counts as a patient of its own, and frames "
            "of one patient may lie in both parts ('patient_pattern' or a column tells)."
        )
    return trained, validated, findings


def _check_some(frames: tuple[LabelledFrame, ...]) -> Findings:
    findings = Findings()
    for frame in frames:
        try:
            image = read_frame(frame)
        except AGTrainingError as error:
            findings.problems.append(str(error))
            continue
        rows, columns = image.shape
        if min(rows, columns) < SMALLEST:
            findings.problems.append(f"{frame.place}: has {columns}×{rows} pixels, which is too small for a frame.")
        elif image.min() == image.max():
            findings.problems.append(f"{frame.place}: is of one gray value; leave it out.")
        if frame.box is not None and frame.box.clipped(rows, columns) is None:
            findings.problems.append(f"{frame.place}: its box lies outside of its {columns}×{rows} pixels.")
    return findings


def _same_content(
    training: Sequence[PlaneDataset], validation: Sequence[PlaneDataset], told: set[tuple[str, str | None, int | None]]
) -> Findings:
    """Files of equal content under two names, one in each part."""
    findings = Findings()

    def by_size(part: Sequence[PlaneDataset]) -> dict[int, dict[Path, LabelledFrame]]:
        sizes: dict[int, dict[Path, LabelledFrame]] = defaultdict(dict)
        for dataset in part:
            for frame in dataset.frames:
                if frame.index is None and _file(frame) not in told and frame.source not in seen:
                    seen.add(frame.source)
                    sizes[frame.source.stat().st_size][frame.source] = frame
        return sizes

    seen: set[Path] = set()
    trained = by_size(training)
    seen = set()
    for size, frames in by_size(validation).items():
        # Only files of one size can be equal: most are told apart without being read.
        if size not in trained:
            continue
        hashes = {content_hash(path): frame for path, frame in trained[size].items()}
        for path in frames:
            twin = hashes.get(content_hash(path))
            if twin is not None and twin.source.resolve() != path.resolve():
                findings.problems.append(
                    f"{path}: is in the validation part and, with the same content, in the training part "
                    f"({twin.source}); leave one of them out."
                )
    return findings


def _patient_keys(dataset: PlaneDataset, frame: LabelledFrame) -> tuple[tuple[str | Path, str], ...]:
    """By what a patient is known again: of data sets of one name, or of tables whose pictures lie in one folder."""
    return (dataset.name, frame.patient), (frame.source.resolve().parent, frame.patient)


def _file(frame: LabelledFrame) -> tuple[str, str | None, int | None]:
    return str(frame.source.resolve()), frame.part if frame.index is not None else None, frame.index
