"""How ultrasound frames, options and planes travel between the worker and its client.

A live frame and its result are JSON alone, arrays in base64: a file for each would take longer than the network. The
result of a clip is JSON and `.npy` files in the private folder of the request. Both ends use it: needs no torch.
"""

from __future__ import annotations

import binascii
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from AGTraining.exchange import load_array, of_type, save_array, text, valid
from AGTraining.imaging.box import Box
from AGTraining.inference.plane_result import ClipFrame, ClipResult, LocaliseOptions, PlaneOptions, PlaneResult

FRAME_TYPES = ("uint8", "uint16", "float32")
# No probe and no screen has more; a shape beyond it is a mistake, not a frame.
MOST_PIXELS = 1 << 26


def save_frame(image: np.ndarray) -> dict[str, Any]:
    """The document of a frame. image: gray (rows, columns) of type uint8, uint16 or float32.

    Raises ValueError for another array: converting it is the caller's to decide.
    """
    if image.ndim != 2 or image.dtype.name not in FRAME_TYPES:
        raise ValueError(f"a frame of shape {image.shape} and type {image.dtype.name} cannot be sent")
    return _save_inline(image)


def load_frame(document: Mapping[str, Any]) -> np.ndarray:
    """The frame that `save_frame` made a document of, read-only. Raises RequestError when that is not valid."""
    with valid("frame"):
        image = _load_inline(document, FRAME_TYPES)
        if image.ndim != 2:
            raise ValueError(f"its shape {image.shape} is not (rows, columns)")
        return image


def save_plane_options(options: PlaneOptions) -> dict[str, Any]:
    """The document of the options."""
    return asdict(options)


def load_plane_options(document: Mapping[str, Any]) -> PlaneOptions:
    """The options that `save_plane_options` made a document of; what is left out has its default.

    Raises RequestError for unknown names and for values that are not valid.
    """
    with valid("set of options"):
        return PlaneOptions(**_fields(document, _OPTIONS))


def save_plane_result(result: PlaneResult) -> dict[str, Any]:
    """The document of a frame's result, its attention maps too where it has them."""
    maps = result.attention
    return {
        "plane": result.plane,
        "confidence": float(result.confidence),
        "probabilities": [round(float(value), 7) for value in result.probabilities],
        "box": None if result.box is None else list(result.box.edges),
        "crop": list(result.crop.edges),
        "attention": None if maps is None else {name: _save_inline(values) for name, values in maps.items()},
        "is_blank": result.is_blank,
        "message": result.message,
    }


def load_plane_result(document: Mapping[str, Any]) -> PlaneResult:
    """The result that `save_plane_result` made a document of. Raises RequestError when that is not valid."""
    with valid("result"):
        maps = document["attention"]
        return PlaneResult(
            text(document["plane"]),
            float(document["confidence"]),
            np.array(document["probabilities"], dtype=np.float32),
            None if document["box"] is None else Box(*map(float, document["box"])),
            Box(*map(float, document["crop"])),
            None if maps is None else {text(k): _load_inline(v, ("float32",)) for k, v in maps.items()},
            of_type(bool)(document["is_blank"]),
            text(document["message"]),
        )


def save_clip_result(result: ClipResult, folder: Path, check: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Writes what the frames show into the folder; returns a JSON document of the whole result.

    `frames.npy`: for each frame its number, seconds, box, crop (x0, y0, x1, y1 each; NaN for what it has not), class
    number and number of its message (0: none) among `frame_messages`; `probabilities.npy`: (frames, classes) float32.
    check: called before each file; what it raises (a cancellation) ends the writing. Raises DiskError.
    """
    messages = sorted({frame.result.message for frame in result.frames} - {""})
    numbers = {"": 0} | {message: number for number, message in enumerate(messages, 1)}
    rows = [
        [
            frame.index,
            math.nan if frame.seconds is None else frame.seconds,
            *((math.nan,) * 4 if frame.result.box is None else frame.result.box.edges),
            *frame.result.crop.edges,
            result.classes.index(frame.result.plane),
            frame.result.is_blank,
            numbers[frame.result.message],
        ]
        for frame in result.frames
    ]
    check()
    frames = save_array(np.array(rows, dtype=np.float64).reshape(-1, _COLUMNS), folder, "frames")
    check()
    table = np.array([frame.result.probabilities for frame in result.frames], dtype=np.float32)
    probabilities = save_array(table.reshape(-1, len(result.classes)), folder, "probabilities")
    return {
        "name": result.name,
        "classes": list(result.classes),
        "background": result.background,
        "frames": frames,
        "probabilities": probabilities,
        "frame_messages": messages,
        "is_complete": result.is_complete,
        "count": result.count,
        "spacing_mm": None if result.spacing_mm is None else list(result.spacing_mm),
        "messages": list(result.messages),
        "device": result.device,
        "seconds": {stage: float(seconds) for stage, seconds in result.seconds.items()},
    }


def load_clip_result(document: Mapping[str, Any], folder: Path) -> ClipResult:
    """The result that `save_clip_result` wrote, wholly in memory: the folder can be deleted.

    Raises RequestError when the document is not complete, InputError when a file is missing or damaged.
    """
    with valid("result"):
        name = text(document["name"])
        rows = load_array(text(document["frames"]), folder, name)
        probabilities = load_array(text(document["probabilities"]), folder, name)
        classes = tuple(text(value) for value in document["classes"])
        messages = ("", *(text(message) for message in document["frame_messages"]))
        if rows.shape[1:] != (_COLUMNS,) or probabilities.shape != (len(rows), len(classes)):
            raise ValueError(f"tables of shapes {rows.shape} and {probabilities.shape}")
        spacing = document["spacing_mm"]
        return ClipResult(
            name,
            classes,
            None if document["background"] is None else text(document["background"]),
            tuple(_clip_frame(row, p, classes, messages) for row, p in zip(rows, probabilities, strict=True)),
            of_type(bool)(document["is_complete"]),
            None if document["count"] is None else of_type(int)(document["count"]),
            None if spacing is None else (float(spacing[0]), float(spacing[1])),
            tuple(text(message) for message in document["messages"]),
            text(document["device"]),
            {text(stage): float(seconds) for stage, seconds in document["seconds"].items()},
        )


_COLUMNS = 13


def _clip_frame(
    row: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], messages: Sequence[str]
) -> ClipFrame:
    index, seconds, *edges, plane, is_blank, message = (float(value) for value in row)
    result = PlaneResult(
        classes[int(plane)],
        float(probabilities[int(plane)]),
        probabilities,
        None if math.isnan(edges[0]) else Box(*edges[:4]),
        Box(*edges[4:]),
        is_blank=bool(is_blank),
        message=messages[int(message)],
    )
    return ClipFrame(int(index), None if math.isnan(seconds) else seconds, result)


def _save_inline(array: np.ndarray) -> dict[str, Any]:
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    data = binascii.b2a_base64(little.data, newline=False).decode("ascii")
    return {"shape": list(array.shape), "dtype": array.dtype.name, "data": data}


def _load_inline(document: Mapping[str, Any], types: Sequence[str]) -> np.ndarray:
    """Raises KeyError, TypeError or ValueError for what is no such document."""
    shape, name = [of_type(int)(n) for n in document["shape"]], document["dtype"]
    if name not in types:
        raise ValueError(f"its type {name!r} is none of {', '.join(types)}")
    if not shape or min(shape) < 1 or math.prod(shape) > MOST_PIXELS:
        raise ValueError(f"its shape {shape} is not possible")
    # Not `base64.b64decode`, which looks for wrong letters with a regular expression.
    data = binascii.a2b_base64(text(document["data"]), strict_mode=True)
    dtype = np.dtype(name).newbyteorder("<")
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"it has {len(data)} bytes, which are not those of {shape} of {name}")
    return np.frombuffer(data, dtype).reshape(shape).astype(name, copy=False)


def _fields(document: Mapping[str, Any], readers: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    unknown = set(document) - set(readers)
    if unknown:
        raise ValueError(f"'{min(unknown)}' is not known")
    return {name: readers[name](value) for name, value in document.items()}


def _number(low: float, high: float) -> Callable[[Any], float]:
    def checked(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"{value!r} is not between {low:g} and {high:g}")
        return float(value)

    return checked


def _around(value: Any) -> str:
    if value not in ("all", "common"):
        raise ValueError(f"around {value!r} is neither 'all' nor 'common'")
    return text(value)


def _batch(value: Any) -> int:
    return int(_number(1, 4096)(of_type(int)(value)))


_LOCALISE: dict[str, Callable[[Any], Any]] = {"sigma": _number(0, 10), "threshold": _number(0, 1), "around": _around}
_OPTIONS: dict[str, Callable[[Any], Any]] = {
    "device": text,
    "attention": of_type(bool),
    "localise": lambda document: LocaliseOptions(**_fields(document, _LOCALISE)),
    "batch": _batch,
}
