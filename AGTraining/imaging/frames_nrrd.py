"""NRRD clips (.nrrd, .nhdr): plain, as Slicer saves sequences (.seq.nrrd) and as the Plus toolkit does (.igs.nrrd)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from AGTraining.errors import InputError
from AGTraining.imaging.frames_metaimage import (
    LONGEST_LINE,
    FrameFields,
    clip_axes,
    refuse_channels,
    refuse_raw_signals,
    taken_as_frames,
)
from AGTraining.imaging.frames_raster import Encoding, Raster
from AGTraining.imaging.integrity import CUT_OFF, damaged

ENCODINGS: dict[str, Encoding] = {"raw": "raw", "gzip": "zlib", "gz": "zlib", "bzip2": "bzip2", "bz2": "bzip2"}
TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
FRAME_KINDS = ("list", "time")
COLOR_KINDS = ("vector", "rgb-color", "rgba-color", "3-color", "4-color", "3-vector", "4-vector", "scalar", "stub")
UNITS_IN_SECONDS = {"s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6}


@dataclass
class NrrdHeader:
    """fields: `key: value`, keys in lower case. values: `key:=value`. length: bytes of the header."""

    fields: dict[str, str]
    values: dict[str, str]
    frames: FrameFields
    length: int

    def axes(self, key: str, count: int) -> list[str] | None:
        """One word for each axis (quoted words may have blanks, vectors too), None if the header does not have them."""
        words = re.findall(r'"[^"]*"|\([^)]*\)|\S+', self.fields.get(key, ""))
        return [word.strip('"') for word in words] if len(words) == count else None


def read_nrrd(path: Path) -> Raster:
    """
    The header of an NRRD clip.

    "kinds" tells which axis is that of the frames (list, time) and of the colors; without them the last of three axes
    is that of the frames, and a first axis of 3 or 4 that of the colors. Raises InputError for what is no clip of 2-D
    pictures, and for a header that is cut off or contradicts itself.
    """
    header = _read_header(path)
    try:
        return _raster(path, header)
    except InputError:
        raise
    except (KeyError, ValueError) as error:
        what = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path}: its header cannot be understood ({what}); export the clip again.") from error


def _read_header(path: Path) -> NrrdHeader:
    header = NrrdHeader({}, {}, FrameFields(), 0)
    with open(path, "rb") as file:
        if not file.readline(LONGEST_LINE).startswith(b"NRRD000"):
            raise InputError(f"{path}: the file is no NRRD file, or damaged; export the clip again.")
        while raw := file.readline(LONGEST_LINE):
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            if not line:
                break
            if line.startswith("#"):
                continue
            key, separator, value = line.partition(":=")
            if separator and ": " not in key:
                if not header.frames.take(key.strip(), value.strip()):
                    header.values[key.strip().lower()] = value.strip()
                continue
            key, _, value = line.partition(":")
            header.fields[key.strip().lower()] = value.strip()
        header.length = file.tell()
    return header


def _raster(path: Path, header: NrrdHeader) -> Raster:
    fields = header.fields
    count = int(fields["dimension"])
    sizes = [int(word) for word in fields["sizes"].split()]
    if len(sizes) != count:
        raise ValueError(f"{count} axes with the sizes {fields['sizes']}")
    refuse_raw_signals(path, header.values.get("ultrasound image type", "").upper())
    kinds = header.axes("kinds", count)
    channel = _channel_axis(header, sizes, kinds)
    rest = [n for n in range(count) if n != channel]
    x, y, frame = clip_axes(path, [sizes[n] for n in rest], [kinds[n].lower() for n in rest] if kinds else None)
    x, y, frame = rest[x], rest[y], None if frame is None else rest[frame]
    if channel is not None:
        refuse_channels(path, sizes[channel])
    encoding = fields["encoding"].lower()
    if encoding not in ENCODINGS:
        raise InputError(f"{path}: its pixels are written as {encoding}; save it with the encoding raw or gzip.")
    kind = next((code for code, names in TYPES.items() if fields["type"].lower() in names), None)
    if kind is None:
        raise ValueError(f"its type is {fields['type']}")
    dtype = np.dtype((">" if fields.get("endian", "little").lower() == "big" else "<") + kind)
    spacing = _spacing(header, count)
    data, offset = _data(path, header, ENCODINGS[encoding], math.prod(sizes) * dtype.itemsize)
    named = header.frames.found or (frame is not None and kinds is not None and kinds[frame].lower() in FRAME_KINDS)
    return Raster(
        data=data,
        offset=offset,
        encoding=ENCODINGS[encoding],
        dtype=dtype,
        sizes=tuple(sizes),
        x=x,
        y=y,
        frame=frame,
        channel=channel,
        spacing=(spacing[x], spacing[y]),
        orientation=header.values.get("ultrasound image orientation", ""),
        seconds=header.frames.seconds(1 if frame is None else sizes[frame]) or _index_times(header, frame, sizes),
        invalid=header.frames.invalid,
        messages=[] if named or frame is None else [taken_as_frames(path, sizes, frame)],
    )


def _channel_axis(header: NrrdHeader, sizes: list[int], kinds: list[str] | None) -> int | None:
    if kinds is not None and any(kind not in ("???", "none") for kind in kinds):
        color = (n for n, kind in enumerate(kinds) if kind.lower() in COLOR_KINDS or "vector" in kind.lower())
        return next(color, None)
    directions = header.axes("space directions", len(sizes))
    if directions is not None and directions[0].lower() == "none":
        return 0
    return 0 if len(sizes) > 2 and sizes[0] in (3, 4) else None


def _spacing(header: NrrdHeader, count: int) -> list[float]:
    """The spacing along each axis; 1 where the header states none."""
    directions = header.axes("space directions", count)
    if directions is not None:
        vectors = [re.findall(r"[^\s,()]+", text) if "(" in text else [] for text in directions]
        return [math.hypot(*(float(word) for word in vector)) if vector else 1.0 for vector in vectors]
    spacings = header.axes("spacings", count)
    return [float(word) for word in spacings] if spacings is not None else [1.0] * count


def _index_times(header: NrrdHeader, frame: int | None, sizes: list[int]) -> list[float] | None:
    """Times of Slicer's sequences ("axis 3 index values", in the unit of the axis), or by the spacing of the axis."""
    units = header.axes("units", len(sizes))
    if frame is None or units is None or units[frame].lower() not in UNITS_IN_SECONDS:
        return None
    unit = UNITS_IN_SECONDS[units[frame].lower()]
    # Slicer counts its axes without that of the colors.
    texts = [text for key, text in header.values.items() if re.fullmatch(r"axis \d+ index values", key)]
    if texts:
        # Blanks in index values are written as %20; numbers have none.
        return [_number(word) * unit for word in texts[0].split()]
    spacings = header.axes("spacings", len(sizes))
    step = _number(spacings[frame]) if spacings is not None else math.nan
    return [n * step * unit for n in range(sizes[frame])] if math.isfinite(step) else None


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan


def _data(path: Path, header: NrrdHeader, encoding: Encoding, needed: int) -> tuple[Path, int]:
    """The file with the pixels and where they begin in it; needed: their bytes when uncompressed."""
    fields: dict[str, Any] = header.fields
    name = fields.get("data file", fields.get("datafile", ""))
    data, offset = path, header.length
    if name:
        if name.upper().startswith("LIST") or "%" in name:
            raise InputError(f"{path}: its frames lie in several files; save the clip as one .nrrd file.")
        data, offset = path.parent / name.replace("\\", "/"), 0
        if not data.is_file():
            raise InputError(f"{path}: its data file '{data.name}' is missing; copy it beside the header.")
    lines = int(fields.get("line skip", fields.get("lineskip", 0)))
    skip = int(fields.get("byte skip", fields.get("byteskip", 0)))
    if skip == -1 and encoding == "raw":
        if data.stat().st_size - needed < offset:
            raise damaged(path, CUT_OFF)
        return data, data.stat().st_size - needed
    if skip < 0:
        raise ValueError(f"byte skip is {skip}")
    if skip and encoding != "raw":
        raise InputError(f"{path}: it skips bytes of compressed data; save the clip as one .nrrd file.")
    with open(data, "rb") as file:
        file.seek(offset)
        for _ in range(lines):
            file.readline()
        return data, file.tell() + skip
