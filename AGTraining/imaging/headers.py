"""What files say of themselves, where ITK would silently repair a broken one.

Seen with ITK 5.4: a truncated NIfTI is filled with zeros, a spacing of zero in a NIfTI becomes 1 mm, a negative one
in NRRD and MetaImage becomes a flip, a damaged compressed MHA is filled with garbage.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from AGTraining.errors import InputError
from AGTraining.imaging.integrity import CUT_OFF, DAMAGED, GZIP_MAGIC, bad_spacing, damaged
from AGTraining.imaging.nifti import NiftiHeader


class Header(Protocol):
    """What `read_header` gives."""

    def check_voxels(self, path: Path, voxels: np.ndarray) -> None:
        """Raises InputError when the voxels that were read are not all that the file should hold."""

    def messages(self, path: Path, ijk_to_world: np.ndarray) -> tuple[str, ...]:
        """Sentences on the geometry, given the LPS matrix that was used."""


def read_header(path: Path) -> Header | None:
    """The header of a NIfTI, NRRD or MetaImage file, by its content; None for other formats.

    Raises InputError when the file is cut off or its spacing is zero, negative or not a number.
    """
    start = first_bytes(path)
    if start[4:7] in (b"n+2", b"ni2"):
        raise InputError(f"{path}: a NIfTI-2 file, which neither this program nor Slicer reads; save it as NIfTI-1.")
    header: NiftiHeader | TextHeader | None = NiftiHeader.parse(start)
    if header is None:
        header = TextHeader.parse(path, start)
    if header is not None:
        header.check_spacing(path)
        header.check_size(path)
    return header


def first_bytes(path: Path, count: int = 65536) -> bytes:
    """The first bytes of the file, uncompressed."""
    with open(path, "rb") as file:
        start = file.read(count)
    try:
        return zlib.decompressobj(wbits=31).decompress(start, count) if start[:2] == GZIP_MAGIC else start
    except zlib.error:
        return b""


@dataclass(frozen=True)
class TextHeader:
    """The fields of an NRRD or MetaImage header, keys in lower case; length: its bytes."""

    nrrd: bool
    fields: dict[str, str]
    length: int

    @classmethod
    def parse(cls, path: Path, start: bytes) -> TextHeader | None:
        """The header in a file's first bytes, or None where it is neither format."""
        if start.startswith(b"NRRD"):
            end = re.search(rb"\r?\n\r?\n", start)
            text, length = start[: end.start() if end else None], end.end() if end else len(start)
            pairs = [line.split(":", 1) for line in text.decode("utf-8", "replace").splitlines() if ":" in line]
            return cls(True, {key.strip().lower(): value.strip() for key, value in pairs}, length)
        end = re.search(rb"ElementDataFile\s*=[^\n]*\n?", start)
        if end is None or path.suffix.lower() not in (".mha", ".mhd"):
            return None
        lines = start[: end.end()].decode("utf-8", "replace").splitlines()
        pairs = [line.split("=", 1) for line in lines if "=" in line]
        return cls(False, {key.strip().lower(): value.strip() for key, value in pairs}, end.end())

    @property
    def spacing(self) -> list[float]:
        """Spacing where the header states it as numbers (NRRD: `spacings`, without the axes that have none)."""
        text = self.fields.get("spacings" if self.nrrd else "elementspacing", "")
        try:
            numbers = [float(word) for word in text.split()]
        except ValueError:
            return [math.nan]
        return [n for n in numbers if not math.isnan(n)] if self.nrrd else numbers

    def check_spacing(self, path: Path) -> None:
        """Raises InputError for a spacing that is zero, negative or not finite."""
        if not all(math.isfinite(s) and s > 0 for s in self.spacing):
            raise bad_spacing(path, self.spacing)
        directions = re.findall(r"\(([^)]*)\)", self.fields.get("space directions", ""))
        try:
            lengths = [math.hypot(*(float(v) for v in vector.split(","))) for vector in directions]
        except ValueError:
            lengths = [math.nan]
        if not all(math.isfinite(s) and s > 0 for s in lengths):
            raise bad_spacing(path, lengths)

    def _data_file(self, path: Path) -> Path:
        name = self.fields.get("elementdatafile", "LOCAL")
        return path if name.upper() == "LOCAL" else path.parent / name

    @property
    def _compressed(self) -> bool:
        return self.fields.get("compresseddata", "").lower() == "true"

    def check_size(self, path: Path) -> None:
        """Raises InputError when a MetaImage file's data are missing or too short (NRRD: teem says so itself)."""
        if self.nrrd or not {"dimsize", "elementtype"} <= self.fields.keys():
            return
        data = self._data_file(path)
        if "%" in data.name or data.name.upper().startswith("LIST"):
            return
        if not data.is_file():
            raise InputError(f"{path}: its data file '{data.name}' is missing; copy it beside the header.")
        kinds = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}
        kind = self.fields["elementtype"].upper().removeprefix("MET_").removesuffix("_ARRAY")
        needed = math.prod(int(n) for n in self.fields["dimsize"].split())
        needed *= kinds.get(kind.replace("UCHAR", "CHAR").replace("USHORT", "SHORT").replace("UINT", "INT"), 1)
        if self._compressed:
            needed = int(self.fields.get("compresseddatasize", 0))
        if data.stat().st_size - (self.length if data == path else 0) < needed:
            raise damaged(data, CUT_OFF)

    def check_voxels(self, path: Path, voxels: np.ndarray) -> None:
        """Compares the voxels of a compressed file with the checksum at the end of its data."""
        if self.nrrd:
            self._check_nrrd_voxels(path, voxels)
            return
        if not self._compressed:
            return
        data = self._data_file(path)
        start = self.length if data == path else 0
        size = int(self.fields.get("compresseddatasize", 0)) or data.stat().st_size - start
        with open(data, "rb") as file:
            file.seek(start + size - 4)
            if struct.unpack(">I", file.read(4))[0] == zlib.adler32(voxels.reshape(-1).view(np.uint8).data):
                return
            file.seek(start)
            try:
                zlib.decompress(file.read(size), wbits=47)
            except zlib.error as error:
                raise damaged(data, DAMAGED) from error

    def _check_nrrd_voxels(self, path: Path, voxels: np.ndarray) -> None:
        attached = not {"data file", "datafile"} & self.fields.keys()
        if not attached or self.fields.get("encoding", "").lower() not in ("gzip", "gz"):
            return
        with open(path, "rb") as file:
            file.seek(-8, 2)
            checksum, _ = struct.unpack("<II", file.read(8))
            if checksum == zlib.crc32(voxels.reshape(-1).view(np.uint8).data):
                return
            file.seek(self.length)
            try:
                zlib.decompress(file.read(), wbits=31)
            except zlib.error as error:
                raise damaged(path, DAMAGED) from error

    def messages(self, path: Path, ijk_to_world: np.ndarray) -> tuple[str, ...]:
        """Says when the file states no spacing and 1 mm was assumed."""
        stated = self.spacing or "(" in self.fields.get("space directions", "") or "elementsize" in self.fields
        return () if stated else (f"{path}: its header gives no voxel spacing, so 1 mm was assumed; check it.",)
