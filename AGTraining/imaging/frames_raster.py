"""Clips whose pixels lie in one file as plain numbers (MetaImage, NRRD), compressed or not."""

from __future__ import annotations

import bz2
import math
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

import numpy as np

from AGTraining.errors import InputError
from AGTraining.imaging.frame_sequence import Frame, FrameSequence, Missing, gray, known_spacing, times_of

CHUNK = 1 << 16
# No probe and no screen has more; a size beyond it comes from a damaged header.
MOST_PIXELS = 1 << 28
Encoding = Literal["raw", "zlib", "bzip2"]


@dataclass(frozen=True)
class Raster:
    """
    Where and how the pixels of a clip lie.

    data, offset: the file and the byte at which they begin. encoding: zlib stands for gzip too. dtype: with its byte
    order. sizes: of all axes, the fastest first. x, y, frame, channel: which axes these are (None: there is none); all
    others have the size 1. spacing: of the axes x and y in mm. orientation: "UltrasoundImageOrientation" of the Plus
    toolkit. seconds: a time for each frame. invalid: frames that the header calls so. messages: on the header.
    """

    data: Path
    offset: int
    encoding: Encoding
    dtype: np.dtype
    sizes: tuple[int, ...]
    x: int
    y: int
    frame: int | None
    channel: int | None
    spacing: tuple[float, float] = (1.0, 1.0)
    orientation: str = ""
    seconds: Sequence[float] | None = None
    invalid: frozenset[int] = frozenset()
    messages: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Number of frames."""
        return 1 if self.frame is None else self.sizes[self.frame]

    @property
    def frame_last(self) -> bool:
        """Whether frames lie one after the other, rather than pixel by pixel through each other."""
        return self.frame is None or all(n == 1 for n in self.sizes[self.frame + 1 :])

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame that is not compressed."""
        return self.frame_pixels * self.dtype.itemsize

    @property
    def frame_pixels(self) -> int:
        """Numbers in a frame; of any size, as damaged headers have them."""
        return math.prod(self.sizes) // max(self.count, 1)


@dataclass(frozen=True)
class Turn:
    """How a picture is turned upright: transposed first, then its columns or rows in reverse."""

    transpose: bool = False
    columns: bool = False
    rows: bool = False

    @classmethod
    def of(cls, orientation: str) -> Turn | None:
        """
        To Plus' "MF" (columns to the marked side of the probe, rows far from it: the probe on top).

        The first letter is the direction of a row's pixels, the second that of the rows: Marked or Unmarked side, Far
        or Near; a third (Ascending, Descending) is about volumes. None for what Plus does not define.
        """
        letters = orientation.upper()
        if letters == "":
            return cls()
        lateral = {"M": False, "U": True}
        depth = {"F": False, "N": True}
        if len(letters) > 3 or (len(letters) == 3 and letters[2] not in "AD") or len(letters) < 2:
            return None
        if letters[0] in lateral and letters[1] in depth:
            return cls(False, lateral[letters[0]], depth[letters[1]])
        if letters[0] in depth and letters[1] in lateral:
            return cls(True, lateral[letters[1]], depth[letters[0]])
        return None

    def __bool__(self) -> bool:
        return self.transpose or self.columns or self.rows

    def apply(self, image: np.ndarray) -> np.ndarray:
        """The turned picture, as an array of its own."""
        image = image.T if self.transpose else image
        return np.ascontiguousarray(image[:: -1 if self.rows else 1, :: -1 if self.columns else 1])


class RasterSequence(FrameSequence):
    """
    A clip in a MetaImage or NRRD file.

    Compressed data are read as a stream, so that one frame is in memory. Pixels are as they lie in the file, the first
    row on top, except that what Plus marks with another orientation is turned as Plus does (see `Turn`).
    """

    def __init__(self, path: Path, raster: Raster) -> None:
        text = " × ".join(str(n) for n in raster.sizes)
        if min(raster.sizes) < 1:
            raise InputError(f"{path}: it holds no frame (its size is {text}); export the clip again.")
        if raster.offset < 0 or raster.frame_pixels > MOST_PIXELS:
            raise InputError(
                f"{path}: its header does not fit its data (its size is {text}); copy or export the clip again."
            )
        turn = Turn.of(raster.orientation)
        x, y = raster.spacing[::-1] if turn and turn.transpose else raster.spacing
        super().__init__(path, raster.count, known_spacing(x, y))
        self._notes.extend(raster.messages)
        if turn is None:
            self._notes.append(
                f"{path}: its UltrasoundImageOrientation '{raster.orientation}' is not known; its frames are shown as "
                "they lie in the file."
            )
        elif turn:
            self._notes.append(
                f"{path}: its frames were turned from {raster.orientation} to MF, as the Plus toolkit does."
            )
        self.raster = raster
        self._turn = turn or Turn()
        self.seekable = raster.encoding == "raw" or not raster.frame_last
        self._unpacked: BinaryIO | None = None

    def close(self) -> None:
        """Removes the temporary file of what had to be unpacked."""
        super().close()
        if self._unpacked is not None:
            self._unpacked.close()
            self._unpacked = None

    def _read_from(self, start: int) -> Iterator[Frame | Missing]:
        raster = self.raster
        for index, flat in self._flat_frames(start):
            if index in raster.invalid:
                yield Missing(index, "its header calls the image invalid")
                continue
            # In memory the slowest axis comes first; the frame's own axis is gone.
            order = [n for n in reversed(range(len(raster.sizes))) if n != raster.frame]
            array = flat.reshape([raster.sizes[n] for n in order])
            wanted = [raster.y, raster.x] + ([raster.channel] if raster.channel is not None else [])
            others = [n for n in order if n not in wanted]
            array = array.transpose([order.index(n) for n in (*others, *wanted)])
            image = gray(array.reshape(array.shape[len(others) :]))
            yield Frame(index, self._turn.apply(image), times_of(raster.seconds, index))

    def _flat_frames(self, start: int) -> Iterator[tuple[int, np.ndarray]]:
        """The numbers of each frame in the order of the file."""
        raster = self.raster
        if not raster.frame_last:
            yield from self._interleaved(start)
            return
        with open(raster.data, "rb") as file:
            file.seek(raster.offset + (start * raster.frame_bytes if raster.encoding == "raw" else 0))
            source: _Source = file if raster.encoding == "raw" else Inflater(file, raster.encoding)
            for index in range(0 if raster.encoding != "raw" else start, raster.count):
                try:
                    data = source.read(raster.frame_bytes)
                except (zlib.error, OSError, EOFError) as error:
                    raise self._broken(index, "damaged") from error
                if len(data) < raster.frame_bytes:
                    raise self._broken(index, "cut off")
                if index >= start:
                    yield index, np.frombuffer(data, raster.dtype)
            self._check_end(source)

    def _check_end(self, source: _Source) -> None:
        """Garbage can be unpacked as well: the data must end after the last frame, and with their checksum."""
        if not isinstance(source, Inflater):
            return
        try:
            whole = not source.read(1) and source.ended
        except (zlib.error, OSError, EOFError):
            whole = False
        note = f"{self.path}: its compressed data do not match their checksum, so that some frames may be damaged."
        if not whole and note not in self._notes:
            self._notes.append(note)

    def _interleaved(self, start: int) -> Iterator[tuple[int, np.ndarray]]:
        """Frames whose pixels lie through each other: from the disk, unpacked there if need be."""
        raster = self.raster
        assert raster.frame is not None
        if raster.encoding == "raw":
            with open(raster.data, "rb") as file:
                pixels = self._mapped(file, raster.offset)
        else:
            pixels = self._mapped(self._unpack(), 0)
        axis = len(raster.sizes) - 1 - raster.frame
        for index in range(start, raster.count):
            yield index, np.array(pixels.take(index, axis)).reshape(-1)

    def _mapped(self, file: BinaryIO, offset: int) -> np.ndarray:
        if file.seek(0, 2) - offset < self.raster.frame_bytes * self.raster.count:
            raise self._broken(0, "cut off")
        return np.memmap(file, self.raster.dtype, "r", offset, tuple(reversed(self.raster.sizes)))

    def _unpack(self) -> BinaryIO:
        if self._unpacked is None:
            self._unpacked = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
            with open(self.raster.data, "rb") as file:
                file.seek(self.raster.offset)
                source = Inflater(file, self.raster.encoding)
                try:
                    while data := source.read(CHUNK):
                        self._unpacked.write(data)
                except (zlib.error, OSError, EOFError) as error:
                    raise self._broken(0, "damaged") from error
            self._unpacked.flush()
        return self._unpacked


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Inflater:
    """Reads compressed data (zlib, gzip or bzip2) a piece at a time; where they are damaged, up to the damage."""

    def __init__(self, file: BinaryIO, encoding: Encoding) -> None:
        self._file = file
        self._bzip2 = bz2.BZ2Decompressor() if encoding == "bzip2" else None
        # 47: zlib or gzip, whichever it is.
        self._zlib = zlib.decompressobj(wbits=47)
        self._saved = b""
        self._failure: zlib.error | None = None

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; fewer where the data end. Raises zlib.error or OSError where they are damaged."""
        parts = []
        while size > 0:
            part = self._some(size) if self._bzip2 is None else self._some_bzip2(self._bzip2, size)
            if part is None:
                break
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    @property
    def ended(self) -> bool:
        """Whether the end was reached that the data themselves mark."""
        return self._zlib.eof if self._bzip2 is None else self._bzip2.eof

    def _some(self, size: int) -> bytes | None:
        """The next bytes, which may be none yet; None at the end."""
        if self._failure is not None:
            if not self._saved:
                raise self._failure
            part, self._saved = self._saved[:size], self._saved[size:]
            return part
        if self._zlib.eof:
            return None
        data = self._zlib.unconsumed_tail or self._file.read(CHUNK)
        before = self._zlib.copy()
        try:
            part = self._zlib.decompress(data, size)
        except zlib.error as error:
            # zlib throws away what it had unpacked of this piece, whole frames perhaps.
            self._failure, self._saved = error, _until_damage(before, data)
            return b""
        return None if not data and not part else part

    def _some_bzip2(self, source: bz2.BZ2Decompressor, size: int) -> bytes | None:
        if source.eof:
            return None
        data = self._file.read(CHUNK) if source.needs_input else b""
        if source.needs_input and not data:
            return None
        return source.decompress(data, size)


def _until_damage(source: zlib._Decompress, data: bytes) -> bytes:
    """What can be unpacked of a damaged piece, byte by byte."""
    parts = []
    try:
        for n in range(len(data)):
            parts.append(source.decompress(data[n : n + 1]))
    except zlib.error:
        pass
    return b"".join(parts)
