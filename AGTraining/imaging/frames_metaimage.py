"""MetaImage clips (.mha, .mhd), plain and as the Plus toolkit writes them (.igs.mha)."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from AGTraining.errors import InputError
from AGTraining.imaging.frames_raster import Encoding, Raster
from AGTraining.imaging.integrity import CUT_OFF, damaged

LONGEST_LINE = 1 << 20
TYPES = {
    "CHAR": "i1", "UCHAR": "u1", "SHORT": "i2", "USHORT": "u2", "INT": "i4", "UINT": "u4", "LONG": "i4", "ULONG": "u4",
    "LONG_LONG": "i8", "ULONG_LONG": "u8", "FLOAT": "f4", "DOUBLE": "f8",
}  # fmt: skip
FRAME_FIELD = re.compile(r"Seq_Frame(\d+)_(Timestamp|ImageStatus|Status)$", re.IGNORECASE)
SAVE_AGAIN = "save the clip as one uncompressed or compressed .mha file"


class FrameFields:
    """What the Plus toolkit writes for each frame: its time in seconds and whether its image is valid."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._invalid: set[int] = set()
        self.found = False

    def take(self, key: str, value: str) -> bool:
        """Whether the key belongs to a frame; if so, its value is kept where it is of use."""
        if not key.lower().startswith("seq_frame"):
            return False
        self.found = True
        if match := FRAME_FIELD.match(key):
            index = int(match[1])
            if match[2].lower() != "timestamp":
                if value.upper() != "OK":
                    self._invalid.add(index)
            else:
                try:
                    self._seconds[index] = float(value)
                except ValueError:
                    self._seconds[index] = np.nan
        return True

    def seconds(self, count: int) -> list[float] | None:
        """A time for each frame, NaN where the header has none; None where it has no times."""
        return [self._seconds.get(n, np.nan) for n in range(count)] if self._seconds else None

    @property
    def invalid(self) -> frozenset[int]:
        """Frames whose status is not OK."""
        return frozenset(self._invalid)


def read_metaimage(path: Path) -> Raster:
    """
    The header of a MetaImage clip.

    The last axis is that of the frames, unless "Kinds" says otherwise. Raises InputError for what is no clip of 2-D
    pictures, and for a header that is cut off or contradicts itself.
    """
    fields, frames, length = _read_header(path)
    try:
        return _raster(path, fields, frames, length)
    except InputError:
        raise
    except (KeyError, ValueError) as error:
        what = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path}: its header cannot be understood ({what}); export the clip again.") from error


def _read_header(path: Path) -> tuple[dict[str, str], FrameFields, int]:
    fields: dict[str, str] = {}
    frames = FrameFields()
    with open(path, "rb") as file:
        while raw := file.readline(LONGEST_LINE):
            key, separator, value = raw.decode("utf-8", "replace").partition("=")
            key, value = key.strip(), value.strip()
            if not separator or b"\0" in raw:
                if raw.strip():
                    break
                continue
            if not frames.take(key, value):
                fields[key.lower()] = value
            if key.lower() == "elementdatafile":
                return fields, frames, file.tell()
    if not fields:
        raise InputError(f"{path}: the file is no MetaImage file, or damaged; export the clip again.")
    raise damaged(path, CUT_OFF)


def _raster(path: Path, fields: dict[str, str], frames: FrameFields, length: int) -> Raster:
    def true(*keys: str) -> bool:
        return any(fields.get(key, "").lower() in ("true", "1") for key in keys)

    sizes = [int(word) for word in fields["dimsize"].split()]
    kinds = fields.get("kinds", "").lower().split()
    image_type = fields.get("ultrasoundimagetype", "").upper()
    refuse_raw_signals(path, image_type)
    x, y, frame = clip_axes(path, sizes, kinds if len(kinds) == len(sizes) else None)
    channels = int(fields.get("elementnumberofchannels", 1))
    refuse_channels(path, channels)
    if fields.get("binarydata", "true").lower() == "false":
        raise InputError(f"{path}: its pixels are written as text; {SAVE_AGAIN}.")
    kind = fields["elementtype"].upper().removeprefix("MET_").removesuffix("_ARRAY")
    if kind not in TYPES:
        raise ValueError(f"its type is {fields['elementtype']}")
    order = ">" if true("binarydatabyteordermsb", "elementbyteordermsb") else "<"
    spacing = [float(word) for word in fields.get("elementspacing", fields.get("elementsize", "")).split()]
    messages = (
        [] if frame is None or frames.found or set(kinds) & {"list", "time"} else [taken_as_frames(path, sizes, frame)]
    )
    dtype = np.dtype(order + TYPES[kind])
    encoding: Encoding = "zlib" if true("compresseddata") else "raw"
    data, offset = _data(path, fields, length, math.prod(sizes) * channels * dtype.itemsize)
    return Raster(
        data=data,
        offset=offset,
        encoding=encoding,
        dtype=dtype,
        # The channels of a pixel lie beside each other: an axis before all others.
        sizes=(channels, *sizes),
        x=x + 1,
        y=y + 1,
        frame=None if frame is None else frame + 1,
        channel=0,
        spacing=(spacing[x], spacing[y]) if len(spacing) > max(x, y) else (1.0, 1.0),
        orientation=fields.get("ultrasoundimageorientation", ""),
        seconds=frames.seconds(1 if frame is None else sizes[frame]),
        invalid=frames.invalid,
        messages=messages,
    )


def _data(path: Path, fields: dict[str, str], length: int, needed: int) -> tuple[Path, int]:
    """The file with the pixels and where they begin in it; needed: their bytes when uncompressed."""
    name = fields["elementdatafile"]
    if name.upper() == "LOCAL":
        return path, length
    if name.upper().startswith("LIST") or "%" in name:
        raise InputError(f"{path}: its frames lie in several files; {SAVE_AGAIN}.")
    # Headers may come from Windows.
    data = path.parent / name.replace("\\", "/")
    if not data.is_file():
        raise InputError(f"{path}: its data file '{data.name}' is missing; copy it beside the header.")
    skip = int(fields.get("headersize", 0))
    if skip == -1 and data.stat().st_size < needed:
        raise damaged(path, CUT_OFF)
    return data, data.stat().st_size - needed if skip == -1 else max(skip, 0)


def clip_axes(path: Path, sizes: list[int], kinds: list[str] | None) -> tuple[int, int, int | None]:
    """
    The axes of columns, rows and frames (None: a single picture) among axes without channels, the fastest first.

    kinds: "domain" for axes in space, "list" or "time" for frames; None if the header does not tell. A third axis in
    space stands for the frames where no other does. Raises InputError for volumes with several frames.
    """
    frame: int | None = None
    space = list(range(len(sizes)))
    if kinds is not None:
        frame = next((n for n, kind in enumerate(kinds) if kind in ("list", "time")), None)
        space.remove(frame) if frame is not None else None
    if len(space) < 2:
        raise InputError(f"{path}: it has {len(sizes)} axes; pictures with rows and columns are needed.")
    x, y, *others = space
    others = [n for n in others if sizes[n] != 1]
    if frame is None and len(others) == 1:
        frame, others = others[0], []
    if others:
        text = " × ".join(str(n) for n in sizes)
        raise InputError(
            f"{path}: a sequence of volumes ({text}), not of pictures; save one slice position of it as a sequence."
        )
    return x, y, frame


def refuse_raw_signals(path: Path, image_type: str) -> None:
    """Raises InputError for the Plus toolkit's radio-frequency data."""
    if image_type.startswith("RF_"):
        raise InputError(
            f"{path}: it holds radio-frequency lines ({image_type}), no pictures; "
            "convert it with the Plus toolkit first."
        )


def refuse_channels(path: Path, channels: int) -> None:
    """Raises InputError for what is neither gray nor color."""
    if channels not in (1, 3, 4):
        raise InputError(f"{path}: it has {channels} values a pixel; gray or RGB pictures are needed.")


def taken_as_frames(path: Path, sizes: list[int], frame: int) -> str:
    """The sentence for a volume that does not call itself a sequence."""
    return f"{path}: its header does not say that it is a sequence; its {sizes[frame]} slices were taken as frames."
