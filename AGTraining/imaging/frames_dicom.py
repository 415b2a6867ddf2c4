"""DICOM clips: ultrasound with one or many frames in a file."""

from __future__ import annotations

import io
import math
import re
import struct
import tempfile
import warnings
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.uid import UID

from AGTraining.errors import AGTrainingError, InputError
from AGTraining.imaging import dicom_pixels
from AGTraining.imaging.dicom_gray import gray_table
from AGTraining.imaging.dicom_pixels import DECODABLE, RLE, Decoder, Piece, PixelFormat
from AGTraining.imaging.frame_sequence import Frame, FrameSequence, Missing, gray, known_spacing, times_of
from AGTraining.imaging.frames_video import VideoSequence

NATIVE = {"", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"}
DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
VIDEO_SYNTAX = r"1\.2\.840\.10008\.1\.2\.4\.10\d(\.1)?"
CHUNK = 1 << 20
ENHANCED_VOLUME = "1.2.840.10008.5.1.4.1.1.6.2"
CENTIMETER, TISSUE_2D = 3, 1
# Screenshots and secondary captures of ultrasound come as OT, SC and others.
OTHER_MODALITIES = {"CT", "MR", "PT", "NM", "CR", "DX", "MG", "XA", "RF", "PX"}
GRAYS = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
COLORS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
UNCOMPRESSED = "export it uncompressed (Explicit VR Little Endian), or convert it with 'gdcmconv --raw' or 'dcmdjpeg'"


def open_dicom(path: Path) -> FrameSequence:
    """The clip in a DICOM file. Raises InputError as `open_frames` does, PackageError for video without PyAV."""
    # pydicom warns of character sets and the like, which nobody needs to know for pictures.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            header, offset, source = _read_header(path)
            if re.fullmatch(VIDEO_SYNTAX, transfer_syntax(header)):
                return DicomVideo(path, offset)
            return DicomSequence(path, header, offset, source)
        except (AGTrainingError, OSError):
            raise
        except Exception as error:
            # Damaged headers end in errors of any kind within pydicom, many only when a value is asked for.
            raise InputError(f"{path}: its DICOM header cannot be understood; copy or export it again.") from error


class DicomSequence(FrameSequence):
    """
    A DICOM file as a clip: gray, RGB, YBR and palette pictures, 8 or 16 bits, plain or compressed.

    Grays are as a viewer shows them, see `AGTraining.imaging.dicom_gray`. Times count from the first frame: Frame Time
    Vector, Frame Time, Cine Rate or Recommended Display Frame Rate. Spacing: the largest 2-D region that is calibrated
    in cm, or Pixel Spacing.
    """

    def __init__(self, path: Path, header: Dataset, offset: int, source: bytes | None) -> None:
        count = 1 if header.get("NumberOfFrames") in (None, "") else int(header.NumberOfFrames)
        super().__init__(path, count)
        self._form = _pixel_format(path, header)
        self._seconds = _times(header, count)
        self.spacing_mm = self._spacing(header)
        self._table = gray_table(str(path), header, self._form) if self._form.samples == 1 else None
        if header.get("Modality") in OTHER_MODALITIES:
            self._notes.append(f"{path}: its modality is {header.Modality}, not ultrasound; results mean nothing.")
        # Pixels that pydicom had to unpack itself; all others stay on the disk.
        self._source = source
        self._pieces = self._find_frames(offset, count)

    def _open(self) -> BinaryIO:
        return open(self.path, "rb") if self._source is None else io.BytesIO(self._source)

    def _find_frames(self, offset: int, count: int) -> list[list[Piece]]:
        form = self._form
        with self._open() as file:
            end = file.seek(0, 2)
            start, length = (0, end) if self._source is not None else _pixel_data(file, offset)
            if start == 0 and self._source is None:
                raise InputError(f"{self.path}: the file is cut off before its pictures; copy or export it again.")
            if not form.syntax:
                return dicom_pixels.native_pieces(start, length, end, count, form.frame_bytes)
            table, pieces = dicom_pixels.fragments(file, start, end)
            return dicom_pixels.frames_of(file, table, pieces, count)

    def _read_from(self, start: int) -> Iterator[Frame | Missing]:
        assert self.count is not None
        decoder = Decoder(self._form) if self._form.syntax else None
        try:
            with self._open() as file:
                for index in range(start, self.count):
                    if index >= len(self._pieces):
                        raise self._broken(index, "cut off")
                    data = b"".join(_read_piece(file, piece) for piece in self._pieces[index])
                    try:
                        image = self._image(data, decoder)
                    except ValueError as error:
                        yield Missing(index, str(error))
                    else:
                        yield Frame(index, image, times_of(self._seconds, index))
        finally:
            if decoder is not None:
                decoder.close()

    def _image(self, data: bytes, decoder: Decoder | None) -> np.ndarray:
        form = self._form
        pixels = decoder.decode(data) if decoder is not None else dicom_pixels.native_pixels(data, form)
        if form.samples > 1:
            ybr = form.photometric.startswith("YBR_FULL") and form.syntax in ("", RLE)
            return gray(dicom_pixels.rgb_of_ybr(pixels) if ybr else pixels)
        if self._table is None:
            return gray(pixels)
        return np.asarray(self._table[pixels.astype(pixels.dtype.newbyteorder("=")).view(f"u{pixels.itemsize}")])

    def _spacing(self, header: Dataset) -> tuple[float, float] | None:
        """The size of a pixel in mm: of the largest 2-D region in cm, or Pixel Spacing (rows first)."""
        regions = [
            region
            for region in header.get("SequenceOfUltrasoundRegions") or []
            if region.get("RegionSpatialFormat") == TISSUE_2D
            and region.get("PhysicalUnitsXDirection") == region.get("PhysicalUnitsYDirection") == CENTIMETER
            and region.get("PhysicalDeltaX") and region.get("PhysicalDeltaY")
        ]  # fmt: skip
        if regions:
            x0, y0, x1, y1 = (
                "RegionLocationMinX0",
                "RegionLocationMinY0",
                "RegionLocationMaxX1",
                "RegionLocationMaxY1",
            )
            region = max(regions, key=lambda r: (r.get(x1, 0) - r.get(x0, 0)) * (r.get(y1, 0) - r.get(y0, 0)))
            if region.get(x1, 0) > self._form.columns or region.get(y1, 0) > self._form.rows:
                self._notes.append(
                    f"{self.path}: its calibrated region is larger than its frames, which were made smaller after the "
                    "calibration; sizes in mm are not known."
                )
                return None
            return known_spacing(10 * abs(region.PhysicalDeltaX), 10 * abs(region.PhysicalDeltaY))
        spacing = header.get("PixelSpacing")
        return known_spacing(float(spacing[1]), float(spacing[0])) if spacing and len(spacing) == 2 else None


class DicomVideo(VideoSequence):
    """A DICOM file whose frames are an MPEG or HEVC video, which is copied into a temporary file to be read."""

    def __init__(self, path: Path, offset: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="video-")
        stream = Path(self._folder.name, "stream")
        with open(path, "rb") as file, open(stream, "wb") as copy:
            end = file.seek(0, 2)
            start, _ = _pixel_data(file, offset)
            for piece in dicom_pixels.fragments(file, start, end)[1]:
                file.seek(piece[0])
                for size in range(piece[1], 0, -CHUNK):
                    copy.write(file.read(min(size, CHUNK)))
        try:
            super().__init__(path, stream)
        except Exception:
            self._folder.cleanup()
            raise

    def close(self) -> None:
        """Removes the temporary file."""
        super().close()
        self._folder.cleanup()


def _read_piece(file: BinaryIO, piece: Piece) -> bytes:
    file.seek(piece[0])
    return file.read(piece[1])


def _read_header(path: Path) -> tuple[Dataset, int, bytes | None]:
    """The header, where the element with the pixels begins, and the pixels of a file that is deflated as a whole."""
    with open(path, "rb") as file:
        header = dcmread(file, stop_before_pixels=True, force=True)
        if transfer_syntax(header) == DEFLATED:
            header = dcmread(path)
            return header, 0, bytes(header.get("PixelData") or b"")
        return header, file.tell(), None


def transfer_syntax(header: Dataset) -> str:
    """The UID of the header's transfer syntax, "" if it has none."""
    meta = getattr(header, "file_meta", None)
    return str(meta.get("TransferSyntaxUID", "")) if meta is not None else ""


def _pixel_data(file: BinaryIO, offset: int) -> tuple[int, int]:
    """Where the value of the pixel data element begins and its length; (0, 0) if there is none."""
    file.seek(offset)
    head = file.read(12)
    if len(head) < 8 or head[:4] not in (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10"):
        return 0, 0
    order = "<" if head[:1] == b"\xe0" else ">"
    if head[4:6] in (b"OB", b"OW", b"UN") and len(head) == 12:
        return offset + 12, struct.unpack(f"{order}L", head[8:12])[0]
    return offset + 8, struct.unpack(f"{order}L", head[4:8])[0]


def _pixel_format(path: Path, header: Dataset) -> PixelFormat:
    if not header.get("Rows") or not header.get("Columns"):
        raise InputError(f"{path}: a DICOM file without pictures; name an ultrasound image or clip.")
    if header.get("SOPClassUID") == ENHANCED_VOLUME:
        raise InputError(f"{path}: a 3-D ultrasound volume, not a clip of 2-D frames; export a 2-D clip.")
    syntax = transfer_syntax(header)
    if syntax not in NATIVE and syntax not in DECODABLE:
        name = UID(syntax).name
        raise InputError(
            f"{path}: its frames are compressed as '{name}', which cannot be decoded here; {UNCOMPRESSED}."
        )
    samples, allocated = int(header.get("SamplesPerPixel") or 1), int(header.BitsAllocated)
    photometric = str(header.get("PhotometricInterpretation") or ("RGB" if samples == 3 else "MONOCHROME2")).strip()
    if allocated not in (8, 16) or photometric not in (GRAYS if samples == 1 else COLORS) or samples not in (1, 3):
        raise InputError(
            f"{path}: its pixels ({photometric}, {samples} × {allocated} bits) are of a kind that is not read here; "
            "export it as 8- or 16-bit gray or RGB."
        )
    stored = int(header.get("BitsStored") or allocated)
    return PixelFormat(
        rows=int(header.Rows),
        columns=int(header.Columns),
        samples=samples,
        allocated=allocated,
        stored=min(stored, allocated),
        high=int(header.get("HighBit") or stored - 1),
        signed=bool(header.get("PixelRepresentation")),
        photometric=photometric,
        planar=bool(header.get("PlanarConfiguration")),
        big_endian=syntax == BIG_ENDIAN,
        syntax="" if syntax in NATIVE else syntax,
    )


def _times(header: Dataset, count: int) -> list[float] | None:
    """Seconds of each frame from the first; None for a single frame, or where the header does not tell."""
    if count < 2:
        return None
    vector = header.get("FrameTimeVector")
    if vector is not None and not isinstance(vector, str) and len(vector) >= count:
        # Increments from the frame before; that of the first frame means nothing.
        return [ms / 1000 for ms in accumulate([0.0, *(float(v) for v in vector[1:count])])]
    frame_time = float(header.get("FrameTime") or math.nan) / 1000
    for rate in ("CineRate", "RecommendedDisplayFrameRate"):
        if not frame_time > 0 and header.get(rate):
            frame_time = 1 / float(header.get(rate)) if float(header.get(rate)) > 0 else math.nan
    return [n * frame_time for n in range(count)] if frame_time > 0 else None
