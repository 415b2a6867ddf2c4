"""Voxels of a NIfTI file that ITK does not show: its reader puts 0 where a file has NaN or infinity."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np

from AGTraining.imaging.headers import first_bytes
from AGTraining.imaging.integrity import is_gzip
from AGTraining.imaging.nifti import NiftiHeader

FLOATS = {16: "f4", 64: "f8"}
TYPE_OFFSET = 70
CHUNK = 1 << 24


def count_not_finite(path: Path) -> int:
    """How many voxels of a file are NaN or infinite; 0 for other formats and for whole numbers."""
    if path.is_dir():
        return 0
    start = first_bytes(path)
    header = NiftiHeader.parse(start)
    if header is None or not header.single_file:
        return 0
    order = "<" if struct.unpack_from("<i", start)[0] == len(start[:348]) else ">"
    kind = FLOATS.get(struct.unpack_from(order + "h", start, TYPE_OFFSET)[0])
    if kind is None:
        return 0
    count = 0
    with gzip.open(path) if is_gzip(path) else path.open("rb") as file:
        file.seek(header.voxel_offset)
        left = header.expected_bytes - header.voxel_offset
        while left > 0 and (data := file.read(min(CHUNK, left))):
            left -= len(data)
            values = np.frombuffer(data[: len(data) - len(data) % int(kind[1])], dtype=order + kind)
            count += values.size - int(np.count_nonzero(np.isfinite(values)))
    return count
