"""The header of a NIfTI file: how long the file must be, and where its voxels lie."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from AGTraining.imaging.integrity import CUT_OFF, bad_spacing, damaged, is_gzip, uncompressed_size

HEADER_BYTES = 348
FORM_CODES = 252
UNITS = 123
MILLIMETERS_IN = {1: 1000.0, 3: 0.001}  # NIfTI codes of meter and micron; 2 is mm, 0 unknown


@dataclass(frozen=True)
class NiftiHeader:
    """The fields of a NIfTI-1 header that decide on size and place.

    sform_lps, qform_lps: (4, 4) to LPS mm, or None where their code is 0.
    single_file: header and voxels are in one file.
    """

    dimensions: tuple[int, ...]
    bits: int
    pixdim: tuple[float, ...]
    voxel_offset: int
    sform_lps: np.ndarray | None
    qform_lps: np.ndarray | None
    single_file: bool

    @classmethod
    def parse(cls, start: bytes) -> NiftiHeader | None:
        """The header in a file's first bytes, or None where it is no NIfTI-1."""
        if len(start) < HEADER_BYTES or start[344:348] not in (b"n+1\0", b"ni1\0"):
            return None
        order = "<" if struct.unpack_from("<i", start)[0] == HEADER_BYTES else ">"
        dim = struct.unpack_from(order + "8h", start, 40)
        pixdim = struct.unpack_from(order + "8f", start, 76)
        (offset,) = struct.unpack_from(order + "f", start, 108)
        qform_code, sform_code = struct.unpack_from(order + "2h", start, FORM_CODES)
        quaternion = struct.unpack_from(order + "6f", start, 256)
        sform = np.array([*struct.unpack_from(order + "12f", start, 280), 0, 0, 0, 1], dtype=np.float64).reshape(4, 4)
        sform[:2] *= -1.0
        scale = MILLIMETERS_IN.get(start[UNITS] & 7, 1.0)
        sform[:3] *= scale
        qform = _qform_lps(quaternion, pixdim)
        qform[:3] *= scale
        count = dim[0] if 1 <= dim[0] <= 7 else 7
        return cls(
            dimensions=tuple(dim[1 : count + 1]),
            bits=struct.unpack_from(order + "h", start, 72)[0],
            pixdim=tuple(pixdim[1 : count + 1]),
            voxel_offset=int(offset) if math.isfinite(offset) else 0,
            sform_lps=sform if sform_code > 0 else None,
            qform_lps=qform if qform_code > 0 else None,
            single_file=start[345] == ord("+"),
        )

    @property
    def sheared(self) -> bool:
        """Whether the sform alone gives the geometry, and its axes are not perpendicular."""
        if self.sform_lps is None or self.qform_lps is not None:
            return False
        edges = self.sform_lps[:3, :3]
        lengths = np.linalg.norm(edges, axis=0)
        if not np.all(np.isfinite(edges)) or np.any(lengths == 0) or abs(np.linalg.det(edges / lengths)) < 1e-3:
            return False
        cosines = edges.T @ edges / np.outer(lengths, lengths)
        return bool(np.abs(cosines - np.eye(3)).max() > 1e-3)

    def check_spacing(self, path: Path) -> None:
        """Raises InputError for a spacing that is zero, negative or not finite."""
        spacing = list(self.pixdim[:3])
        if not all(math.isfinite(s) and s > 0 for s in spacing):
            raise bad_spacing(path, spacing)
        if self.sform_lps is not None and self.qform_lps is None:
            lengths = np.linalg.norm(self.sform_lps[:3, :3], axis=0)[: len(spacing)]
            if not np.all(np.isfinite(lengths)) or np.any(lengths < 1e-6):
                raise bad_spacing(path, [float(s) for s in lengths])

    def check_size(self, path: Path) -> None:
        """Raises InputError when an uncompressed file is too short."""
        if is_gzip(path) or not self.single_file:
            return
        if path.stat().st_size < self.expected_bytes:
            raise damaged(path, CUT_OFF)

    def is_whole(self, path: Path) -> bool:
        """Whether a file that was just written is as long as it must be; of a compressed one, what it says at its end.

        ITK says nothing when the disk is full.
        """
        if not is_gzip(path):
            return path.stat().st_size >= self.expected_bytes
        with open(path, "rb") as file:
            file.seek(-4, 2)
            return bool(struct.unpack("<I", file.read(4))[0] == self.expected_bytes % 2**32)

    @property
    def expected_bytes(self) -> int:
        """Size of the uncompressed file up to its last voxel."""
        return self.voxel_offset + math.prod(max(1, n) for n in self.dimensions) * self.bits // 8

    def check_voxels(self, path: Path, voxels: np.ndarray) -> None:
        """Compares the voxels with the checksum at the file's end; decompresses it once more only where that fails.

        The second way is for files whose voxels ITK scaled or swapped, and for gzip files of several members.
        """
        if not self.single_file or not is_gzip(path):
            return
        with open(path, "rb") as file:
            file.seek(-8, 2)
            checksum, length = struct.unpack("<II", file.read(8))
        if length == self.expected_bytes % 2**32:
            with gzip.open(path) as file:
                head = file.read(self.voxel_offset)
            if zlib.crc32(voxels.reshape(-1).view(np.uint8).data, zlib.crc32(head)) == checksum:
                return
        if uncompressed_size(path) < self.expected_bytes:
            raise damaged(path, CUT_OFF)

    def messages(self, path: Path, ijk_to_world: np.ndarray) -> tuple[str, ...]:
        """Says when the file leaves its orientation open, or gives two that differ."""
        sform, qform = self.sform_lps, self.qform_lps
        if sform is None and qform is None:
            return (f"{path}: its header gives no orientation, so left and right may be swapped; check them.",)
        extent = np.array([*self.dimensions[:3], 1.0])
        used = ijk_to_world @ extent
        others = {"sform": sform, "qform": qform}
        distances = {name: float(np.abs((m @ extent - used)[:3]).max()) for name, m in others.items() if m is not None}
        worst = max(distances, key=lambda name: distances[name])
        if distances[worst] <= 1.0:
            return ()
        taken = [name for name, distance in distances.items() if distance <= 1.0]
        source = f"the {taken[0]}" if taken else "its spacing and direction"
        return (
            f"{path}: its {worst} and {source} place the voxels up to {distances[worst]:.0f} mm apart; "
            f"{source} was used, as Slicer does.",
        )

    def without_orientation(self, path: Path) -> bytes:
        """The uncompressed file with both form codes set to 0. Raises InputError when it is cut off or damaged."""
        compressed = is_gzip(path)
        if compressed:
            uncompressed_size(path)
        content = bytearray(gzip.decompress(path.read_bytes()) if compressed else path.read_bytes())
        if len(content) < self.expected_bytes:
            raise damaged(path, CUT_OFF)
        content[FORM_CODES : FORM_CODES + 4] = bytes(4)
        return bytes(content)


def _qform_lps(quaternion: tuple[float, ...], pixdim: tuple[float, ...]) -> np.ndarray:
    """The qform (4, 4) to LPS mm, as the NIfTI standard writes it."""
    b, c, d, *offset = quaternion
    a = math.sqrt(max(0.0, 1.0 - (b * b + c * c + d * d)))
    rotation = np.array([
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ])  # fmt: skip
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * (pixdim[1], pixdim[2], pixdim[3] * (-1.0 if pixdim[0] < 0 else 1.0))
    matrix[:3, 3] = offset
    matrix[:2] *= -1.0
    return matrix
