"""The description inside a model file, read with the standard library alone: neither torch nor safetensors is needed.

A `.safetensors` file begins with the length of its header (8 bytes, little endian) and the header (JSON): names, types,
shapes and places of the tensors, and under `__metadata__` texts by name. One of those is the model's description.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, NoReturn

from AGTraining.errors import BundleError

FORMAT_VERSION = 1
DOCUMENT_KEY = "AGTraining"
CHECKSUM_KEY = "sha256"
TASKS = ("segmentation", "planes")
# Of safetensors itself: larger headers are refused there too.
LARGEST_HEADER = 100_000_000
# What bundle.OrganClass takes for fields that a description leaves out.
_CLASS_DEFAULTS = {
    "category_code": "123037004",
    "category_meaning": "Anatomical Structure",
    "paired": False,
    "usual_ml": None,
}


def read_document(path: str | Path) -> dict[str, Any]:
    """The description of a model (`bundle.BundleInfo` or `PlanesInfo` as JSON has them), its classes complete.

    Checks the file's length against its header, and the fields that a list of models shows; the weights are checked
    by `bundle.load`. Raises BundleError when the file is missing, unreadable, truncated, of another kind or of a
    newer format.
    """
    path = Path(path)
    metadata = _metadata(path)
    if DOCUMENT_KEY not in metadata:
        raise BundleError(f"{path}: a .safetensors file, but not a model of AGTraining (its description is missing).")
    try:
        document = json.loads(metadata[DOCUMENT_KEY])
    except (TypeError, ValueError, RecursionError) as error:
        _not_valid(path, error)
    if not isinstance(document, dict):
        _not_valid(path, "it is no JSON object")
    version = document.get("format_version")
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{path}: model format {version}; this version reads format {FORMAT_VERSION}. Update the extension."
        )
    _check(path, document)
    complete = complete_plane if document["task"] == "planes" else complete_class
    try:
        document["classes"] = [complete(entry) for entry in document["classes"]]
    except ValueError as error:
        _not_valid(path, error)
    return document


def complete_class(organ: Any) -> dict[str, Any]:
    """A class of a description with all fields of `bundle.OrganClass`. Raises ValueError with the one that is wrong."""
    if not isinstance(organ, dict):
        raise ValueError("an entry of 'classes' is no JSON object")
    organ = _CLASS_DEFAULTS | organ
    for field in ("name", "category_code", "category_meaning", "type_code", "type_meaning"):
        if not isinstance(organ.get(field), str):
            raise ValueError(f"'{field}' of a class is no text")
    if not isinstance(organ["paired"], bool):
        raise ValueError(f"'paired' of {organ['name']} is neither true nor false")
    color = organ.get("color")
    if not (isinstance(color, list) and len(color) == 3 and all(type(c) is int and 0 <= c <= 255 for c in color)):
        raise ValueError(f"the color of {organ['name']} is not three numbers from 0 to 255")
    usual = organ["usual_ml"]
    if usual is not None and not (
        isinstance(usual, list) and len(usual) == 2 and all(type(v) in (int, float) and math.isfinite(v) for v in usual)
    ):
        raise ValueError(f"'usual_ml' of {organ['name']} is not two numbers")
    return organ


def complete_plane(plane: Any) -> dict[str, Any]:
    """A class of a description with all fields of `bundle.PlaneClass`. Raises ValueError with the one that is wrong."""
    if not isinstance(plane, dict):
        raise ValueError("an entry of 'classes' is no JSON object")
    plane = {"background": False, "meaning": ""} | plane
    for field in ("name", "meaning"):
        if not isinstance(plane.get(field), str):
            raise ValueError(f"'{field}' of a class is no text")
    if not isinstance(plane["background"], bool):
        raise ValueError(f"'background' of {plane['name']} is neither true nor false")
    return plane


def _metadata(path: Path) -> dict[str, Any]:
    """The texts of a file's header, by name."""
    try:
        is_file = path.is_file()
    except OSError as error:
        _not_readable(path, error)
    if not is_file:
        raise BundleError(f"{path}: no such model file.")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(LARGEST_HEADER, size - 8):
                _not_complete(path)
            header = json.loads(file.read(length))
    except OSError as error:
        _not_readable(path, error)
    except (ValueError, RecursionError):
        _not_complete(path)
    if not isinstance(header, dict):
        _not_complete(path)
    metadata = header.pop("__metadata__", {})
    try:
        end = max((int(tensor["data_offsets"][1]) for tensor in header.values()), default=0)
    except (TypeError, ValueError, KeyError, IndexError, OverflowError):
        _not_complete(path)
    if end != size - 8 - length or not isinstance(metadata, dict):
        _not_complete(path)
    return metadata


def _check(path: Path, document: dict[str, Any]) -> None:
    document.setdefault("task", TASKS[0])
    if document["task"] not in TASKS:
        raise BundleError(f"{path}: made for the task '{document['task']}', which this version does not know.")
    for field in ("name", "network", "licence"):
        if not isinstance(document.get(field), str):
            _not_valid(path, f"'{field}' is no text")
    for field, kind in (("classes", list), ("provenance", dict), ("metrics", dict)):
        if not isinstance(document.setdefault(field, kind()), kind):
            _not_valid(path, f"'{field}' is no JSON {'array' if kind is list else 'object'}")
    if not document["classes"]:
        _not_valid(path, "'classes' is empty")


def _not_readable(path: Path, error: OSError) -> NoReturn:
    raise BundleError(f"{path}: the model file cannot be read ({error.strerror or error}).") from error


def _not_complete(path: Path) -> NoReturn:
    raise BundleError(
        f"{path}: not a complete .safetensors model file; copy or download it again. "
        "PyTorch's pickled .pt and .pth files are not read, because they can run code."
    )


def _not_valid(path: Path, reason: object) -> NoReturn:
    raise BundleError(f"{path}: the model's description is not valid ({' '.join(str(reason).split())[:200]}).")
