"""Where a run's frames come from: data sets of all forms, parts of their splits, and phantoms made for the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from AGTraining.data.planes import phantom
from AGTraining.data.planes.csv_table import read_table
from AGTraining.data.planes.decode import STILLS
from AGTraining.data.planes.folders import read_class_folders, read_unlabelled
from AGTraining.data.planes.hdf5 import ENDINGS, read_hdf5
from AGTraining.data.planes.labelled import PlaneDataset, is_part_of
from AGTraining.data.planes.patients import chosen_patients
from AGTraining.data.planes.settings import PlaneSourceSettings
from AGTraining.errors import ConfigurationError

# Tables of data sets that lie in their folders.
TABLES = ("FETAL_PLANES_DB_data.csv", "labels.csv")
TABLE_ENDINGS = (".csv", ".tsv", ".txt")


def holds_frames(path: Path) -> bool:
    """Whether a path names a data set of frames rather than one of volumes, which has a dataset.json."""
    if path.is_dir():
        return not (path / "dataset.json").is_file() and (
            any((path / name).is_file() for name in TABLES)
            or any(
                file.suffix.lower() in STILLS
                for folder in path.iterdir()
                if folder.is_dir()
                for file in folder.iterdir()
            )
        )
    return path.suffix.lower() in (*TABLE_ENDINGS, *ENDINGS)


def source_of(path: Path) -> PlaneSourceSettings:
    """The settings for a data set that is named by its path alone: a table, an HDF5 file, or a folder.

    A folder with a table that is known, as `labels.csv`, is read by it; another one has a folder for each class.
    Raises ConfigurationError for what is none of these.
    """
    if path.is_dir():
        table = next((path / name for name in TABLES if (path / name).is_file()), None)
        return PlaneSourceSettings(folder=path) if table is None else PlaneSourceSettings(csv=table)
    if path.suffix.lower() in TABLE_ENDINGS:
        return PlaneSourceSettings(csv=path)
    if path.suffix.lower() in ENDINGS:
        return PlaneSourceSettings(hdf5=path)
    raise ConfigurationError(
        f"{path}: is no data set of frames; name a table (.csv), an HDF5 file, or a folder with a subfolder for each "
        "class."
    )


def with_plane_phantoms(sources: Sequence[PlaneSourceSettings], folder: Path) -> list[PlaneSourceSettings]:
    """The sources with tables in place of phantoms; those that are not yet in the folder are made."""

    def made(source: PlaneSourceSettings) -> PlaneSourceSettings:
        if source.phantoms is None:
            return source
        table = phantom.phantom_frames(source.phantoms, folder)
        return source.model_copy(update={"csv": table, "phantoms": None})

    return [made(source) for source in sources]


def read_plane_source(source: PlaneSourceSettings, part: str = "training") -> PlaneDataset:
    """The frames of a source that its settings take, with the problems of those that cannot be taken.

    part: the list that the source stands in, "training" or "validation". Raises ConfigurationError where there is
    nothing to go on with, and PackageError for HDF5 without h5py.
    """
    dataset = _read(source)
    frames = list(dataset.frames)
    problems = list(dataset.problems)
    if source.split is not None and frames:
        # Of the whole data set: whoever is trained on must not be scored because other frames are taken there.
        chosen = chosen_patients(dataset, source.split, source.split.part or part)
        frames = [frame for frame in frames if frame.patient in chosen]
    if source.official is not None:
        wanted = {value.strip().lower() for value in source.official}
        there = sorted({frame.part or "" for frame in dataset.frames})
        if missing := sorted(wanted - set(there)):
            problems.append(
                f"{dataset.path}: its own split has no part '{missing[0]}'; it has "
                f"{', '.join(filter(None, there)) or 'no split'}."
            )
        frames = [frame for frame in frames if frame.part in wanted]
    if source.label is not None:
        frames = [frame if frame.label else replace(frame, label=source.label) for frame in frames]
    frames = [frame for frame in frames if frame.label is None or not is_part_of(frame.label, source.left_out)]
    if not frames and not problems:
        raise ConfigurationError(f"{dataset.path}: has no frame left after 'official', 'left_out' and 'split'.")
    if not source.labelled:
        frames = [replace(frame, label=None) for frame in frames]
    frames = [replace(frame, weight=source.weight, dataset=dataset.name) for frame in frames]
    licence = source.licence or dataset.licence
    return replace(dataset, frames=tuple(frames), licence=licence, problems=tuple(problems))


def _read(source: PlaneSourceSettings) -> PlaneDataset:
    if source.csv is not None:
        return read_table(source.csv, source.columns, source.images, source.patient_pattern)
    if source.folder is not None:
        return read_class_folders(source.folder, source.patient_pattern)
    if source.hdf5 is not None:
        return read_hdf5(source.hdf5)
    if source.frames is not None:
        return read_unlabelled(source.frames, source.patient_pattern)
    raise ConfigurationError("The phantoms of this source are not made yet; call with_plane_phantoms first.")
