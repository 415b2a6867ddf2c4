"""The published SonoNet weights as a model file. Needs numpy alone, neither torch nor safetensors.

Baumgartner et al. 2017, "SonoNet: Real-Time Detection and Localisation of Fetal Standard Scan Planes in Freehand
Ultrasound"; weights: github.com/baumgach/SonoNet-weights, Apache-2.0. Their `.npz` files hold five arrays for each of
15 convolutions, in Lasagne's order: W, and the batch norm's beta, gamma, mean and 1/√(variance + ε).
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from AGTraining.bundle_file import CHECKSUM_KEY, DOCUMENT_KEY, FORMAT_VERSION
from AGTraining.errors import BundleError

CONVS = (2, 2, 3, 3, 3)
WIDTHS = (1, 2, 4, 8, 8)
# PyTorch's ε of a batch norm; Lasagne's is part of the stored 1/√(variance + ε).
EPSILON = 1e-5
# SonoNet-64, the largest of the published files, has 60 MB.
LARGEST_FILE = 500_000_000
ARRAYS = ("W", "beta", "gamma", "mean", "inv_std")
SOURCE = "github.com/baumgach/SonoNet-weights"
# In the order of the outputs, with what the published names stand for.
PLANES = {
    "3VV": "three-vessel view of the heart",
    "4CH": "four-chamber view of the heart",
    "Abdominal": "transverse abdomen with stomach and umbilical vein",
    "Background": "no standard plane",
    "Brain (Cb.)": "transverse brain at the cerebellum",
    "Brain (Tv.)": "transverse brain at the posterior horn of the ventricle",
    "Femur": "femur along its length",
    "Kidneys": "transverse kidneys",
    "Lips": "coronal lips and nose",
    "LVOT": "left ventricular outflow tract",
    "Profile": "median face in profile",
    "RVOT": "right ventricular outflow tract",
    "Spine (cor.)": "spine, coronal",
    "Spine (sag.)": "spine, sagittal",
}


def import_sononet(source: Path, path: Path) -> int:
    """Writes the model of a published weights file, atomically and in float32; returns its F (16, 32 or 64).

    Raises BundleError with a sentence for a file that is missing, damaged, or of another layout. Nothing is unpickled.
    """
    arrays = _read(source)
    tensors = _tensors(source, arrays)
    features = int(tensors["blocks.0.0.weight"].shape[0])
    document = json.dumps(_document(features, _sha256(source)), ensure_ascii=False)
    _write(path, tensors, {DOCUMENT_KEY: document, CHECKSUM_KEY: _checksum(document, tensors)})
    return features


def _read(source: Path) -> list[np.ndarray]:
    """The arrays arr_0, arr_1, … of the file."""
    try:
        if not source.is_file():
            raise BundleError(f"{source}: no such weights file; download it from {SOURCE}.")
        with zipfile.ZipFile(source) as archive:
            if sum(member.file_size for member in archive.infolist()) > LARGEST_FILE:
                raise _other_layout(source, "it is larger than any of them")
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} is damaged")
        with np.load(source, allow_pickle=False) as file:
            names = [f"arr_{number}" for number in range(len(file.files))]
            if set(names) != set(file.files):
                raise _other_layout(source, "its arrays are not named arr_0, arr_1, …")
            return [np.asarray(file[name]) for name in names]
    except BundleError:
        raise
    except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:100]
        raise BundleError(f"{source}: not a complete .npz file ({reason}); download it again from {SOURCE}.") from error
    except OSError as error:
        raise BundleError(f"{source}: cannot be read ({error.strerror or error}).") from error
    except Exception as error:
        # What numpy says of objects, of an encrypted member, of a member that is no array, and of headers that are
        # damaged (errors of Python's own parser) or promise more than any memory holds (MemoryError).
        raise _other_layout(
            source, f"it holds what is no plain array ({' '.join(str(error).split())[:100]})"
        ) from error


def _tensors(source: Path, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
    """The state of a `Sononet(convs=CONVS, bias=False)` by name, float32."""
    layers = sum(CONVS) + 2
    if len(arrays) != layers * len(ARRAYS):
        raise _other_layout(source, f"it has {len(arrays)} arrays; they have {layers * len(ARRAYS)}")
    features = int(arrays[0].shape[0]) if arrays[0].ndim == 4 else 0
    tensors: dict[str, np.ndarray] = {}
    for number, (convolution, norm, shape) in enumerate(_layers(features)):
        weight, beta, gamma, mean, inverse_sd = arrays[number * len(ARRAYS) : (number + 1) * len(ARRAYS)]
        expected = (shape, *[(shape[0],)] * 4)
        for name, array, wanted in zip(ARRAYS, (weight, beta, gamma, mean, inverse_sd), expected, strict=True):
            if array.shape != wanted or array.dtype.kind != "f":
                raise _other_layout(
                    source, f"{name} of layer {number + 1} is {array.dtype} {array.shape}, not float {wanted}"
                )
            if not np.isfinite(array).all():
                raise BundleError(f"{source}: {name} of layer {number + 1} is not finite; download the file again.")
        if not (inverse_sd > 0).all():
            raise BundleError(f"{source}: inv_std of layer {number + 1} is not positive; download the file again.")
        variance = np.maximum(1.0 / np.square(inverse_sd, dtype=np.float64) - EPSILON, 0.0)
        tensors[f"{convolution}.weight"] = weight
        values = {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": variance}
        tensors |= {f"{norm}.{name}": array for name, array in values.items()}
        tensors[f"{norm}.num_batches_tracked"] = np.zeros((), np.int64)
    return {
        name: array if array.dtype == np.int64 else np.ascontiguousarray(array, np.float32)
        for name, array in tensors.items()
    }


def _layers(features: int) -> Iterator[tuple[str, str, tuple[int, int, int, int]]]:
    """Names of each convolution and its batch norm in the network, and the shape of its weight, in the file's order."""
    before = 1
    for block, (convs, width) in enumerate(zip(CONVS, WIDTHS, strict=True)):
        for conv in range(convs):
            channels = features * width
            yield f"blocks.{block}.{3 * conv}", f"blocks.{block}.{3 * conv + 1}", (channels, before, 3, 3)
            before = channels
    yield "adaptation.0", "adaptation.1", (before // 2, before, 1, 1)
    yield "adaptation.3", "adaptation.4", (len(PLANES), before // 2, 1, 1)


def _document(features: int, sha256: str) -> dict[str, Any]:
    """The description, as `bundle.PlanesInfo` has it; the crop, size and scale are those of the weights' example."""
    examples = {"example_images": {"images": 13, "named_right": 13}} if features == 16 else {}
    return {
        "format_version": FORMAT_VERSION,
        "task": "planes",
        "name": f"SonoNet-{features}",
        "network": "Sononet",
        "arguments": {"num_classes": len(PLANES), "features": features, "convs": list(CONVS), "bias": False},
        "frame": {"size": [224, 288], "crop": "fixed", "fixed": [115, 734, 81, 874], "scale": 255.0, "rounded": True},
        "classes": [
            {"name": name, "background": name == "Background", "meaning": meaning} for name, meaning in PLANES.items()
        ],
        "provenance": {
            "training": "Published weights of Baumgartner et al. 2017 (SonoNet), trained by them on fetal ultrasound; "
            "converted from their file without training.",
            "source": SOURCE,
            "source_sha256": sha256,
        },
        "metrics": examples,
        "licence": "Apache-2.0",
    }


def source_sha256(document: Mapping[str, Any]) -> str | None:
    """The SHA-256 of the weights file that a model was converted from, as its description says; None for others."""
    value = document["provenance"].get("source_sha256")
    return value if isinstance(value, str) else None


def _write(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """A `.safetensors` file (see `AGTraining.bundle_file` for its layout)."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, array in tensors.items():
        start, end = end, end + array.nbytes
        kind = "I64" if array.dtype == np.int64 else "F32"
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for array in tensors.values():
                file.write(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _checksum(document: str, tensors: Mapping[str, np.ndarray]) -> str:
    """As `AGTraining.bundle` computes it."""
    digest = hashlib.sha256(document.encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"\0{name}\0torch.{array.dtype}\0{tuple(array.shape)}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _other_layout(source: Path, reason: str) -> BundleError:
    return BundleError(
        f"{source}: not the weights of a SonoNet-16, -32 or -64 as {SOURCE} has them ({reason}); take one of "
        "those files."
    )
