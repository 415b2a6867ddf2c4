"""Is this data set fit to be trained on? All problems at once, each a sentence with the file's name.

What nnU-Net's dataset integrity check looks at (pairs, shapes, geometry, labels, NaN), and what silently spoils a
result: intensities that are no Hounsfield units, and patients who are in training and validation alike.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from AGTraining.data.dataset import Case, DatasetDescription, read_description
from AGTraining.data.fingerprint import content_hash, files_of
from AGTraining.data.nifti_voxels import count_not_finite
from AGTraining.data.parallel import in_processes
from AGTraining.errors import AGTrainingError, ConfigurationError
from AGTraining.imaging.checks import check_volume, intensity_doubts
from AGTraining.imaging.files import read_volume
from AGTraining.imaging.volume import Volume

GRID_TOLERANCE_MM = 0.1
# A CT spans at least air to soft tissue, or fat to bone in a crop; z-scores and [0, 1] never come near.
NARROWEST_HU = 100.0
Progress = Callable[[float, str], None]


@dataclass
class Findings:
    """problems: sentences on what must be mended before training. warnings: what to look at."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, other: Findings) -> None:
        """Takes over what another check found."""
        self.problems += other.problems
        self.warnings += other.warnings

    def require_none(self) -> None:
        """Raises ConfigurationError with all problems, one a line, where there are some."""
        if len(self.problems) == 1:
            raise ConfigurationError(self.problems[0])
        if self.problems:
            lines = "".join(f"\n  {problem}" for problem in self.problems)
            raise ConfigurationError(f"The data have {len(self.problems)} problems:{lines}")


def check_dataset(path: str | Path, workers: int = 1, progress: Progress | None = None) -> Findings:
    """Everything about a data set's description and files; each image is read once.

    workers: processes. progress: called with the fraction done and a case's name. Raises ConfigurationError where the
    description cannot be read at all.
    """
    dataset, problems = read_description(path)
    findings = Findings(list(problems))
    images: dict[str, list[str]] = defaultdict(list)
    checked = in_processes(_check_files, [(case, dataset) for case in dataset.cases], workers)
    for number, (case, (found, content)) in enumerate(zip(dataset.cases, checked, strict=True), 1):
        findings.add(found)
        if content:
            images[content].append(case.name)
        if progress is not None:
            progress(number / len(dataset.cases), case.name)
    patients = {case.name: case.patient for case in dataset.cases}
    for names in images.values():
        if len({patients[name] for name in names}) > 1:
            findings.problems.append(
                f"{dataset.path}: {', '.join(names)} have the same image but count as different patients; leave one, "
                "or give them the same 'patient'."
            )
    return findings


def check_apart(
    training: Sequence[DatasetDescription],
    validation: Sequence[DatasetDescription],
    content: Callable[[Path], str] = content_hash,
) -> Findings:
    """Patients and images that are in the training part and the validation part alike, under whatever names.

    content: what tells images' contents apart. Raises ConfigurationError for an image that cannot be read.
    """
    findings = Findings()
    seen: dict[tuple[str, ...], Case] = {}
    try:
        sizes = [{_size(case.image) for dataset in part for case in dataset.cases} for part in (training, validation)]
        # Only files of one size can be equal: most are told apart without being read.
        sizes_of_both = sizes[0] & sizes[1]

        def keys(case: Case, dataset: DatasetDescription) -> list[tuple[str, ...]]:
            found = _identity(case, dataset)
            return [*found, ("content", content(case.image))] if _size(case.image) in sizes_of_both else found

        for dataset in training:
            for case in dataset.cases:
                seen |= dict.fromkeys(keys(case, dataset), case)
        wanted = [(case, keys(case, dataset)) for dataset in validation for case in dataset.cases]
    except OSError as error:
        raise ConfigurationError(f"{error.filename}: cannot be read ({error.strerror}).") from error
    for case, found in wanted:
        key = next((key for key in found if key in seen), None)
        if key is not None:
            twin = seen[key]
            if key[0] == "content":
                findings.problems.append(
                    f"{case.image}: is in the validation part and, with the same content, in the training part (there "
                    f"as '{twin.name}', {twin.image}); leave one of them out."
                )
            else:
                who = f"patient '{case.patient}'" if case.given_patient else f"the image of '{case.name}'"
                findings.problems.append(
                    f"{case.image}: {who} is in the validation and in the training part (there as '{twin.name}'); "
                    "make the split by patient."
                )
    return findings


def _size(image: Path) -> int:
    """Bytes of an image's file, or of all files of its folder."""
    return sum(part.stat().st_size for part in files_of(image))


def _identity(case: Case, dataset: DatasetDescription) -> list[tuple[str, ...]]:
    keys: list[tuple[str, ...]] = [("file", str(case.image.resolve()))]
    # Names alone say little: two data sets may both have a case 001.
    if case.given_patient:
        keys.append(("patient", dataset.name, case.given_patient))
    return keys


def read_case(case: Case) -> tuple[Volume | None, Volume | None, Findings]:
    """The image and the label map, None for what cannot be read, and the problems with reading them."""
    findings = Findings()
    volumes: list[Volume | None] = []
    for path in (case.image, case.label):
        try:
            volumes.append(read_volume(path))
        except AGTrainingError as error:
            volumes.append(None)
            findings.problems.append(str(error))
    return volumes[0], volumes[1], findings


def check_volumes(case: Case, dataset: DatasetDescription, image: Volume | None, labels: Volume | None) -> Findings:
    """What is wrong with a case's voxels and grids."""
    findings = Findings()
    if image is not None:
        findings.add(_check_image(case, image))
    if labels is not None:
        findings.problems += _check_labels(case, dataset, labels)
        if not labels.array.any():
            findings.warnings.append(f"{case.label}: is empty; is it the right file, and has the scan no organ?")
    if image is not None and labels is not None:
        findings.problems += grid_mismatch(case, image, labels)
    return findings


def grid_mismatch(case: Case, image: Volume, labels: Volume) -> list[str]:
    """A sentence where the label map does not lie on the image's grid."""
    if image.same_grid(labels, GRID_TOLERANCE_MM):
        return []
    where = f"size {'×'.join(map(str, labels.size))}"
    if image.size == labels.size:
        ends = np.array([[0, 0, 0, 1], [*image.size, 1]], dtype=np.float64)
        distance = np.abs((ends @ (image.ijk_to_world - labels.ijk_to_world).T)[:, :3]).max()
        where = f"up to {distance:.1f} mm beside it or turned"
    return [
        f"{case.label}: its grid ({where}) is not that of {case.image.name} (size {'×'.join(map(str, image.size))}); "
        "resample the label map to the image, or correct its header."
    ]


def _check_files(task: tuple[Case, DatasetDescription]) -> tuple[Findings, str]:
    """The findings of a case, and a short text that images of equal content share; empty without an image."""
    case, dataset = task
    image, labels, findings = read_case(case)
    findings.add(check_volumes(case, dataset, image, labels))
    content = ""
    if image is not None:
        array = np.ascontiguousarray(image.array)
        content = f"{array.shape} {array.dtype} {zlib.crc32(array.reshape(-1).view(np.uint8).data):08x}"
    return findings, content


def _check_image(case: Case, image: Volume) -> Findings:
    findings = Findings(_not_finite(case.image, image))
    array = image.array
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    try:
        warnings = check_volume(image)
    except AGTrainingError as error:
        findings.problems.append(str(error))
        return findings
    doubts = intensity_doubts(finite)
    low, high = float(finite.min()), float(finite.max())
    # A crop within the body has no air, and is still in Hounsfield units: fat and soft tissue are on both sides of 0.
    severe = low >= 0 or low <= -200 or high - low < NARROWEST_HU
    if doubts and severe:
        findings.problems += [f"{case.image}: {doubt}" for doubt in doubts]
    findings.warnings += [
        text for text in warnings if not (severe and doubts) or not any(text.endswith(doubt) for doubt in doubts)
    ]
    return findings


def _not_finite(path: Path, volume: Volume) -> list[str]:
    array = volume.array
    count = int(array.size - np.count_nonzero(np.isfinite(array))) if array.dtype.kind == "f" else 0
    count = count or count_not_finite(path)
    return [f"{path}: {count} of its voxels are no finite numbers; convert the image again."] if count else []


def _check_labels(case: Case, dataset: DatasetDescription, labels: Volume) -> list[str]:
    if problems := _not_finite(case.label, labels):
        return problems
    values = label_values(labels.array)
    if any(value != int(value) for value in values):
        between = next(value for value in values if value != int(value))
        return [
            f"{case.label}: holds values between whole numbers ({between:g}), as after interpolation; resample the "
            "label map with nearest neighbours."
        ]
    unknown = sorted(int(value) for value in values if int(value) not in dataset.known_values)
    if not unknown:
        return []
    text = ", ".join(map(str, unknown[:8])) + (", …" if len(unknown) > 8 else "")
    return [
        f"{case.label}: label {text} is not in {dataset.path.name}, which has "
        f"{_list(dataset)}; name it there, or correct the label map."
    ]


def label_values(array: np.ndarray) -> list[float]:
    """The values in a label map, sorted; fast where they are small whole numbers."""
    if array.dtype.kind in "iub" and array.size:
        low, high = int(array.min()), int(array.max())
        if high - low < 1 << 16:
            counts = np.zeros(high - low + 1, dtype=np.int64)
            for plane in array:
                counts += np.bincount((plane.astype(np.int64) - low).ravel(), minlength=len(counts))
            return [float(low + n) for n in np.flatnonzero(counts)]
    return [float(value) for value in np.unique(array.astype(np.float64))]


def _list(dataset: DatasetDescription) -> str:
    return ", ".join(f"{value} {name}" for name, value in dataset.labels.items())


def check_all(datasets: Sequence[str | Path], workers: int = 1, progress: Progress | None = None) -> Findings:
    """`check_dataset` of several; one that cannot be read is a problem like others."""
    findings = Findings()
    for number, path in enumerate(datasets):

        def part(fraction: float, name: str, done: int = number) -> None:
            if progress is not None:
                progress((done + fraction) / len(datasets), name)

        try:
            findings.add(check_dataset(path, workers, part))
        except ConfigurationError as error:
            findings.problems.append(str(error))
    return findings
