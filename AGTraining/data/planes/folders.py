"""Frames by folders: a folder for each class, or frames and clips that have no labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from AGTraining.data.planes.csv_table import patient_of
from AGTraining.data.planes.decode import STILLS
from AGTraining.data.planes.labelled import LabelledFrame, PlaneDataset
from AGTraining.errors import AGTrainingError, ConfigurationError

# Endings of files that may hold several frames.
CLIPS = (".dcm", ".mha", ".mhd", ".nrrd", ".tif", ".tiff", ".mp4", ".avi", ".mov", ".mkv", ".gif")


def read_class_folders(folder: str | Path, pattern: str | None = None) -> PlaneDataset:
    """The frames below the subfolders of a folder; a subfolder's name is the label of all that is in it.

    The patient is in the file's name (pattern, or a known way of naming files), or is the name of a folder between
    class and file, or else each file counts as a patient of its own. Raises ConfigurationError where nothing is found.
    """
    folder = Path(folder)
    classes = [entry for entry in _entries(folder) if entry.is_dir()]
    frames: list[LabelledFrame] = []
    problems: list[str] = []
    for place in classes:
        found = 0
        for path in _files(place):
            try:
                opened = list(frames_of_file(path, pattern))
            except AGTrainingError as error:
                problems.append(str(error))
                continue
            inner = path.parent.relative_to(place)
            found += len(opened)
            for frame in opened:
                if not frame.known_patient and inner.parts:
                    frame = replace(frame, patient=inner.parts[0], known_patient=True)
                frames.append(replace(frame, label=place.name))
        if not found:
            problems.append(f"{place}: holds no frame ({', '.join(STILLS)} or a clip); fill or remove the folder.")
    if not frames:
        raise ConfigurationError(
            problems[0] if problems else f"{folder}: has no subfolders; one for each class, with its frames, is wanted."
        )
    return PlaneDataset(folder, folder.name, tuple(frames), problems=tuple(problems))


def read_unlabelled(path: str | Path, pattern: str | None = None) -> PlaneDataset:
    """All frames below a folder, or of one file, without labels. Raises ConfigurationError where nothing is found."""
    path = Path(path)
    frames: list[LabelledFrame] = []
    problems: list[str] = []
    for file in [path] if path.is_file() else _files(path):
        try:
            frames += frames_of_file(file, pattern)
        except AGTrainingError as error:
            problems.append(str(error))
    if not frames:
        raise ConfigurationError(
            problems[0] if problems else f"{path}: holds no frame ({', '.join(STILLS)} or a clip)."
        )
    return PlaneDataset(path, path.stem, tuple(frames), problems=tuple(problems))


def frames_of_file(path: Path, pattern: str | None = None) -> Iterator[LabelledFrame]:
    """The frame of a picture, or those of a clip, which are of one patient. Raises InputError for a damaged clip."""
    patient, known = patient_of(path.name, "", pattern)
    frame = LabelledFrame(path, None, patient, known_patient=known)
    if path.suffix.lower() in STILLS:
        yield frame
        return
    from AGTraining.imaging.frames import open_frames

    with open_frames(path) as clip:
        count = clip.count if clip.count is not None else sum(1 for _ in clip)
    for index in range(count):
        yield replace(frame, index=index)


def _files(folder: Path) -> list[Path]:
    endings = (*STILLS, *CLIPS)
    _entries(folder)
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in endings and not path.name.startswith(".") and path.is_file()
    )


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise ConfigurationError(f"{folder}: cannot be read ({error.strerror}).") from error
