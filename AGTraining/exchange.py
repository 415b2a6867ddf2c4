"""How volumes, options and results travel between the worker and its client: JSON documents and `.npy` files.

Both ends use it: needs no torch. The files lie in a private folder of the request; documents name them without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from AGTraining.errors import AGTrainingError, DiskError, InputError, RequestError
from AGTraining.imaging.volume import Volume
from AGTraining.inference.result import OrganStatistics, SegmentOptions, SegmentResult
from AGTraining.labels import OutputLabel

T = TypeVar("T")

REINSTALL = "install the extension again, so that its parts are of one version"


def save_volume(volume: Volume, folder: Path, name: str) -> dict[str, Any]:
    """Writes the voxels to `name.npy` in the folder; returns what `load_volume` needs besides the folder.

    Raises DiskError when the file cannot be written; nothing is left of it then.
    """
    file = save_array(volume.array, folder, name)
    return {"file": file, "ijk_to_world": volume.ijk_to_world.tolist(), "name": volume.name}


def save_array(array: np.ndarray, folder: Path, name: str) -> str:
    """Writes `name.npy` in the folder and returns the file's name. Raises as `save_volume`."""
    path = Path(folder, f"{name}.npy")
    try:
        with open(path, "wb") as file:
            np.lib.format.write_array(_Sink(file.write), array, allow_pickle=False)
    except OSError as error:
        raise _not_written(path, error) from error
    return path.name


def load_volume(document: Mapping[str, Any], folder: Path, mapped: bool = False) -> Volume:
    """The volume that `save_volume` wrote.

    mapped: its array is read-only and stays on disk until it is read, for volumes larger than the free memory; the
    file cannot be deleted on Windows before the array is gone.
    Raises InputError when the file is missing, damaged or no 3-D array, RequestError when the document is not valid.
    """
    with valid("volume"):
        file, name = text(document["file"]), text(document["name"])
        matrix = np.array(document["ijk_to_world"], dtype=np.float64)
        array = load_array(file, folder, name, mapped)
    return Volume(array, matrix, name)


def load_array(file: str, folder: Path, name: str, mapped: bool = False) -> np.ndarray:
    """The array that `save_array` wrote; name: of what it belongs to, for messages.

    Raises InputError as `load_volume`, and ValueError when the file's name is a path.
    """
    if not file or Path(file).name != file or "\\" in file or "\0" in file:
        raise ValueError(f"'{file}' is no plain file name")
    path = Path(folder, file)
    try:
        # Checks the file's size before any memory is taken for it. Nothing is ever unpickled.
        array: np.ndarray = np.lib.format.open_memmap(path, mode="r")
        return np.asarray(array) if mapped else np.array(array)
    except FileNotFoundError as error:
        raise InputError(f"{name}: its file {path} is missing; run it again.") from error
    except OSError as error:
        raise InputError(
            f"{name}: its file {path} cannot be read ({error.strerror or error}); run it again."
        ) from error
    except MemoryError:
        raise
    except Exception as error:
        # Numpy reads the header as Python's syntax, and a damaged one fails in as many ways as that can.
        raise InputError(f"{name}: its file {path} is damaged ({_short(error)}); run it again.") from error


def load_options(document: Mapping[str, Any]) -> SegmentOptions:
    """The options that `dataclasses.asdict` made a document of; what is left out has its default.

    Raises RequestError for unknown names and for values of the wrong type.
    """
    with valid("set of options"):
        unknown = set(document) - set(_OPTIONS)
        if unknown:
            raise ValueError(f"'{min(unknown)}' is not known")
        return SegmentOptions(**{name: _OPTIONS[name](value) for name, value in document.items()})


def save_result(result: SegmentResult, folder: Path, check: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Writes label map and attention maps into the folder; returns a JSON document of the whole result.

    check: called before each file; what it raises (a cancellation) ends the writing. Raises DiskError as `save_volume`.
    """
    check()
    labels = save_volume(result.labels, folder, "labels")
    attention = {}
    for number, (name, volume) in enumerate(result.attention.items(), 1):
        check()
        attention[name] = save_volume(volume, folder, f"attention{number}")
    return {
        "labels": labels,
        "organs": [
            {
                "label": organ.label._asdict(),
                "voxels": int(organ.voxels),
                "volume_ml": _or_none(organ.volume_ml),
                "mean_hu": _or_none(organ.mean_hu),
                "sd_hu": _or_none(organ.sd_hu),
                "confidence": _or_none(organ.confidence),
            }
            for organ in result.organs
        ],
        "attention": attention,
        "messages": list(result.messages),
        "device": result.device,
        "seconds": {stage: float(seconds) for stage, seconds in result.seconds.items()},
    }


def load_result(document: Mapping[str, Any], folder: Path) -> SegmentResult:
    """The result that `save_result` wrote, wholly in memory: the folder can be deleted.

    Raises RequestError when the document is not complete, InputError when a file is missing or damaged.
    """
    with valid("result"):
        labels = load_volume(document["labels"], folder)
        if labels.array.dtype != np.uint8:
            raise ValueError(f"labels are of type {labels.array.dtype}")
        return SegmentResult(
            labels,
            tuple(_organ(organ) for organ in document["organs"]),
            {text(name): load_volume(volume, folder) for name, volume in document["attention"].items()},
            tuple(text(message) for message in document["messages"]),
            text(document["device"]),
            {text(stage): float(seconds) for stage, seconds in document["seconds"].items()},
        )


class _Sink:
    """Only the `write` of a file: where numpy sees a file it writes past it, and a full disk loses its error number."""

    def __init__(self, write: Callable[[bytes], int]) -> None:
        self.write = write


def _not_written(path: Path, error: OSError) -> DiskError:
    # Half a file on a full disk is of no use to anybody.
    with suppress(OSError):
        path.unlink(missing_ok=True)
    reason = error.strerror or str(error)
    return DiskError(
        f"{path}: cannot be written ({reason}); free space on that disk, or set TMPDIR (TEMP on Windows) to a folder "
        "on another one."
    )


@contextmanager
def valid(kind: str) -> Iterator[None]:
    """RequestError for all that a document of the wrong shape can cause."""
    try:
        yield
    except AGTrainingError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else _short(error)
        raise RequestError(f"The {kind} that was handed over is not valid ({reason}); {REINSTALL}.") from error


def _organ(document: Mapping[str, Any]) -> OrganStatistics:
    fields = dict(document["label"])
    red, green, blue = fields.pop("color")
    usual = fields.pop("usual_ml")
    label = OutputLabel(**fields, color=(red, green, blue), usual_ml=(usual[0], usual[1]) if usual else None)
    return OrganStatistics(
        label,
        int(document["voxels"]),
        _or_nan(document["volume_ml"]),
        _or_nan(document["mean_hu"]),
        _or_nan(document["sd_hu"]),
        _or_nan(document["confidence"]),
    )


def _or_none(value: float) -> float | None:
    """The number for JSON, which has no NaN."""
    return float(value) if math.isfinite(value) else None


def _or_nan(value: Any) -> float:
    return math.nan if value is None else float(value)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def of_type(kind: type[T]) -> Callable[[Any], T]:
    """A function that returns what it is given; it raises TypeError when that is not of exactly this type."""

    def checked(value: Any) -> T:
        if type(value) is not kind:
            raise TypeError(f"{value!r} is no {kind.__name__}")
        return value

    return checked


text = of_type(str)


def _attention(value: Any) -> str:
    if value not in ("none", "levels", "gates"):
        raise ValueError(f"attention {value!r} is neither 'none', 'levels' nor 'gates'")
    return text(value)


def _tile_size(value: Any) -> tuple[int, int, int] | None:
    if value is None:
        return None
    k, j, i = (of_type(int)(n) for n in value)
    if min(k, j, i) < 1:
        raise ValueError(f"the tile size {value} is not positive")
    return k, j, i


def _organs(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, str):
        raise TypeError(f"organs {value!r} are no list")
    return None if value is None else tuple(text(name) for name in value)


_OPTIONS: dict[str, Callable[[Any], Any]] = {
    "device": text,
    "attention": _attention,
    "tile_size": _tile_size,
    "mirror": of_type(bool),
    "largest_component": of_type(bool),
    "organs": _organs,
}
