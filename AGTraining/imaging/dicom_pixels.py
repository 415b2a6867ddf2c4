"""Where the frames lie in a DICOM file, and their pixels: one frame at a time."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import SimpleITK as sitk

UNDEFINED = 0xFFFFFFFF
ITEM = 0xFFFEE000
END_OF_IMAGE = b"\xff\xd9"
RLE = "1.2.840.10008.1.2.5"
# What GDCM, the decoder in SimpleITK (and in Slicer), reads. MPEG and high-throughput JPEG 2000 are not among them.
DECODABLE = {
    "1.2.840.10008.1.2.4.50": "JPEG Baseline",
    "1.2.840.10008.1.2.4.51": "JPEG Extended",
    "1.2.840.10008.1.2.4.57": "JPEG Lossless",
    "1.2.840.10008.1.2.4.70": "JPEG Lossless",
    "1.2.840.10008.1.2.4.80": "JPEG-LS",
    "1.2.840.10008.1.2.4.81": "JPEG-LS",
    "1.2.840.10008.1.2.4.90": "JPEG 2000",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    RLE: "RLE",
}


@dataclass(frozen=True)
class PixelFormat:
    """
    How a frame is stored.

    size: rows, columns. allocated, stored, high: bits, and the highest of those in use. photometric: as in the header.
    planar: whether all reds come before all greens. big_endian: byte order. syntax: UID of the transfer syntax, or ""
    where frames are not compressed.
    """

    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    high: int
    signed: bool
    photometric: str
    planar: bool
    big_endian: bool
    syntax: str

    @property
    def subsampled(self) -> bool:
        """Whether two pixels share their colors: Y Y B R."""
        return not self.syntax and self.photometric == "YBR_FULL_422"

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame that is not compressed."""
        samples = 2 if self.subsampled else self.samples
        return self.rows * self.columns * samples * self.allocated // 8

    @property
    def dtype(self) -> np.dtype:
        """The type of a stored value, unsigned: its bits are sorted out later."""
        return np.dtype((">" if self.big_endian else "<") + ("u1" if self.allocated == 8 else "u2"))


Piece = tuple[int, int]
"""Offset and length in bytes."""


def native_pieces(offset: int, length: int, end: int, count: int, frame_bytes: int) -> list[list[Piece]]:
    """Where each frame of uncompressed pixel data lies that is whole in the file; end: the size of the file."""
    last = end if length == UNDEFINED else min(offset + length, end)
    whole = min(count, max(last - offset, 0) // frame_bytes)
    return [[(offset + n * frame_bytes, frame_bytes)] for n in range(whole)]


def fragments(file: BinaryIO, offset: int, end: int) -> tuple[list[int], list[Piece]]:
    """The offset table and the fragments of compressed pixel data that are whole in the file (PS3.5 A.4)."""
    found: list[Piece] = []
    table: list[int] | None = None
    position = offset
    while position + 8 <= end:
        file.seek(position)
        group, element, length = struct.unpack("<HHL", file.read(8))
        if group << 16 | element != ITEM or position + 8 + length > end:
            break
        if table is None:
            table = list(struct.unpack(f"<{length // 4}L", file.read(length // 4 * 4)))
        else:
            found.append((position + 8, length))
        position += 8 + length
    return table or [], found


def frames_of(file: BinaryIO, table: Sequence[int], pieces: Sequence[Piece], count: int) -> list[list[Piece]]:
    """Which fragments make which frame; fewer than `count` frames where the data end early."""
    if not pieces:
        return []
    if len(table) == count > 1:
        # Offsets count from the first fragment's item, whose header has 8 bytes.
        starts = [pieces[0][0] + start for start in table]
        numbers = np.searchsorted(starts, [piece[0] for piece in pieces], side="right") - 1
        frames: list[list[Piece]] = [[] for _ in range(max(int(numbers[-1]) + 1, 0))]
        for number, piece in zip(numbers, pieces, strict=True):
            frames[max(int(number), 0)].append(piece)
        return frames
    if count == 1:
        return [list(pieces)]
    if len(pieces) <= count:
        return [[piece] for piece in pieces]
    frames, current = [], []
    for start, length in pieces:
        current.append((start, length))
        file.seek(start + max(length - 10, 0))
        if END_OF_IMAGE in file.read(min(length, 10)):
            frames.append(current)
            current = []
    return frames[:count]


def native_pixels(data: bytes, form: PixelFormat) -> np.ndarray:
    """The stored values of an uncompressed frame: (rows, columns) or (rows, columns, 3)."""
    values = np.frombuffer(data, form.dtype)
    if form.subsampled:
        # Cb and Cr of two neighbors follow on their two Y.
        quads = values.reshape(form.rows, form.columns // 2, 4)
        pairs = np.stack([quads[..., :2], *(np.repeat(quads[..., n : n + 1], 2, 2) for n in (2, 3))], axis=-1)
        return pairs.reshape(form.rows, form.columns, 3)
    if form.samples == 1:
        return values.reshape(form.rows, form.columns)
    if form.planar:
        return values.reshape(form.samples, form.rows, form.columns).transpose(1, 2, 0)
    return values.reshape(form.rows, form.columns, form.samples)


def rgb_of_ybr(ybr: np.ndarray) -> np.ndarray:
    """RGB from YCbCr of the full range (PS3.3 C.7.6.3.1.2), uint8, (rows, columns, 3)."""
    y, b, r = (ybr[..., n].astype(np.float32) for n in range(3))
    b, r = b - 128, r - 128
    rgb = np.stack([y + 1.402 * r, y - 0.344136 * b - 0.714136 * r, y + 1.772 * b], axis=-1)
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


class Decoder:
    """
    Decodes compressed frames with GDCM, which reads files only: each frame goes into a DICOM file of one frame.

    Colors come as RGB (RLE: as they are stored), gray and palette values as they are stored.
    """

    def __init__(self, form: PixelFormat) -> None:
        self._form = form
        self._folder = tempfile.TemporaryDirectory(prefix="frames-")
        self._head = _single_frame_header(form)
        self._reader = sitk.ImageFileReader()
        self._reader.SetImageIO("GDCMImageIO")

    def close(self) -> None:
        """Removes the temporary file."""
        self._folder.cleanup()

    def decode(self, data: bytes) -> np.ndarray:
        """The pixels of a frame; data: its fragments, joined. Raises ValueError for data that cannot be decoded."""
        path = Path(self._folder.name, "frame.dcm")
        data += b"\0" * (len(data) % 2)
        empty_table, end = struct.pack("<HHL", 0xFFFE, 0xE000, 0), struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
        item = struct.pack("<HHL", 0xFFFE, 0xE000, len(data))
        path.write_bytes(self._head + empty_table + item + data + end)
        self._reader.SetFileName(str(path))
        before = sitk.ProcessObject.GetGlobalWarningDisplay()
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        try:
            pixels = sitk.GetArrayFromImage(self._reader.Execute())
        except RuntimeError as error:
            raise ValueError("its compressed data are damaged") from error
        finally:
            sitk.ProcessObject.SetGlobalWarningDisplay(before)
        form = self._form
        shape = (form.rows, form.columns) if form.samples == 1 else (form.rows, form.columns, form.samples)
        if pixels.size != np.prod(shape):
            raise ValueError("its picture has another size than the header says")
        return pixels.reshape(shape)


def _single_frame_header(form: PixelFormat) -> bytes:
    """A DICOM file up to its compressed pixel data, with only what a decoder needs."""

    def element(group: int, number: int, kind: bytes, value: bytes) -> bytes:
        value += (b"\0" if kind == b"UI" else b" ") * (len(value) % 2)
        return struct.pack("<HH2sH", group, number, kind, len(value)) + value

    def short(group: int, number: int, value: int) -> bytes:
        return element(group, number, b"US", struct.pack("<H", value))

    # Stored values are wanted, so that palettes and inverted grays are turned in one place, by this program.
    photometric = "MONOCHROME2" if form.samples == 1 else "RGB" if form.syntax == RLE else form.photometric
    secondary_capture, instance = b"1.2.840.10008.5.1.4.1.1.7", b"2.25.1"
    meta = (
        struct.pack("<HH2sHL", 2, 1, b"OB", 0, 2) + b"\0\1"
        + element(2, 2, b"UI", secondary_capture)
        + element(2, 3, b"UI", instance)
        + element(2, 0x10, b"UI", form.syntax.encode())
        + element(2, 0x12, b"UI", b"2.25.2")
    )  # fmt: skip
    body = element(8, 0x16, b"UI", secondary_capture) + element(8, 0x18, b"UI", instance)
    body += element(8, 0x60, b"CS", b"US") + short(0x28, 2, form.samples)
    body += element(0x28, 4, b"CS", photometric.encode())
    if form.samples > 1:
        body += short(0x28, 6, int(form.planar))
    values = (form.rows, form.columns, form.allocated, form.stored, form.high, int(form.signed))
    for number, value in zip((0x10, 0x11, 0x100, 0x101, 0x102, 0x103), values, strict=True):
        body += short(0x28, number, value)
    pixel_data = struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OB", 0, UNDEFINED)
    length = struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(meta))
    return b"\0" * 128 + b"DICM" + length + meta + body + pixel_data
