"""DICOM clips in the many ways of scanners, written with pydicom."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

from AGTraining.imaging.frames import open_frames


def smooth(count: int = 3, rows: int = 16, columns: int = 24, channels: int = 1) -> np.ndarray:
    """Frames (count, rows, columns[, channels]) whose values change slowly, so that lossy codes keep them."""
    frame, row, column, channel = np.indices((count, rows, columns, channels))
    values = (10 + frame * 20 + row + column * 2 + channel * 15).astype(np.uint8)
    return values if channels > 1 else values[..., 0]


def write(path: Path, frames: np.ndarray, syntax: str = ExplicitVRLittleEndian, **changes: Any) -> Path:
    """A clip (frames, rows, columns[, 3]); `changes` replace, add or (None) remove elements."""
    color = frames.ndim == 4
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax
    data = Dataset()
    data.file_meta = meta
    bits = 8 * frames.itemsize
    elements = {
        "SOPClassUID": UltrasoundMultiFrameImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "Modality": "US",
        "PatientID": "phantom",
        "NumberOfFrames": len(frames),
        "Rows": frames.shape[1],
        "Columns": frames.shape[2],
        "SamplesPerPixel": 3 if color else 1,
        "PhotometricInterpretation": "RGB" if color else "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
        "PixelData": frames.tobytes(),
        **({"PlanarConfiguration": 0} if color else {}),
        **changes,
    }
    for name, value in elements.items():
        if value is not None:
            setattr(data, name, value)
    data["PixelData"].VR = "OW" if bits == 16 else "OB"
    data["PixelData"].is_undefined_length = UID(syntax).is_compressed and syntax != DeflatedExplicitVRLittleEndian
    implicit = syntax == ImplicitVRLittleEndian
    pydicom.dcmwrite(
        path, data, enforce_file_format=True, implicit_vr=implicit, little_endian=syntax != ExplicitVRBigEndian
    )
    return path


def coded(frames: np.ndarray, kind: str, **options: Any) -> list[bytes]:
    """Each frame as a JPEG or JPEG 2000 picture."""
    parts = []
    for frame in frames:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, kind, **options)
        parts.append(buffer.getvalue())
    return parts


def images(path: Path) -> np.ndarray:
    """All frames as this program reads them."""
    with open_frames(path) as clip:
        return np.array([frame.image for frame in clip])


def palette(reds: np.ndarray, greens: np.ndarray, blues: np.ndarray, bits: int) -> dict[str, Any]:
    """Elements of a palette with entries of 8 or 16 bits."""
    elements: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, table in (("Red", reds), ("Green", greens), ("Blue", blues)):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [len(table), 0, bits]
        elements[f"{name}PaletteColorLookupTableData"] = table.astype(f"u{bits // 8}").tobytes()
    return elements
