"""Frames in an HDF5 file as the authors kept theirs (Schlemper et al. 2019; Attention-Gated-Networks, us_dataset.py).

`x_train`, `x_val`, `x_test`: frames, (N, 1, rows, columns); `p_…`: their classes as numbers; `label_names`: the names
of the classes as bytes. `patient_…`, which the authors' file lacks, may name the patients. h5py is optional.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from AGTraining.data.planes.labelled import LabelledFrame, PlaneDataset
from AGTraining.errors import ConfigurationError, InputError, PackageError

ENDINGS = (".h5", ".hdf5", ".hdf")
PARTS = ("train", "val", "test")


def read_hdf5(path: str | Path) -> PlaneDataset:
    """The frames of all parts that the file has; their pixels are not read yet.

    Raises ConfigurationError for a file of another form and PackageError where h5py is missing.
    """
    path = Path(path)
    frames: list[LabelledFrame] = []
    problems: list[str] = []
    with _opened(path) as file:
        parts = [part for part in PARTS if f"x_{part}" in file]
        if not parts or "label_names" not in file:
            raise ConfigurationError(
                f"{path}: is not of the authors' form, which has x_train, p_train and label_names; it has "
                f"{', '.join(sorted(file)) or 'nothing'}."
            )
        names = [_text(name) for name in file["label_names"][:]]
        known = any(f"patient_{part}" in file for part in parts)
        for part in parts:
            shape = file[f"x_{part}"].shape
            if len(shape) not in (3, 4) or (len(shape) == 4 and shape[1] != 1):
                problems.append(
                    f"{path}: x_{part} has the shape {shape}; frames of one channel, (N, 1, rows, columns), are wanted."
                )
                continue
            labels = file[f"p_{part}"][:] if f"p_{part}" in file else np.full(shape[0], -1)
            patients = [_text(name) for name in file[f"patient_{part}"][:]] if f"patient_{part}" in file else None
            if labels.shape[1:] not in ((), (1,)) or labels.dtype.kind not in "iuf":
                problems.append(
                    f"{path}: p_{part} has the shape {labels.shape}; one class a frame, as a number, is wanted."
                )
                continue
            labels = labels.reshape(len(labels))
            if len(labels) != shape[0] or (patients is not None and len(patients) != shape[0]):
                problems.append(f"{path}: x_{part} has {shape[0]} frames, but not as many labels or patients.")
                continue
            wrong = sorted({int(label) for label in labels if int(label) >= len(names)})
            if wrong:
                problems.append(f"{path}: p_{part} holds class {wrong[0]}, but label_names has {len(names)} names.")
            for index, label in enumerate(map(int, labels)):
                if label >= len(names):
                    continue
                frames.append(
                    LabelledFrame(
                        # One file holds several arrays of frames: the part says which.
                        path, names[label] if label >= 0 else None,
                        patients[index] if patients is not None else f"{part} {index}",
                        index=index, known_patient=patients is not None, part=part,
                    )
                )  # fmt: skip
    warnings = () if known else (f"{path}: does not say whose frames these are; its own parts are trusted.",)
    return PlaneDataset(path, path.stem, tuple(frames), problems=tuple(problems), warnings=warnings)


def read_image(frame: LabelledFrame) -> np.ndarray:
    """The pixels, (rows, columns) uint8, whatever the file holds: 0 to 1, 0 to 255, z-scores. Raises InputError."""
    file, ranges = _shared(str(frame.source))
    try:
        image = np.squeeze(np.asarray(file[f"x_{frame.part}"][frame.index]))
    except (OSError, KeyError) as error:
        raise InputError(f"{frame.place} of x_{frame.part}: cannot be read ({error}).") from error
    if image.dtype == np.uint8:
        return image
    low, high = ranges.setdefault(str(frame.part), _range(file[f"x_{frame.part}"]))
    return np.clip(np.rint((image.astype(np.float32) - low) * (255 / (high - low))), 0, 255).astype(np.uint8)


def _range(images: Any) -> tuple[float, float]:
    """What becomes black and white: the scale of all frames alike, seen on some of them."""
    seen = np.asarray(images[:: max(1, len(images) // 64)], dtype=np.float32)
    low, high = float(np.nanmin(seen)), float(np.nanmax(seen))
    if low >= 0:
        low, high = 0.0, 1.0 if high <= 1 else 255.0 if high <= 255 else high
    return low, max(high, low + 1e-6)


@lru_cache(maxsize=4)
def _shared(path: str) -> tuple[Any, dict[str, tuple[float, float]]]:
    """The open file, for reading frame by frame; a forked process opens its own."""
    return _opened(Path(path)), {}


def _opened(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise PackageError(f"{path}: HDF5 files need the package h5py; install it with pip install h5py.") from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read as HDF5 ({error}).") from error


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
